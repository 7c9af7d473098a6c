"""A run of several models of which one fails: it is named, the others are measured, and resuming tries it again."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import runs_helpers
import torch
from runs_helpers import LAYERS, make_model
from safetensors.torch import load_file, save_file

from engine import events
from engine.analyses import registry
from engine.errors import UserError
from engine.request import ModelSpec, Request
from engine.runs.loop import execute, start
from engine.sessions.store import Run, Session
from engine.sessions.verify import verify


@pytest.fixture(scope="session")
def training(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three checkpoints."""
    folder = tmp_path_factory.mktemp("training", numbered=False)
    for seed, step in enumerate((0, 10, 20)):
        make_model(folder / f"checkpoint-{step}", seed=seed)
    return folder


@pytest.fixture
def checkpoints(training: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(training, tmp_path / "training")


@pytest.fixture
def session(tmp_path: Path):
    with Session.create(tmp_path / "s.eigenscope") as session:
        yield session


@pytest.fixture(autouse=True)
def steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.ANALYSES, "steps", runs_helpers.STEPS)


def request_for(folder: Path, *revisions: str, **options) -> Request:
    models = tuple(ModelSpec(source=str(folder), revision=revision) for revision in revisions)
    return Request(analysis="steps", models=models, **options)


def every(folder: Path) -> Request:
    return request_for(folder, "checkpoint-0", "checkpoint-10", "checkpoint-20")


def run_through(session: Session, run: Run) -> list[events.Event]:
    seen: list[events.Event] = []
    execute(session, run, seen.append, lambda: False)
    return seen


def make_nan(checkpoint: Path, layer: int = 1) -> None:
    file = checkpoint / "model.safetensors"
    tensors = load_file(file)
    tensors[f"transformer.h.{layer}.attn.c_attn.weight"][0, 0] = torch.nan
    save_file(tensors, file, metadata={"format": "pt"})


def test_steps_are_a_coordinate_of_every_result(session: Session, training: Path) -> None:
    run = start(session, every(training))
    snapshots = [e.dataset for e in run_through(session, run) if isinstance(e, events.Snapshot)]
    for dataset in snapshots:
        assert dataset.step.values.tolist() == [0, 10, 20]
        assert dataset.step.dims == dataset.held_out_loss.dims == ("model",)
        assert np.isnan(dataset.held_out_loss).all()


def test_a_checkpoint_of_nan_is_named_passed_over_and_tried_again(session: Session, checkpoints: Path) -> None:
    whole = start(session, every(checkpoints))
    assert run_through(session, whole)[-1].missing == ()  # type: ignore[union-attr]
    run = start(session, every(checkpoints))
    sound = (checkpoints / "checkpoint-10" / "model.safetensors").read_bytes()
    make_nan(checkpoints / "checkpoint-10", layer=0)  # no unit of it is kept, or mended weights would be others

    seen = run_through(session, run)
    end = seen[-1]
    assert isinstance(end, events.Finished)
    assert len(end.missing) == 1
    assert "checkpoint-10 failed: " in end.missing[0]
    assert any(isinstance(event, events.Notice) and "checkpoint-10" in event.text for event in seen)
    assert run.committed() == set(run.plan) - {f"m1-l{layer}" for layer in range(LAYERS)}
    result = run.result()
    assert result is not None
    assert np.isnan(result.singular.isel(model=1)).all()
    assert result.singular.isel(model=[0, 2]).notnull().all()
    assert end.missing[0] in result.attrs["notes"]

    again = run_through(session, run)
    assert again[-1].missing == end.missing  # type: ignore[union-attr]
    assert result.identical(run.result()), "nothing new, so nothing is put together anew"

    (checkpoints / "checkpoint-10" / "model.safetensors").write_bytes(sound)
    assert run_through(session, session.run(run.id))[-1].missing == ()  # type: ignore[union-attr]
    mended, other = run.result(), whole.result()
    assert mended is not None
    assert other is not None
    assert mended.drop_attrs().identical(other.drop_attrs())
    assert (run.path / "result.zarr.outdated").is_dir(), "nothing is ever saved over"
    assert verify(session.path).problems == ()
    with session.save_as(session.path.with_name("copy.eigenscope")) as copy:
        assert not (copy.path / "runs" / run.id / "result.zarr.outdated").exists()


def test_a_checkpoint_that_is_not_there_is_left_out_of_the_plan(session: Session, training: Path) -> None:
    run = start(session, request_for(training, "checkpoint-0", "checkpoint-15", "checkpoint-20"))
    assert [info.step for info in run.models] == [0, 20]
    assert len(run.request.models) == 2
    seen = run_through(session, session.run(run.id))
    assert isinstance(seen[-1], events.Finished)
    assert "checkpoint-15 was left out: " in seen[-1].missing[0]
    assert "Did you mean" in seen[-1].missing[0]
    assert any(isinstance(event, events.Notice) and event.text == seen[-1].missing[0] for event in seen)


def test_a_run_without_any_model_is_refused(session: Session, training: Path) -> None:
    with pytest.raises(UserError, match=r"None of these models can be opened\. The first: .*checkpoint-1"):
        start(session, request_for(training, "checkpoint-1", "checkpoint-2"))
    missing = ModelSpec(source=str(training), revision="checkpoint-1")
    with pytest.raises(UserError, match="has no checkpoint checkpoint-1"):
        start(session, Request(analysis="steps", models=(missing,)))
    assert session.runs() == []


def test_a_twin_alone_is_not_what_was_asked_for(session: Session, checkpoints: Path) -> None:
    (checkpoints / "checkpoint-10" / "model.safetensors").unlink()
    spec = ModelSpec(source=str(checkpoints), revision="checkpoint-10")
    with pytest.raises(UserError, match="safetensors"):
        start(session, Request(analysis="steps", models=(spec, spec.model_copy(update={"twin": True}))))


def test_when_every_model_fails_the_run_fails(session: Session, training: Path, monkeypatch) -> None:
    def compute(*_):
        raise ZeroDivisionError("division by zero")

    run = start(session, every(training))
    monkeypatch.setattr(runs_helpers.Steps, "__call__", compute)
    failed = run_through(session, run)[-1]
    assert isinstance(failed, events.Failed)
    assert "Every model failed. training@checkpoint-0: " in failed.message
    assert "Traceback" in failed.detail
    assert run.result() is None


def test_running_out_of_memory_stops_the_run(session: Session, training: Path, monkeypatch) -> None:
    def compute(*_):
        raise MemoryError

    run = start(session, every(training))
    monkeypatch.setattr(runs_helpers.Steps, "__call__", compute)
    assert isinstance(run_through(session, run)[-1], events.Failed)


def test_the_null_that_models_share_outlives_the_first_of_them(session: Session, checkpoints: Path) -> None:
    run = start(session, every(checkpoints).model_copy(update={"analysis": "weights", "params": {"null_draws": 200}}))
    make_nan(checkpoints / "checkpoint-0", layer=0)
    end = run_through(session, run)[-1]
    assert isinstance(end, events.Finished)
    assert len(end.missing) == 1
    result = run.result()
    assert result is not None
    assert np.isfinite(result.p_npr.values[1:]).all()
    assert np.isnan(result.p_npr.values[0]).all()
