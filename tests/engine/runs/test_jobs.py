"""The compute process: a real spawned one, cancelled, killed and orphaned."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import runs_helpers
from runs_helpers import all_end, make_model

from engine import events
from engine.analyses import registry
from engine.request import DataSpec, ModelSpec, Request
from engine.runs.jobs import process as process_module
from engine.runs.jobs.job import Job, Reply, State
from engine.runs.jobs.process import ComputeProcess
from engine.runs.jobs.run import CANCEL_SECONDS, CarryOut
from engine.runs.jobs.verify import Verify
from engine.runs.loop import execute, start
from engine.sessions.store import Session

PATIENCE = 60.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module", autouse=True)
def steps() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.ANALYSES, "steps", runs_helpers.STEPS)
        patch.setattr(process_module, "serve", runs_helpers.serve_steps)
        yield


@pytest.fixture(scope="module")
def process(steps: None) -> Iterator[ComputeProcess]:
    """One process for all these tests: it must survive everything that they do to it."""
    process = ComputeProcess()
    process.start()
    yield process
    process.close()


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with Session.create(tmp_path / "s.eigenscope") as session:
        yield session


def request_for(model: Path, seconds: float = 0.0) -> Request:
    return Request(analysis="steps", models=(ModelSpec(source=str(model)),), params={"seconds": seconds})


def asked(process: ComputeProcess, job: Job) -> Job:
    process.ask(job)
    return job


def follow(process: ComputeProcess, until: Callable[[Reply], bool]) -> list[Reply]:
    seen: list[Reply] = []
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if (reply := process.poll(0.1)) is not None:
            seen.append(reply)
            if until(reply):
                return seen
    raise AssertionError(f"nothing that was waited for came: {seen}")


def follow_to_end(process: ComputeProcess, job: Job) -> list[Reply]:
    seen = follow(process, lambda reply: reply.id == job.id and reply.state.ended)
    return [reply for reply in seen if reply.id == job.id]


def told(replies: list[Reply], kind: type) -> list[Any]:
    return [reply.told for reply in replies if isinstance(reply.told, kind)]


def progressed(reply: Reply) -> bool:
    return isinstance(reply.told, events.Progress) and reply.told.done >= 1


def in_the_first_unit(reply: Reply) -> bool:
    return isinstance(reply.told, events.Progress) and "Layer 0" in reply.told.doing


def test_a_run_in_the_process_is_the_run_of_the_loop(process: ComputeProcess, session: Session, model: Path) -> None:
    first = asked(process, CarryOut(session.path, request_for(model)))
    second = asked(process, CarryOut(session.path, request_for(model)))
    assert process.busy
    seen = follow_to_end(process, first)
    assert seen[-1].state is State.DONE
    assert isinstance(seen[-1].answer, events.Finished)
    final = told(seen, events.Snapshot)[-1]
    assert follow_to_end(process, second)[-1].state is State.DONE, "one after the other"
    assert not process.busy

    here = start(session, request_for(model))
    execute(session, here, lambda event: None, lambda: False)
    result = here.result()
    assert result is not None
    assert final.dataset.drop_attrs().identical(result.drop_attrs())


def test_a_killed_process_loses_a_unit_and_not_the_run(process: ComputeProcess, session: Session, model: Path) -> None:
    whole = start(session, request_for(model, 0.3))
    execute(session, whole, lambda event: None, lambda: False)

    job = asked(process, CarryOut(session.path, request_for(model, 0.3)))
    seen = follow(process, progressed)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    seen += follow_to_end(process, job)
    lost = seen[-1]
    assert lost.state is State.LOST
    assert lost.error is not None
    assert "signal 9" in lost.error.message
    assert "memory" in lost.error.message
    run = session.run(told(seen, events.Started)[0].run)
    kept = run.committed()
    assert 1 <= len(kept) < len(run.plan)

    again = asked(process, CarryOut(session.path, run.id))  # starts a new process
    seen = follow_to_end(process, again)
    assert seen[-1].state is State.DONE
    assert told(seen, events.Started)[0].done == len(kept)
    one, other = whole.result(), run.result()
    assert one is not None
    assert other is not None
    assert one.drop_attrs().identical(other.drop_attrs())


def test_cancel_stops_between_units(process: ComputeProcess, session: Session, model: Path) -> None:
    job = asked(process, CarryOut(session.path, request_for(model, 0.4)))
    follow(process, progressed)
    pid = process.pid
    began = time.monotonic()
    process.cancel(job.id)
    process.cancel(job.id)
    seen = follow_to_end(process, job)
    assert [reply.state for reply in seen if reply.told is None] == [State.CANCELLING, State.STOPPED]
    assert {reply.state for reply in seen if reply.told is not None} == {State.CANCELLING}
    assert time.monotonic() - began < 2.5
    assert process.pid == pid, "a unit that ends soon is waited for"

    (stopped,) = told(seen, events.Stopped)
    assert stopped.done == len(session.run(stopped.run).committed())
    again = asked(process, CarryOut(session.path, stopped.run))  # the cancel is not still in force
    assert follow_to_end(process, again)[-1].state is State.DONE


def test_a_unit_that_goes_on_for_long_does_not_hold_up_a_cancel(
    process: ComputeProcess, session: Session, model: Path
) -> None:
    job = asked(process, CarryOut(session.path, request_for(model, 30.0)))
    behind = asked(process, CarryOut(session.path, request_for(model)))
    follow(process, in_the_first_unit)
    pid = process.pid
    began = time.monotonic()
    process.cancel(job.id)
    assert follow_to_end(process, job)[-1].state is State.STOPPED
    assert time.monotonic() - began < CANCEL_SECONDS + 1.0
    assert session.runs()[0].committed() == set()
    assert process.pid not in (None, pid), "a new process is already on its way"
    assert follow_to_end(process, behind)[-1].state is State.DONE, "what waited behind it goes to the new process"


def test_a_job_that_waits_is_cancelled_at_once(process: ComputeProcess, session: Session, model: Path) -> None:
    job = asked(process, CarryOut(session.path, request_for(model, 0.5)))
    behind = asked(process, CarryOut(session.path, request_for(model)))
    follow(process, in_the_first_unit)
    process.cancel(behind.id)
    assert [reply.state for reply in follow_to_end(process, behind)] == [State.CANCELLING, State.STOPPED]
    assert follow_to_end(process, job)[-1].state is State.DONE
    assert len(session.runs()) == 1


def test_a_verification_gives_way_to_what_waits_and_is_answered_even_by_the_dead(
    process: ComputeProcess, session: Session, model: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "ids.npy", np.arange(8)[None])

    def verification() -> Verify:
        return Verify(ModelSpec(source=str(model)), DataSpec(source=str(tmp_path / "ids.npy"), samples=1), "cpu", 0)

    process.start()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)  # so that all of it lies in the pipe
    verify = asked(process, verification())
    job = asked(process, CarryOut(session.path, request_for(model)))
    os.kill(process.pid, signal.SIGCONT)
    given_up = follow_to_end(process, verify)[-1]
    assert given_up.state is State.FAILED
    assert given_up.error is not None
    assert "something else was started" in given_up.error.message
    assert follow_to_end(process, job)[-1].state is State.DONE

    os.kill(process.pid, signal.SIGSTOP)
    verify = asked(process, verification())
    os.kill(process.pid, signal.SIGKILL)
    (lost,) = follow(process, lambda reply: True)
    assert (lost.id, lost.state) == (verify.id, State.LOST)
    assert lost.error is not None
    assert "signal 9" in lost.error.message


def test_an_unusable_request_is_a_failure_without_a_run(process: ComputeProcess, session: Session, model: Path) -> None:
    bad = request_for(model).model_copy(update={"params": {"draws": 0}})
    failed = follow_to_end(process, asked(process, CarryOut(session.path, bad)))[-1]
    assert failed.state is State.FAILED
    assert failed.error is not None
    assert "draws" in failed.error.message
    assert session.runs() == []


def test_the_death_of_an_idle_process_is_nobodys_loss(process: ComputeProcess, session: Session, model: Path) -> None:
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and left for the handle to find
    job = asked(process, CarryOut(session.path, request_for(model)))
    assert follow_to_end(process, job)[-1].state is State.DONE


def test_closing_ends_the_process_in_the_middle_of_a_unit(
    process: ComputeProcess, session: Session, model: Path
) -> None:
    asked(process, CarryOut(session.path, request_for(model, 30.0)))
    follow(process, in_the_first_unit)
    child = psutil.Process(process.pid)
    began = time.monotonic()
    process.close()
    assert time.monotonic() - began < 2.0
    assert not child.is_running()
    assert process.poll() is None


def test_no_orphan_outlives_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent("""
            import time
            from engine.runs.jobs.process import ComputeProcess

            if __name__ == "__main__":
                process = ComputeProcess()
                process.start()
                print(process.pid, flush=True)
                time.sleep(60)
        """)
    )
    root = Path(process_module.__file__).parents[3]
    parent = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(root)}
    )
    assert parent.stdout is not None
    orphan = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert all_end([orphan], within=2.0)
