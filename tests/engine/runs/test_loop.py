"""The run loop, with a small real analysis on a small real model."""

import errno
import os
import re
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import runs_helpers
import torch
import xarray as xr
from runs_helpers import LAYERS, make_model
from transformers import GPT2LMHeadModel

from engine import events
from engine.analyses import registry
from engine.errors import UserError
from engine.request import ModelSpec, Request
from engine.runs import model_cache
from engine.runs.device import resolve_device
from engine.runs.loop import carry_out, execute, start
from engine.runs.model_cache import ModelCache
from engine.sessions import rooted
from engine.sessions.store import Run, Session


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def session(tmp_path: Path):
    with Session.create(tmp_path / "s.eigenscope") as session:
        yield session


@pytest.fixture(autouse=True)
def steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.ANALYSES, "steps", runs_helpers.STEPS)


def request_for(*models: Path, **options) -> Request:
    return Request(analysis="steps", models=tuple(ModelSpec(source=str(path)) for path in models), **options)


def run_through(session: Session, run: Run, after: int | None = None) -> list[events.Event]:
    """Execute, cancelling once `after` units are committed; return the events."""
    seen: list[events.Event] = []
    execute(session, run, seen.append, lambda: after is not None and len(run.committed()) >= after)
    return seen


def test_a_run_goes_from_request_to_result(session: Session, model: Path) -> None:
    run = start(session, request_for(model))
    seen = run_through(session, run)

    assert isinstance(seen[0], events.Started)
    assert (seen[0].done, seen[0].total) == (0, LAYERS)
    assert isinstance(seen[-1], events.Finished)
    done = [event.done for event in seen if isinstance(event, events.Progress)]
    assert done == sorted(done)
    assert done[-1] == LAYERS
    snapshots = [event for event in seen if isinstance(event, events.Snapshot)]
    assert snapshots[-1].final
    assert int(snapshots[0].dataset.singular.notnull().any(("head", "mode")).sum()) < LAYERS, "drawn as units land"

    # Against the weights themselves, read by the library rather than by the engine.
    gpt2 = GPT2LMHeadModel.from_pretrained(model)
    expected = torch.linalg.svdvals(gpt2.transformer.h[2].attn.c_attn.weight[:, 8:16].detach().double())
    result = run.result()
    assert result is not None
    assert result.singular.isel(model=0, layer=2, head=1).values == pytest.approx(expected.numpy(), rel=1e-6)
    opened = xr.open_zarr(run.path / "result.zarr")
    xr.testing.assert_identical(opened.load(), result)


def test_units_carry_what_made_them(session: Session, model: Path) -> None:
    run = start(session, request_for(model))
    run_through(session, run)
    meta = run.unit_meta("m0-l1")
    with_model = model_cache.open_model(run.request.models[0])
    assert meta["weights_hash"] == with_model.layer_hash(1)
    assert meta["device"] == "cpu"
    assert meta["seconds"] > 0
    assert meta["peak_bytes"] > 50e6, "a process with torch in it holds more than that"
    assert run.provenance["versions"]["torch"] == torch.__version__
    assert run.request.params == {"draws": 4, "seconds": 0.0}, "the defaults of the day are part of the request"


@pytest.mark.parametrize("stop_after", [1, 3])
def test_a_resumed_run_is_the_same_run(session: Session, model: Path, stop_after: int) -> None:
    whole, parts = (start(session, request_for(model, seed=7)) for _ in range(2))
    run_through(session, whole)
    stopped = run_through(session, parts, after=stop_after)[-1]
    assert stopped == events.Stopped(parts.id, stop_after, LAYERS)
    assert parts.result() is None
    resumed = run_through(session, session.run(parts.id))
    assert resumed[0] == events.Started(parts.id, "steps", f"Steps · {model.name}", stop_after, LAYERS)
    assert isinstance(resumed[-1], events.Finished)
    one, other = whole.result(), parts.result()
    assert one is not None
    assert other is not None
    assert one.drop_attrs().identical(other.drop_attrs())


def test_the_seed_alone_decides_what_is_random(session: Session, model: Path) -> None:
    runs = [start(session, request_for(model, seed=seed)) for seed in (1, 1, 2)]
    for run in runs:
        run_through(session, run)
    noise = [run.result().noise for run in runs]  # type: ignore[union-attr]
    assert noise[0].identical(noise[1])
    assert not noise[0].equals(noise[2])


def test_several_models_are_opened_one_at_a_time(
    session: Session, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_model(tmp_path / "other", seed=1)
    opened = []
    real = model_cache.open_model
    monkeypatch.setattr(model_cache, "open_model", lambda spec, **k: opened.append(spec.source) or real(spec, **k))
    run = start(session, request_for(model, other))
    run_through(session, run)
    assert opened == [str(model), str(other)]
    result = run.result()
    assert result is not None
    assert list(result.model.values) == [model.name, "other"]
    assert not result.singular.isel(model=0).equals(result.singular.isel(model=1))


def test_the_open_model_serves_the_next_run(session: Session, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = []
    real = model_cache.open_model
    monkeypatch.setattr(model_cache, "open_model", lambda spec, **k: count.append(1) or real(spec, **k))
    opened = ModelCache()
    for _ in range(2):
        execute(session, start(session, request_for(model)), lambda event: None, lambda: False, opened)
    assert len(count) == 1


def test_a_changed_model_does_not_continue_an_old_run(session: Session, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m")
    run = start(session, request_for(folder))
    run_through(session, run, after=1)
    make_model(folder, width=32)
    failed = run_through(session, run)[-1]
    assert isinstance(failed, events.Failed)
    assert "is not the model that this run began with" in failed.message
    assert run.committed() == {"m0-l0"}


def test_a_damaged_unit_is_set_aside_and_computed_again(session: Session, model: Path) -> None:
    run, other = (start(session, request_for(model)) for _ in range(2))
    run_through(session, other)
    run_through(session, run, after=3)
    chunk = next(path for path in (run.path / "units" / "m0-l1").rglob("c/*") if path.is_file())
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    seen = run_through(session, run)
    assert isinstance(seen[-1], events.Finished)
    assert any(isinstance(event, events.Notice) and "m0-l1" in event.text for event in seen)
    assert (run.path / "units" / "m0-l1.damaged").is_dir()
    assert run.result().drop_attrs().identical(other.result().drop_attrs())  # type: ignore[union-attr]


def test_a_damaged_result_is_made_again_from_the_units(session: Session, model: Path) -> None:
    run = start(session, request_for(model))
    run_through(session, run)
    before = run.result()
    (run.path / "result.zarr" / "zarr.json").write_text("{}")
    seen = run_through(session, run)
    assert isinstance(seen[-1], events.Finished)
    assert before is not None
    assert before.drop_attrs().identical(run.result().drop_attrs())  # type: ignore[union-attr]


def test_a_full_disk_fails_the_run_and_keeps_what_is_committed(
    session: Session, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start(session, request_for(model))
    real = os.fsync

    def full(handle: int) -> None:
        if len(run.committed()) >= 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(rooted.os, "fsync", full)
        failed = run_through(session, run)[-1]
    assert isinstance(failed, events.Failed)
    assert "disk is full" in failed.message
    assert run.committed() == {"m0-l0", "m0-l1"}
    assert isinstance(run_through(session, run)[-1], events.Finished)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError(), "Layer 2 of .* ran out of memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), "Layer 2 of .* ran out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "Layer 2 of .* ran out of memory"),
        (ZeroDivisionError("division by zero"), r"Layer 2 of .* \(ZeroDivisionError: division by zero\)"),
        (type("PanicException", (BaseException,), {})("no entry"), r"Layer 2 of .* \(PanicException: no entry\)"),
        (UserError("Tensor x is not finite."), r"^Tensor x is not finite\.$"),
    ],
)
def test_a_failing_unit_leaves_the_others(
    session: Session, model: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, says: str
) -> None:
    real = runs_helpers.Steps.__call__

    def compute(self, unit, *rest):
        if unit.layer == 2:
            raise error
        return real(self, unit, *rest)

    run = start(session, request_for(model))
    with monkeypatch.context() as patch:
        patch.setattr(runs_helpers.Steps, "__call__", compute)
        failed = run_through(session, run)[-1]
    assert isinstance(failed, events.Failed)
    assert re.search(says, failed.message)
    assert "Traceback" not in failed.message
    assert ("Traceback" in failed.detail) != isinstance(error, UserError)
    assert run.committed() == {"m0-l0", "m0-l1"}
    assert isinstance(run_through(session, run)[-1], events.Finished)


def test_cancel_is_seen_between_units(session: Session, model: Path) -> None:
    cancel = threading.Event()
    run = start(session, request_for(model, params={"seconds": 0.2}))
    seen: list[tuple[float, events.Event]] = []

    def watch(event: events.Event) -> None:
        seen.append((time.monotonic(), event))
        if isinstance(event, events.Progress) and event.done == 1:  # the second unit is about to begin
            threading.Timer(0.1, cancel.set).start()

    execute(session, run, watch, cancel.is_set)
    begun = next(at for at, event in seen if isinstance(event, events.Progress) and event.done == 1)
    at, last = seen[-1]
    assert last == events.Stopped(run.id, 2, LAYERS)
    assert at - begun < 2.0


def test_the_remaining_time_comes_from_the_units_so_far(session: Session, model: Path) -> None:
    run = start(session, request_for(model, params={"seconds": 0.1}))
    at: dict[str, tuple[float, events.Progress]] = {}

    def watch(event: events.Event) -> None:
        if isinstance(event, events.Progress):
            at[event.doing.split(" · ")[-1]] = time.monotonic(), event

    execute(session, run, watch, lambda: False)
    (begun, first), (next_begun, second) = at["Layer 0"], at["Layer 1"]
    assert first.remaining is None
    assert second.remaining is not None
    assert 3 * 0.1 < second.remaining <= 3 * (next_begun - begun)
    assert at["Putting the result together"][1].remaining == 0


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"drawz": 3}, "no parameter “drawz”; did you mean “draws”"),
        ({"whatever": 3}, "choose among draws, seconds"),
        ({"draws": 0}, "“draws” of “steps” cannot be used: input should be greater than or equal to 1"),
        ({"draws": "many"}, "“draws” of “steps” cannot be used: .*'many' was given"),
    ],
)
def test_unusable_parameters_are_one_sentence(session: Session, model: Path, params: dict, says: str) -> None:
    with pytest.raises(UserError, match=says):
        start(session, request_for(model, params=params))
    assert session.runs() == []


def test_unknown_analysis_lists_those_there_are(session: Session, model: Path) -> None:
    request = request_for(model).model_copy(update={"analysis": "wights"})
    with pytest.raises(UserError, match="weights"):
        start(session, request)


def test_too_little_memory_is_refused_before_the_run_with_both_numbers(
    session: Session, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    greedy = replace(runs_helpers.STEPS, estimate_bytes=lambda *_: 10**15)
    monkeypatch.setitem(registry.ANALYSES, "steps", greedy)
    with pytest.raises(UserError, match=r"1000000\.0 GB.* free"):
        start(session, request_for(model))
    assert session.runs() == []


def test_one_name_for_two_models_is_refused(session: Session, model: Path) -> None:
    with pytest.raises(UserError, match="Two of the models are called"):
        start(session, request_for(model, model))


def test_no_gpu_is_said_and_not_replaced(session: Session, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == "cpu"
    with pytest.raises(UserError, match="no usable GPU"):
        start(session, request_for(model, device="cuda"))


def test_a_read_only_session_is_refused_at_once(session: Session, model: Path) -> None:
    run = start(session, request_for(model))
    with Session.open(session.path, readonly=True) as reader:
        failed = run_through(reader, reader.run(run.id))[-1]
    assert isinstance(failed, events.Failed)
    assert "read-only" in failed.message


def test_carry_out_turns_everything_into_an_event(tmp_path: Path, session: Session, model: Path) -> None:
    seen: list[events.Event] = []
    carry_out(tmp_path / "nothing", request_for(model), seen.append, lambda: False, ModelCache())
    carry_out(session.path, "no-such-run", seen.append, lambda: False, ModelCache())
    assert [type(event) for event in seen] == [events.Failed, events.Failed]
    assert "no-such-run" in seen[1].message  # type: ignore[union-attr]
