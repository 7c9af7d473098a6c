"""Every kind of job ends in exactly one state, whatever happens to it and to the compute process."""

import os
import signal
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from opening_models import pristine

from engine.errors import one_sentence
from engine.request import DataSpec, ModelSpec, Request, Tuning
from engine.runs.jobs import process as process_module
from engine.runs.jobs.attend import Attend
from engine.runs.jobs.inspect import Inspect
from engine.runs.jobs.job import Job, Reply, State
from engine.runs.jobs.process import ComputeProcess
from engine.runs.jobs.run import CarryOut
from engine.runs.jobs.tune import Tune
from engine.runs.jobs.verify import Verify
from engine.sessions.store import Session

PATIENCE = 90.0
KINDS = (Inspect, CarryOut, Attend, Verify, Tune)
ENDS = {State.DONE, State.STOPPED, State.FAILED, State.LOST}


@pytest.fixture(scope="module")
def process() -> Iterator[ComputeProcess]:
    process = ComputeProcess()
    process.start()
    yield process
    process.close()


def make(kind: type[Job], folder: Path, source: str | None = None) -> Job:
    """A small job of each kind, on a small model or on `source`."""
    spec = ModelSpec(source=source or str(pristine()))
    text = folder / "text.txt"
    text.write_text("the cat sat on the mat\n" * 100)
    np.save(folder / "ids.npy", np.arange(1, 9)[None])
    match kind.__name__:
        case "Inspect":
            return Inspect(spec)
        case "CarryOut":
            path = folder / f"{len(list(folder.iterdir()))}.eigenscope"
            Session.create(path).close()
            return CarryOut(path, Request(analysis="weights", params={"null_draws": 200}, models=(spec,), device="cpu"))
        case "Attend":
            return Attend(spec, "the cat", "cpu", 0)
        case "Verify":
            return Verify(spec, DataSpec(source=str(folder / "ids.npy"), samples=1), "cpu", 0)
    tuned = spec.model_copy(update={"tuning": Tuning(epochs=0.05, batch=2, length=16)})
    return Tune(tuned, DataSpec(source=str(text)), "cpu", 0, folder / "tuned")


def states(process: ComputeProcess, *jobs: Job) -> dict[int, list[Reply]]:
    """Ask nothing; follow these jobs until each has ended, and a little longer."""
    replies: dict[int, list[Reply]] = {job.id: [] for job in jobs}
    deadline = time.monotonic() + PATIENCE
    while not all(any(reply.state.ended for reply in mine) for mine in replies.values()):
        assert time.monotonic() < deadline, replies
        if (reply := process.poll(0.1)) is not None:
            replies[reply.id].append(reply)
    assert not process.busy
    assert process.poll(0.05) is None
    for mine in replies.values():
        assert [reply.state.ended for reply in mine] == [False] * (len(mine) - 1) + [True]
    return replies


@pytest.mark.parametrize(("state", "reported"), list(product(State, State)))
def test_a_job_goes_forward_only(state: State, reported: State) -> None:
    ahead = {
        State.QUEUED: {State.RUNNING, State.CANCELLING, State.FAILED, State.LOST},
        State.RUNNING: {State.RUNNING, State.CANCELLING, State.DONE, State.FAILED, State.LOST},
        State.CANCELLING: {State.RUNNING, *ENDS},
    }
    if reported not in ahead.get(state, set()):
        with pytest.raises(ValueError, match="cannot become"):
            state.advance(reported)
    elif (state, reported) == (State.CANCELLING, State.RUNNING):
        assert state.advance(reported) is State.CANCELLING, "what it goes on telling is no way back"
    else:
        assert state.advance(reported) is reported
    assert state.ended == (state in ENDS)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_done_with_an_answer(process: ComputeProcess, tmp_path: Path, kind: type[Job]) -> None:
    job = make(kind, tmp_path)
    process.ask(job)
    *before, end = states(process, job)[job.id]
    assert {reply.state for reply in before} == {State.RUNNING}
    assert (end.state, end.error) == (State.DONE, None)
    assert end.answer is not None


@pytest.mark.parametrize("kind", KINDS)
def test_it_fails_with_a_sentence(process: ComputeProcess, tmp_path: Path, kind: type[Job]) -> None:
    job = make(kind, tmp_path, source=str(tmp_path / "nowhere"))
    process.ask(job)
    end = states(process, job)[job.id][-1]
    assert (end.state, end.answer) == (State.FAILED, None)
    assert end.error is not None
    assert "nowhere" in end.error.message
    assert "\n" not in end.error.message
    assert one_sentence(ValueError("no"), job.failure).message.startswith(f"{job.failure}: no. ")


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_stopped_before_it_begins(process: ComputeProcess, tmp_path: Path, kind: type[Job]) -> None:
    process.start()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)  # so that both questions and the cancel lie in the pipe
    first, job = make(CarryOut, tmp_path), make(kind, tmp_path)
    process.ask(first)
    process.ask(job)
    process.cancel(job.id)
    os.kill(process.pid, signal.SIGCONT)
    replies = states(process, first, job)
    assert [reply.state for reply in replies[job.id]] == [State.CANCELLING, State.STOPPED]
    assert replies[first.id][-1].state is State.DONE


def test_a_crash_answers_every_kind_with_one_sentence_and_what_to_do(process: ComputeProcess, tmp_path: Path) -> None:
    process.start()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)
    jobs = [make(kind, tmp_path) for kind in KINDS]
    for job in jobs:
        process.ask(job)
    process.cancel(jobs[1].id)
    os.kill(process.pid, signal.SIGKILL)
    replies = states(process, *jobs)
    for job in jobs:
        end = replies[job.id][-1]
        assert end.state is State.LOST
        assert end.error is not None
        assert end.error.message.startswith("The system killed the compute process (signal 9)")
        assert end.error.message.endswith(job.after_loss)


@pytest.mark.parametrize("kind", KINDS)
def test_it_fails_where_no_process_can_be_started(
    tmp_path: Path, kind: type[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: str) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(process_module.mp, "get_context", refuse)
    process, job = ComputeProcess(), make(kind, tmp_path)
    process.ask(job)
    (end,) = states(process, job)[job.id]
    assert end.state is State.FAILED
    assert end.error is not None
    assert "cannot be started" in end.error.message
    assert "Resource temporarily unavailable" in end.error.detail
