"""A whole run that ends at any step of writing: killed, disk full, quota used up, folder made read-only, session gone.

Nothing that was acknowledged is lost, what is there is whole, and the resumed run is the run that was not disturbed.
"""

import errno
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import xarray as xr
from runs_helpers import STEPS
from session_examples import Killed, disk_full, failing_at, leftovers

from engine.analyses import registry
from engine.errors import UserError
from engine.events import Event, Failed, Finished, Progress
from engine.request import ModelSpec, Request
from engine.runs.loop import End, execute, start
from engine.runs.model_cache import ModelCache
from engine.sessions.store import Run, Session
from engine.sessions.verify import verify

SAMPLED = 4
TIMING = ("run", "created", "units", "seconds", "peak_bytes", "provenance")


@pytest.fixture(autouse=True)
def steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.ANALYSES, "steps", STEPS)


@pytest.fixture(scope="module")
def request_(tmp_path_factory: pytest.TempPathFactory) -> Request:
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("models") / "two-layers"
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=16, n_head=2, vocab_size=32, n_positions=16)).save_pretrained(folder)
    return Request(analysis="steps", models=(ModelSpec(source=str(folder)),), device="cpu")


@pytest.fixture(scope="module")
def cache() -> Iterator[ModelCache]:
    models = ModelCache()
    yield models
    models.close()


def whole_run(path: Path, request: Request, cache: ModelCache, events: list[Event]) -> End:
    with Session.create(path) as session:
        return execute(session, start(session, request), events.append, lambda: False, cache)


def arrays(run: Run) -> dict[str, bytes]:
    """Every byte of the units and the result, without what tells when and how fast it was made."""
    files = (file for file in run.path.rglob("*") if file.is_file())
    kept = (file for file in files if file.name not in ("manifest.json", "run.json") and file.parent.suffix != ".zarr")
    return {str(file.relative_to(run.path)): file.read_bytes() for file in kept}


def undisturbed(run: Run) -> tuple[dict[str, bytes], xr.Dataset]:
    result = run.result()
    assert result is not None
    attrs = {name: value for name, value in result.attrs.items() if name not in TIMING}
    return arrays(run), result.drop_attrs(deep=False).assign_attrs(attrs)


@pytest.fixture(scope="module")
def reference(
    request_: Request, cache: ModelCache, tmp_path_factory: pytest.TempPathFactory
) -> tuple[int, dict[str, bytes], xr.Dataset]:
    """How many steps of writing the run has, its arrays and its result."""
    path, seen = tmp_path_factory.mktemp("reference") / "a.eigenscope", []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.ANALYSES, "steps", STEPS)
        failing_at(patch, -1, disk_full, seen)
        assert isinstance(whole_run(path, request_, cache, []), Finished)
    with Session.open(path) as session:
        return len(seen), *undisturbed(session.runs()[0])


FAILURES: dict[str, tuple[Callable[[], BaseException], str]] = {
    "killed": (Killed, ""),
    "disk full": (disk_full, "The disk is full"),
    "quota": (lambda: OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), "The disk is full"),
    # Of the folder where a file was to be written, or of the session where its lock was.
    "read-only": (lambda: OSError(errno.EROFS, os.strerror(errno.EROFS)), "read-only"),
    "worn out": (lambda: OSError(errno.EIO, os.strerror(errno.EIO)), "could not be written"),
}


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=[pytest.mark.long, pytest.mark.timeout(1800)])])
@pytest.mark.parametrize("how", FAILURES)
def test_a_run_that_ends_at_any_step_of_writing(
    how: str,
    every: bool,
    request_: Request,
    cache: ModelCache,
    reference: tuple[int, dict[str, bytes], xr.Dataset],
    tmp_path: Path,
) -> None:
    count, bytes_, result = reference
    assert count > 100
    seed = sorted(FAILURES).index(how)
    for step in range(count) if every else sorted(random.Random(seed).sample(range(count), SAMPLED)):
        where = f"step {step} of {count}, seed {seed}"
        _end_at(tmp_path / str(step) / "a.eigenscope", step, how, request_, cache, where)
        _resume(tmp_path / str(step) / "a.eigenscope", request_, cache, bytes_, result, where)
        shutil.rmtree(tmp_path / str(step))


def _end_at(path: Path, step: int, how: str, request: Request, cache: ModelCache, where: str) -> None:
    failure, says = FAILURES[how]
    path.parent.mkdir()
    events: list[Event] = []
    message = ""
    with pytest.MonkeyPatch.context() as patch:
        failing_at(patch, step, failure)
        try:
            end = whole_run(path, request, cache, events)
            message = end.message if isinstance(end, Failed) else ""
            assert message, f"{where}: it is not noticed"
        except UserError as error:  # before there was a run
            message = error.message
        except Killed:
            assert how == "killed"
    assert says in message, where
    assert "\n" not in message
    if how != "killed":
        assert not leftovers(path.parent), where
    acknowledged = max((event.done for event in events if isinstance(event, Progress)), default=0)
    if acknowledged:
        with Session.open(path, readonly=True) as session:
            (run,) = session.runs()
            assert len(run.committed()) >= acknowledged, where


def _resume(
    path: Path, request: Request, cache: ModelCache, bytes_: dict[str, bytes], result: xr.Dataset, where: str
) -> None:
    if not path.exists():
        Session.create(path).close()
    with Session.open(path) as session:
        assert not leftovers(path), where
        assert verify(path).problems == (), where
        run = (session.runs() or [start(session, request)])[0]
        events: list[Event] = []
        assert isinstance(execute(session, run, events.append, lambda: False, cache), Finished), (where, events[-1])
        arrays_, again = undisturbed(run)
        assert arrays_ == bytes_, where
        xr.testing.assert_identical(again, result)


LOSSES: dict[str, Callable[[Path], object]] = {
    "deleted": shutil.rmtree,
    "moved": lambda path: path.rename(path.with_name("elsewhere")),
    "emptied": lambda path: (shutil.rmtree(path / "runs"), (path / "session.json").unlink()),
}


@pytest.mark.parametrize("how", LOSSES)
@pytest.mark.parametrize("then", ["goes on", "cancel", "interrupt"])
@pytest.mark.parametrize("after", [1, 2])
def test_a_session_that_goes_in_the_middle_leaves_all_units_in_another(
    how: str,
    then: str,
    after: int,
    request_: Request,
    cache: ModelCache,
    reference: tuple[int, dict[str, bytes], xr.Dataset],
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.eigenscope"
    gone = False

    def watch(event: Event) -> None:
        nonlocal gone
        if isinstance(event, Progress) and event.done == after and not gone:
            gone = True
            LOSSES[how](path)
            if then == "interrupt":
                raise KeyboardInterrupt

    with Session.create(path) as session:
        end = execute(session, start(session, request_), watch, lambda: gone and then == "cancel", cache)
        assert isinstance(end, Failed)
    kept = tmp_path / "a-recovered-1.eigenscope"
    assert str(kept) in end.message
    assert not list(tmp_path.glob("*-recovered-2*"))
    with Session.open(kept) as session:
        (run,) = session.runs()
        assert len(run.committed()) >= after
    _resume(kept, request_, cache, *reference[1:], f"{how}, {then}")
