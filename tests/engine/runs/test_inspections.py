"""Inspections have a process of their own: whatever becomes of it, a run in progress and the next inspection go on."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import runs_helpers
from runs_helpers import Panicking, Stuck, all_end, make_model

from engine import events
from engine.analyses import registry
from engine.request import ModelSpec, Request
from engine.runs.jobs import process as process_module
from engine.runs.jobs.inspect import CANCEL_SECONDS, Inspect
from engine.runs.jobs.job import Job, Reply, State
from engine.runs.jobs.processes import ComputeProcesses
from engine.runs.jobs.run import CarryOut
from engine.sessions.store import Session

PATIENCE = 60.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    return ModelSpec(source=str(make_model(tmp_path_factory.mktemp("model"))))


@pytest.fixture(scope="module")
def processes() -> Iterator[ComputeProcesses]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.ANALYSES, "steps", runs_helpers.STEPS)
        patch.setattr(process_module, "serve", runs_helpers.serve_steps)
        processes = ComputeProcesses()
        processes.start()
        yield processes
        processes.close()


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with Session.create(tmp_path / "s.eigenscope") as session:
        yield session


def run_of(model: ModelSpec, session: Session, seconds: float) -> CarryOut:
    return CarryOut(session.path, Request(analysis="steps", models=(model,), params={"seconds": seconds}))


def follow(processes: ComputeProcesses, until: Callable[[Reply], bool]) -> list[Reply]:
    seen: list[Reply] = []
    deadline = time.monotonic() + PATIENCE
    while not seen or not until(seen[-1]):
        assert time.monotonic() < deadline, seen
        if (reply := processes.poll(0.1)) is not None:
            seen.append(reply)
    return seen


def ends(processes: ComputeProcesses, *jobs: Job) -> list[Reply]:
    """The last reply to each of these jobs, in the order in which they ended."""
    last: list[Reply] = []
    while len(last) < len(jobs):
        last += follow(processes, lambda reply: reply.state.ended)[-1:]
    return last


def test_models_are_inspected_while_a_run_goes_on(
    processes: ComputeProcesses, session: Session, model: ModelSpec, tmp_path: Path
) -> None:
    job, good, bad = run_of(model, session, 0.5), Inspect(model), Inspect(ModelSpec(source=str(tmp_path)))
    processes.ask(Inspect(model))
    follow(processes, lambda reply: reply.state.ended)  # the process for inspections has started
    for each in (job, good, bad):
        processes.ask(each)
    facts, refusal, end = ends(processes, job, good, bad)
    assert (facts.id, facts.answer.n_layers) == (good.id, 4)
    assert (refusal.id, refusal.answer) == (bad.id, None)
    assert refusal.error is not None
    assert str(tmp_path) in refusal.error.message
    assert (end.id, end.state) == (job.id, State.DONE)


def test_one_that_hangs_is_given_up_and_what_waits_behind_it_goes_on(
    processes: ComputeProcesses, session: Session, model: ModelSpec
) -> None:
    job, stuck, behind = run_of(model, session, 2.0), Stuck(model), Inspect(model)
    for each in (job, stuck, behind):
        processes.ask(each)
    by_id = {reply.id: reply for reply in ends(processes, job, stuck, behind)}
    error = by_id[stuck.id].error
    assert by_id[stuck.id].state is State.FAILED
    assert error is not None
    assert error.message.startswith(f"{model.label} cannot be opened: it took longer than 1 s and was given up. ")
    assert by_id[behind.id].answer.n_layers == 4
    assert by_id[job.id].state is State.DONE, "the run lost nothing"


def test_one_that_hangs_is_cancelled_for_the_next(
    processes: ComputeProcesses, model: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stuck, "time_limit", None)
    stuck, behind = Stuck(model), Inspect(model)
    processes.ask(stuck)
    follow(processes, lambda reply: reply.state is State.RUNNING)
    began = time.monotonic()
    processes.cancel(stuck.id)
    processes.ask(behind)
    stopped, answered = ends(processes, stuck, behind)
    assert (stopped.id, stopped.state) == (stuck.id, State.STOPPED)
    assert (answered.id, answered.state) == (behind.id, State.DONE)
    assert time.monotonic() - began > CANCEL_SECONDS


def test_a_panic_of_a_library_in_rust_is_a_sentence(processes: ComputeProcesses, model: ModelSpec) -> None:
    panicking, behind = Panicking(model), Inspect(model)
    processes.ask(panicking)
    processes.ask(behind)
    failed, answered = ends(processes, panicking, behind)
    assert failed.state is State.FAILED
    assert failed.error is not None
    assert failed.error.message.startswith(f"{model.label} cannot be opened: index out of bounds.")
    assert "PanicException" in failed.error.detail
    assert answered.state is State.DONE, "the process lives on"


def test_a_run_whose_process_is_terminated_can_be_resumed(
    processes: ComputeProcesses, session: Session, model: ModelSpec
) -> None:
    job = run_of(model, session, 0.4)
    processes.ask(job)
    seen = follow(processes, lambda reply: isinstance(reply.told, events.Progress) and reply.told.done >= 1)
    pid = processes._main.pid
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    (lost,) = ends(processes, job)
    assert lost.state is State.LOST
    assert lost.error is not None
    assert lost.error.message == f"Another program asked the compute process to end (signal 15). {job.after_loss}"
    run = session.run(next(reply.told.run for reply in seen if isinstance(reply.told, events.Started)))
    kept = run.committed()
    assert 1 <= len(kept) < len(run.plan)
    again = CarryOut(session.path, run.id)
    processes.ask(again)
    (end,) = ends(processes, again)
    assert end.state is State.DONE
    assert run.finished


def test_both_processes_die_with_a_parent_that_is_killed_also_while_one_hangs(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent("""
            import time
            from runs_helpers import Stuck
            from engine.request import ModelSpec
            from engine.runs.jobs.job import State
            from engine.runs.jobs.processes import ComputeProcesses

            if __name__ == "__main__":
                processes = ComputeProcesses()
                processes.start()
                processes._main.start()
                Stuck.time_limit = None
                processes.ask(Stuck(ModelSpec()))
                while (reply := processes.poll(60)) is None or reply.state is not State.RUNNING:
                    pass
                print(processes._main.pid, processes._beside.pid, flush=True)
                time.sleep(60)
        """)
    )
    path = os.pathsep.join((str(Path(process_module.__file__).parents[3]), str(Path(runs_helpers.__file__).parent)))
    parent = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path}
    )
    assert parent.stdout is not None
    children = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
    assert len(children) == 2
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert all_end(children, within=2.0)
