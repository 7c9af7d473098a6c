"""The compute process: a real spawned one, cancelled, killed and orphaned."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import runs_helpers
from runs_helpers import make_model

from engine import events
from engine.analyses import registry
from engine.request import DataSpec, ModelSpec, Request
from engine.runs import child as child_module
from engine.runs.child import Child, Inspected, Reply, Verified, Verify
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
        patch.setattr(child_module, "serve", runs_helpers.serve_steps)
        yield


@pytest.fixture(scope="module")
def child(steps: None) -> Iterator[Child]:
    """One process for all these tests: it must survive everything that they do to it."""
    child = Child()
    child.start()
    yield child
    child.close()


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with Session.create(tmp_path / "s.eigenscope") as session:
        yield session


def request_for(model: Path, seconds: float = 0.0) -> Request:
    return Request(analysis="steps", models=(ModelSpec(source=str(model)),), params={"seconds": seconds})


def follow(child: Child, until: Callable[[Reply], bool]) -> list[Reply]:
    seen: list[Reply] = []
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if (reply := child.poll(0.1)) is not None:
            seen.append(reply)
            if until(reply):
                return seen
    raise AssertionError(f"nothing that was waited for came: {seen}")


def ended(reply: Reply) -> bool:
    return isinstance(reply, events.Finished | events.Stopped | events.Failed)


def progressed(reply: Reply) -> bool:
    return isinstance(reply, events.Progress) and reply.done >= 1


def test_a_run_in_the_child_is_the_run_of_the_loop(child: Child, session: Session, model: Path) -> None:
    child.submit(session.path, request_for(model))
    assert child.busy
    with pytest.raises(RuntimeError):
        child.submit(session.path, request_for(model))
    seen = follow(child, ended)
    assert isinstance(seen[-1], events.Finished)
    assert not child.busy
    final = [event for event in seen if isinstance(event, events.Snapshot)][-1]

    here = start(session, request_for(model))
    execute(session, here, lambda event: None, lambda: False)
    result = here.result()
    assert result is not None
    assert final.dataset.drop_attrs().identical(result.drop_attrs())


def test_a_killed_child_loses_a_unit_and_not_the_run(child: Child, session: Session, model: Path) -> None:
    whole = start(session, request_for(model, 0.3))
    execute(session, whole, lambda event: None, lambda: False)

    child.submit(session.path, request_for(model, 0.3))
    follow(child, progressed)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    failed = follow(child, ended)[-1]
    assert isinstance(failed, events.Failed)
    assert "signal 9" in failed.message
    assert "memory" in failed.message
    run = session.run(failed.run)
    kept = run.committed()
    assert 1 <= len(kept) < len(run.plan)

    child.submit(session.path, run.id)  # starts a new process
    seen = follow(child, ended)
    assert isinstance(seen[-1], events.Finished)
    assert next(event.done for event in seen if isinstance(event, events.Started)) == len(kept)
    one, other = whole.result(), run.result()
    assert one is not None
    assert other is not None
    assert one.drop_attrs().identical(other.drop_attrs())


def test_cancel_stops_between_units(child: Child, session: Session, model: Path) -> None:
    child.submit(session.path, request_for(model, 0.4))
    follow(child, progressed)
    pid = child.pid
    asked = time.monotonic()
    child.cancel()
    stopped = follow(child, ended)[-1]
    assert isinstance(stopped, events.Stopped)
    assert time.monotonic() - asked < 2.5
    assert child.pid == pid, "a unit that ends soon is waited for"

    child.submit(session.path, stopped.run)  # the cancel is not still in force
    assert isinstance(follow(child, ended)[-1], events.Finished)


def test_a_unit_that_goes_on_for_long_does_not_hold_up_a_cancel(child: Child, session: Session, model: Path) -> None:
    child.submit(session.path, request_for(model, 30.0))
    follow(child, lambda reply: isinstance(reply, events.Progress) and "Layer 0" in reply.doing)
    pid = child.pid
    asked = time.monotonic()
    child.cancel()
    stopped = follow(child, ended)[-1]
    assert time.monotonic() - asked < child_module.CANCEL_SECONDS + 1.0
    assert isinstance(stopped, events.Stopped)
    assert (stopped.done, stopped.total) == (0, 4)
    assert child.pid not in (None, pid), "a new process is already on its way"


def test_models_are_inspected_while_a_run_goes_on(child: Child, session: Session, model: Path, tmp_path: Path) -> None:
    child.submit(session.path, request_for(model, 0.5))
    good, bad = ModelSpec(source=str(model)), ModelSpec(source=str(tmp_path))
    child.inspect(good)
    child.inspect(bad)
    seen = follow(child, ended)
    answers = {reply.spec: reply for reply in seen if isinstance(reply, Inspected)}
    assert answers[good].info is not None
    assert answers[good].info.n_layers == 4
    assert answers[bad].info is None
    assert answers[bad].error is not None
    assert str(tmp_path) in answers[bad].error.message
    assert isinstance(seen[-1], events.Finished)


def test_a_verification_gives_way_to_what_waits_and_is_answered_even_by_the_dead(
    child: Child, session: Session, model: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "ids.npy", np.arange(8)[None])
    verify = Verify(ModelSpec(source=str(model)), DataSpec(source=str(tmp_path / "ids.npy"), samples=1), "cpu", 0)
    child.start()
    assert child.pid is not None
    os.kill(child.pid, signal.SIGSTOP)  # so that all of it lies in the pipe
    child.verify(verify)
    child.submit(session.path, request_for(model))
    os.kill(child.pid, signal.SIGCONT)
    given_up, *_, end = follow(child, ended)
    assert isinstance(given_up, Verified)
    assert "something else was started" in given_up.text
    assert isinstance(end, events.Finished)

    os.kill(child.pid, signal.SIGSTOP)
    child.verify(verify)
    os.kill(child.pid, signal.SIGKILL)
    (answer,) = follow(child, lambda reply: True)
    assert isinstance(answer, Verified)
    assert not answer.passed
    assert "signal 9" in answer.text


def test_an_unusable_request_is_a_failure_without_a_run(child: Child, session: Session, model: Path) -> None:
    bad = request_for(model).model_copy(update={"params": {"draws": 0}})
    child.submit(session.path, bad)
    failed = follow(child, ended)[-1]
    assert isinstance(failed, events.Failed)
    assert failed.run == ""
    assert "draws" in failed.message
    assert session.runs() == []


def test_the_death_of_an_idle_child_is_nobodys_loss(child: Child, session: Session, model: Path) -> None:
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and left for the handle to find
    child.submit(session.path, request_for(model))
    assert isinstance(follow(child, ended)[-1], events.Finished)


def test_closing_ends_the_process_in_the_middle_of_a_unit(child: Child, session: Session, model: Path) -> None:
    child.submit(session.path, request_for(model, 30.0))
    follow(child, lambda reply: isinstance(reply, events.Progress) and "Layer 0" in reply.doing)
    process = psutil.Process(child.pid)
    asked = time.monotonic()
    child.close()
    assert time.monotonic() - asked < 2.0
    assert not process.is_running()
    assert child.poll() is None


def test_no_orphan_outlives_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent("""
            import time
            from engine.runs.child import Child

            if __name__ == "__main__":
                child = Child()
                child.start()
                print(child.pid, flush=True)
                time.sleep(60)
        """)
    )
    root = Path(child_module.__file__).parents[2]
    parent = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(root)}
    )
    assert parent.stdout is not None
    orphan = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    gone, _ = psutil.wait_procs([orphan], timeout=20)
    assert gone
