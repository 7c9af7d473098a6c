"""The study of five conditions and several seeds: one request, killed in the middle of everything, ends the same."""

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from opening_models import pristine

from engine import events, recipes
from engine.request import DataSpec, ModelSpec, Request, Tuning, conditions
from engine.runs.loop import execute, start
from engine.sessions.store import Run, Session
from engine.training import job

ROOT = Path(__file__).resolve().parents[3]
PATIENCE = 90.0


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> DataSpec:
    words = np.random.default_rng(0).choice(["the", "cat", "sat", "on", "a", "mat", "dog"], size=1500)
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("\n".join(" ".join(line) for line in words.reshape(-1, 6)))
    return DataSpec(source=str(path), samples=6, length=12)


def request_for(analysis: str, text: DataSpec) -> Request:
    tuning = Tuning(epochs=0.2, learning_rate=1e-2, batch=4, length=16)
    models = conditions([ModelSpec(source=str(pristine()))], tuning=tuning, twin=True, seeds=2)
    params = {"splits": ["test", "train"], "fit_start": 1, "fit_stop": 20}
    if analysis == "activations":
        params |= {"bootstrap": 0}
    return Request(analysis=analysis, params=params, models=models, data=text, device="cpu")


def result_of(run: Run) -> xr.Dataset:
    seen: list[events.Event] = []
    execute(run.session, run, seen.append, lambda: False)
    assert isinstance(seen[-1], events.Finished), seen[-1]
    result = run.result()
    assert result is not None
    return result


def killed_while_tuning(path: Path, run: str) -> None:
    """Carry out a run in a process of its own, which kills itself in the middle of the second model's fine-tuning."""
    code = f"""
        import os, signal, threading, torch
        from engine.runs import loop, tuning
        from engine.sessions.store import Session
        from engine.training import job
        torch.set_num_threads(1)
        job._SAVE_EVERY = tuning.TELL_SECONDS = 0.0

        def watch(event):
            if "seed 1" in getattr(event, "doing", "") and "step 4/" in event.doing:
                threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGKILL)).start()

        with Session.open({str(path)!r}) as session:
            loop.execute(session, session.run({run!r}), watch, lambda: False)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, timeout=PATIENCE)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.timeout(600)  # four runs and a process: on a busy machine the flushes to the disk add up
def test_killed_and_resumed_is_the_same_bit_for_bit(text: DataSpec, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    requests = [request_for(analysis, text) for analysis in ("activations", "gradients")]
    with Session.create(tmp_path / "whole.eigenscope") as session:
        whole = [result_of(start(session, request)) for request in requests]
        assert len(list(session.path.glob("models/*"))) == 2  # made once for both analyses
    with Session.create(tmp_path / "killed.eigenscope") as session:
        runs = [start(session, request) for request in requests]
    killed_while_tuning(session.path, runs[0].id)
    assert len(list(session.path.glob("models/*.part/state.pt"))) == 1
    with Session.open(session.path) as session:
        run = session.run(runs[0].id)
        seen: list[events.Event] = []
        execute(session, run, seen.append, lambda: len(run.committed()) >= 3)  # and once more while measuring
        assert isinstance(seen[-1], events.Stopped), seen[-1]
        resumed = [result_of(session.run(run.id)) for run in runs]
    for result, expected in zip(resumed, whole, strict=True):
        xr.testing.assert_identical(result.drop_attrs(), expected.drop_attrs())
        for name, variable in expected.data_vars.items():  # NaN payloads and signs of zero too
            if variable.dtype.kind in "fic":
                assert result[name].values.tobytes() == variable.values.tobytes(), name

    for result, name in zip(whole, ("eigenvalues", "singular_values"), strict=True):
        spectra = result[name]
        measured = spectra.notnull().any([dim for dim in spectra.dims if dim not in ("model", "split")])
        assert measured.values.tolist() == [[True, True]] * 4 + [[False, True]] * 2
        values = spectra.sel(split="train")
        for first, second in ((0, 1), (2, 3), (4, 5)):  # each seed is another draw, fine-tuning or initialisation
            assert not np.array_equal(values[first], values[second], equal_nan=True)
        assert result.condition.values.tolist() == [spec.condition for spec in requests[0].models]
        assert result.seed.values.tolist() == [0, 1] * 3


@pytest.mark.parametrize("name", ["conditions", "conditions-gradients"])
def test_the_recipe_is_the_five_conditions_over_three_seeds(name: str) -> None:
    from engine.analyses.parameters import validate
    from engine.analyses.registry import get_analysis

    request = recipes.recipe(name)
    params = validate(get_analysis(request.analysis), request.params)
    assert set(params.splits) == {"train", "test"}
    assert [spec.seed for spec in request.models] == [0, 1, 2] * 3
    names = ["builtin", "builtin (fine-tuned)", "builtin (random twin)"]
    assert sorted({spec.condition for spec in request.models}) == names
    assert job._SAVE_EVERY <= 60  # what a kill costs at most, in seconds
