"""A run that is resumed reads the weights and the text that it began with, or says that it cannot."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import runs_helpers
import torch
from runs_helpers import make_model
from safetensors.torch import load_file, save_file

from engine import events
from engine.analyses import registry
from engine.data.drawing import DRAWING
from engine.errors import UserError
from engine.models.opening import describe, open_model
from engine.request import DataSpec, ModelSpec, Request
from engine.runs.completion import _require_same_text
from engine.runs.loop import execute, start
from engine.runs.model_cache import ModelCache
from engine.sessions.store import Run, Session


@pytest.fixture(autouse=True)
def _steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.ANALYSES, "steps", runs_helpers.STEPS)


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session.create(tmp_path / "s.eigenscope")


def request_for(folder: Path, **more: object) -> Request:
    return Request(analysis="steps", models=(ModelSpec(source=str(folder)),), device="cpu", **more)


def carry_out(session: Session, run: Run, stop_after: int | None = None, cache: ModelCache | None = None) -> object:
    def cancelled() -> bool:
        return stop_after is not None and len(run.committed()) >= stop_after

    return execute(session, run, lambda event: None, cancelled, cache)


def edit(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    """Other weights of the same names and shapes."""

    def apply(folder: Path) -> None:
        file = folder / "model.safetensors"
        tensors = load_file(file)
        change(tensors)
        save_file(tensors, file, metadata={"format": "pt"})

    return apply


def one_tensor(tensors: dict[str, torch.Tensor]) -> None:
    tensors["transformer.h.3.mlp.c_fc.weight"] += 1e-3


def all_tensors(tensors: dict[str, torch.Tensor]) -> None:
    for tensor in tensors.values():
        tensor.mul_(1.5)


CHANGES = {"one tensor": edit(one_tensor), "all": edit(all_tensors), "another": lambda folder: make_model(folder, 1)}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_other_weights_of_the_same_shapes_do_not_continue_a_run(session: Session, tmp_path: Path, change) -> None:
    folder = make_model(tmp_path / "m")
    run = start(session, request_for(folder))
    assert isinstance(carry_out(session, run, stop_after=2), events.Stopped)
    change(folder)
    end = carry_out(session, run)
    assert isinstance(end, events.Failed)
    assert "is not the model that this run began with" in end.message
    assert "start a new run" in end.message
    assert len(run.committed()) == 2
    assert run.result() is None


def one_number(tensors: dict[str, torch.Tensor]) -> None:
    """Between the parts of the tensor that a stamp covers."""
    tensors["transformer.h.0.attn.c_attn.weight"].view(-1)[200] += 1


def test_a_number_changed_in_a_layer_that_was_computed_is_noticed(session: Session, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m")
    run = start(session, request_for(folder))
    carry_out(session, run, stop_after=2)
    before = open_model(ModelSpec(source=str(folder))).stamp()
    edit(one_number)(folder)
    assert open_model(ModelSpec(source=str(folder))).stamp() == before
    end = carry_out(session, run)
    assert isinstance(end, events.Failed)
    assert "is not the model that this run began with" in end.message


def test_a_model_whose_files_were_written_again_is_opened_again(tmp_path: Path) -> None:
    cache, spec = ModelCache(), ModelSpec(source=str(make_model(tmp_path / "m")))
    first = cache.get(spec, 0, "cpu", describe(spec))
    assert cache.get(spec, 0, "cpu", first.info) is first
    edit(one_number)(tmp_path / "m")
    assert cache.get(spec, 0, "cpu", first.info) is not first


def test_it_is_noticed_while_the_run_goes_on_too(session: Session, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m")
    run = start(session, request_for(folder))

    def cancelled() -> bool:
        if len(run.committed()) == 2:
            edit(one_number)(folder)
        return False

    end = execute(session, run, lambda event: None, cancelled)
    assert isinstance(end, events.Failed)
    assert "is not the model that this run began with" in end.message
    assert len(run.committed()) == 2


def test_the_same_weights_written_again_continue_it(session: Session, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m")
    run = start(session, request_for(folder))
    carry_out(session, run, stop_after=2)
    edit(lambda tensors: None)(folder)
    assert isinstance(carry_out(session, run), events.Finished)


def test_weights_that_change_under_a_unit_leave_no_unit(session: Session, tmp_path: Path, monkeypatch) -> None:
    folder = make_model(tmp_path / "m")
    run = start(session, request_for(folder))
    real = runs_helpers.Steps.__call__

    def overwrite(self, unit, *rest):
        dataset = real(self, unit, *rest)
        if unit.layer == 1:
            CHANGES["all"](folder)
        return dataset

    monkeypatch.setattr(runs_helpers.Steps, "__call__", overwrite)
    assert isinstance(carry_out(session, run), events.Failed)
    assert run.committed() == {"m0-l0"}


def test_a_cached_model_is_opened_again_when_its_weights_change(session: Session, tmp_path: Path) -> None:
    folder, cache = make_model(tmp_path / "m"), ModelCache()
    results = []
    for _ in range(2):
        run = start(session, request_for(folder))
        assert isinstance(carry_out(session, run, cache=cache), events.Finished)
        results.append(run.result())
        CHANGES["all"](folder)
    assert np.allclose(results[1].singular, 1.5 * results[0].singular)


def test_a_run_of_an_older_version_has_no_stamp_and_goes_on(session: Session, tmp_path: Path, monkeypatch) -> None:
    folder = make_model(tmp_path / "m")
    run = start(session, request_for(folder))
    carry_out(session, run, stop_after=2)
    real = Run.unit_meta
    monkeypatch.setattr(
        Run, "unit_meta", lambda self, key: {k: v for k, v in real(self, key).items() if k != "weights_stamp"}
    )
    assert isinstance(carry_out(session, run), events.Finished)


def test_a_twin_has_no_weights_on_disk() -> None:
    model = open_model(ModelSpec(twin=True), seed=0)
    assert model.stamp() == ""


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "ids.npy"])
def test_another_text_does_not_continue_a_run(session: Session, tmp_path: Path, name: str) -> None:
    def write(word: str) -> None:
        if name.endswith(".npy"):
            np.save(tmp_path / name, np.full((4, 8), len(word)))
        else:
            (tmp_path / name).write_text(f'{{"text": "{word}"}}\n' if name.endswith("l") else word)

    write("first")
    run = start(session, request_for(make_model(tmp_path / "m"), data=DataSpec(source=str(tmp_path / name))))
    carry_out(session, run, stop_after=1)
    write("second")
    end = carry_out(session, run)
    assert isinstance(end, events.Failed)
    assert "is not the text that this run began with" in end.message
    write("first")
    assert isinstance(carry_out(session, run), events.Finished)


@pytest.mark.parametrize(
    ("content", "params", "draws_others"),
    [
        ("A text.", {}, False),
        ("word " * 10**6, {}, True),
        ("A text. Another.", {"samples": "sentences"}, False),
        ("This has number 7.\nAnother.", {"samples": "sentences"}, True),
        ("This has number 7.\nAnother.", {"samples": "windows"}, False),
        ("一。二。", {"samples": "sentences"}, True),
    ],
)
def test_a_run_of_other_rules_is_not_finished_by_these(tmp_path: Path, content, params, draws_others) -> None:
    (tmp_path / "a.txt").write_text(content)
    data = DataSpec(source=str(tmp_path / "a.txt"))
    for written in ({}, {"text_drawing": DRAWING}):
        stored = SimpleNamespace(request=SimpleNamespace(data=data, params=params), provenance=written)
        with pytest.raises(UserError, match="this one draws others") if draws_others and not written else nullcontext():
            _require_same_text(stored)
