"""What the tests of sessions share: a model's facts, a request, datasets, and a machine on which writing fails."""

import errno
import io
import itertools
import json
import os
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from engine.errors import UserError
from engine.models.info import ModelInfo
from engine.request import ModelSpec, Request
from engine.sessions import archive, rooted
from engine.sessions.lock import OWNER
from engine.sessions.store import Run, Session
from engine.sessions.verify import verify

REQUEST = Request(analysis="weights", params={"offset": 0}, models=(ModelSpec(revision="step16"),), seed=7)
INFO = ModelInfo(
    label="builtin@step16",
    source="builtin",
    revision="step16",
    twin=False,
    architecture="GPT2LMHeadModel",
    family="gpt2",
    causal=True,
    n_layers=2,
    d_model=128,
    n_heads=8,
    n_kv_heads=8,
    d_head=16,
    vocab_size=4096,
    context=256,
    n_parameters=1_000_000,
    storage_dtype="float32",
    norm="layernorm",
    rotary=False,
    qk_norm=False,
    identity="0123abcd",
    load_bytes=4_000_000,
)
META = {"seconds": 1.25, "peak_bytes": 10_000, "weights_hash": "aa", "device": "cpu"}
PLAN = ("m0-l0", "m0-l1", "m0-l2", "m0-l3")


def example(seed: int = 0) -> xr.Dataset:
    """Every kind of variable that a result may have: real with NaN, complex, text, bool, empty, one value, a date."""
    rng = np.random.default_rng(seed)
    real = rng.normal(size=(2, 3, 4))
    real[1, 2] = np.nan
    return xr.Dataset(
        {
            "qk_eigenvalues": (("model", "layer", "mode"), real, {"unit": "1"}),
            "qk_complex_eigenvalues": (("model", "layer", "mode"), real + 1j * rng.normal(size=real.shape)),
            "absent": (("layer", "mode"), np.full((3, 4), np.nan)),
            "none": ("layer", np.zeros(3, int)),
            "kept": ("layer", np.array([True, False, True])),
            "sentence": ("layer", np.array(["naïve", "", "a longer one ☃"])),
            "positions": ((), 3),
            "empty": (("layer", "nothing"), np.zeros((3, 0))),
            "small": ("mode", rng.normal(size=4).astype(np.float32)),
        },
        coords={
            "model": ["builtin@step16", "builtin@step16 (random twin)"],
            "layer": np.arange(3),
            "depth": ("layer", np.array([0.0, 0.5, 1.0])),
        },
        attrs={
            "analysis": "weights",
            "request": REQUEST.model_dump_json(),
            "models": models_attr([INFO]),
            "notes": ["one", "two"],
            "seed": 7,
        },
    )


def models_attr(infos: Sequence[ModelInfo]) -> str:
    """Facts about models as a dataset keeps them."""
    return json.dumps([one.model_dump(mode="json") for one in infos])


def small(seed: int) -> xr.Dataset:
    """One variable and no coordinates: few files, for tests that write often."""
    return xr.Dataset({"x": ("mode", np.random.default_rng(seed).normal(size=5))})


def started(path: Path, plan: tuple[str, ...] = PLAN) -> tuple[Session, Run]:
    session = Session.create(path)
    return session, session.new_run(REQUEST, [INFO], plan, {"versions": {"numpy": np.__version__}})


def finished(path: Path) -> xr.Dataset:
    """Make a closed session with one finished run and one that is not; return what its result must equal."""
    session, run = started(path)
    with session:
        for seed, key in enumerate(PLAN):
            run.commit_unit(key, example(seed) if seed == 0 else small(seed), META)
        run.commit_result(example(9))
        session.new_run(REQUEST, [INFO], ["a", "b"], {}).commit_unit("a", small(1), META)
        session.save_view("spectrum", {"log": True})
    return example(9)


def leftovers(path: Path) -> list[Path]:
    return sorted(path.rglob("*.part"))


def refusals(path: Path, *, readonly: bool = True) -> list[str]:
    """Ask everything of a session that somebody else may have made up, and return each sentence that it answers.

    Any other exception than a UserError goes through.
    """
    sentences: list[str] = []

    def ask(question: Callable[[], object]) -> None:
        try:
            question()
        except UserError as error:
            sentences.append(error.message)

    def look() -> None:
        with Session.open(path, readonly) as session:
            sentences.extend(session.notices)
            ask(session.views)
            for run in session.runs():
                assert run.finished in (True, False)
                ask(run.result)
                for key in sorted(run.committed()):
                    ask(partial(run.read_unit, key))
                    ask(partial(run.unit_meta, key))

    ask(look)
    ask(lambda: sentences.extend(verify(path).problems))
    assert not any("\n" in sentence for sentence in sentences)
    return sentences


class Killed(BaseException):
    """Stands for the process being gone."""


def failing_at(
    monkeypatch: pytest.MonkeyPatch, step: int, failure: Callable[[], BaseException], seen: list[int] | None = None
) -> Callable[[], bool]:
    """Make the given step of writing fail, counting every file opened, written, flushed or renamed and folder made.

    With Killed, every later step fails too, and nothing is cleaned up: a dead process does nothing. The returned
    function says whether it came to that step; `seen` gets the number of every step.
    """
    count = itertools.count()
    fired: list[bool] = []
    last_act = failure() if failure is Killed else None

    def tick() -> None:
        n = next(count)
        if seen is not None:
            seen.append(n)
        if n == step or (n > step and last_act):
            fired.append(True)
            raise failure()

    def ticking(function):
        def wrapped(*args, **kwargs):
            tick()
            return function(*args, **kwargs)

        return wrapped

    class File(io.FileIO):
        def write(self, data) -> int:
            if len(data) > 1:  # the bytes that fitted stay in the torn file
                super().write(bytes(data)[: len(data) // 2])
                tick()
                return (super().write(bytes(data)[len(data) // 2 :]) or 0) + len(data) // 2
            tick()
            return super().write(data) or 0

    def opening(path, *args, **kwargs):
        # The note of who holds the session may be lacking: a session opens without it.
        return (io.open if str(path).endswith(OWNER) else ticking(File))(path, *args, **kwargs)

    for module in (rooted, archive):
        monkeypatch.setattr(module, "open", opening, raising=False)
    for name in ("fsync", "rename", "replace"):
        monkeypatch.setattr(os, name, ticking(getattr(os, name)))
    monkeypatch.setattr(Path, "mkdir", ticking(Path.mkdir))
    monkeypatch.setattr(rooted.Place, "make", ticking(rooted.Place.make))
    if last_act:
        monkeypatch.setattr(shutil, "rmtree", lambda *args, **kwargs: None)
        monkeypatch.setattr(os, "unlink", lambda *args, **kwargs: None)
    return lambda: bool(fired)


def disk_full() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
