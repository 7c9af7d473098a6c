"""Fine-tuning in the compute process: it outlives the cancel of a run that waits for it, and its own end is told."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from opening_models import pristine

from engine.request import DataSpec, ModelSpec, Request, Tuning
from engine.runs.jobs.job import Reply, State
from engine.runs.jobs.process import ComputeProcess
from engine.runs.jobs.run import CANCEL_SECONDS, CarryOut
from engine.runs.jobs.tune import Tune, TuneProgress
from engine.sessions.store import Session

PATIENCE = 90.0


@pytest.fixture
def process() -> Iterator[ComputeProcess]:
    process = ComputeProcess()
    process.start()
    yield process
    process.close()


def until(process: ComputeProcess, wanted: Callable[[Reply], bool]) -> Reply:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        reply = process.poll(0.1)
        if reply is not None and wanted(reply):
            return reply
    raise AssertionError("it never came")


def test_a_fine_tuning_ends_only_when_it_is_told_to(process: ComputeProcess, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("the cat sat on the mat\n" * 200)
    spec = ModelSpec(source=str(pristine()), tuning=Tuning(epochs=1000, batch=2, length=16))
    data = DataSpec(source=str(tmp_path / "text.txt"))
    tune = Tune(spec, data, "cpu", 0, tmp_path / "tuned")
    process.ask(tune)
    until(process, lambda reply: isinstance(reply.told, TuneProgress) and reply.told.step > 3)
    with Session.create(tmp_path / "s.eigenscope") as session:
        models = (ModelSpec(source=str(pristine())),)
        request = Request(analysis="weights", params={"null_draws": 200}, models=models, device="cpu")
        run = CarryOut(session.path, request)
        process.ask(run)
        process.cancel(run.id)
        assert until(process, lambda reply: reply.id == run.id and reply.state.ended).state is State.STOPPED
        began = time.monotonic()
        late = until(process, lambda _: time.monotonic() > began + CANCEL_SECONDS + 1)
        assert isinstance(late.told, TuneProgress)
        process.cancel(tune.id)
        end = until(process, lambda reply: reply.id == tune.id and reply.state.ended)
        assert end.state is State.STOPPED
        assert session.runs() == []
    tune = Tune(spec, data, "cpu", 0, tmp_path / "tuned")
    process.ask(tune)
    again = until(process, lambda reply: isinstance(reply.told, TuneProgress))
    assert again.told.step > 3
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    end = until(process, lambda reply: reply.state.ended)
    assert (end.id, end.state) == (tune.id, State.LOST)
    assert end.error is not None
    assert "can be resumed" in end.error.message
    process.ask(Tune(spec, DataSpec(source=str(tmp_path / "none.txt")), "cpu", 0, tmp_path / "other"))
    end = until(process, lambda reply: reply.state.ended)
    assert end.state is State.FAILED
    assert end.error is not None
    assert "There is no file" in end.error.message
