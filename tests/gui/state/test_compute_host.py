"""The thread that hosts the engine, with the real compute process: events arrive on the GUI thread."""

import time

import pytest
from PySide6.QtCore import QObject, QThread, Slot
from window_parts import HEADS, LAYERS, request_for, save_model

from engine.events import Finished, Progress, Snapshot, Started, Stopped
from engine.request import ModelSpec
from engine.runs.jobs.inspect import Inspect
from engine.runs.jobs.job import State
from engine.runs.jobs.run import CarryOut
from engine.sessions.store import Session
from gui.state.compute_host import ComputeHost

START_MS = 60_000
"""The compute process imports torch first; on a busy machine that takes a while."""


class Listener(QObject):
    """Keeps what is said, and in which thread it was heard."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[object] = []
        self.threads: set[QThread] = set()

    @Slot(object)
    def hear(self, reply: object) -> None:
        self.heard.append(reply)
        self.threads.add(QThread.currentThread())

    def told(self, kind: type) -> list:
        return [reply.told for reply in self.heard if isinstance(reply.told, kind)]

    def end(self, job):
        """The last reply to a job, None before it."""
        return next((reply for reply in self.heard if reply.id == job.id and reply.state.ended), None)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def host(qapp):
    host = ComputeHost()
    yield host
    assert host.close()


@pytest.fixture
def listener(host):
    listener = Listener()
    host.replied.connect(listener.hear)
    yield listener
    host.replied.disconnect(listener.hear)


@pytest.fixture
def session(tmp_path):
    with Session.create(tmp_path / "a.eigenscope") as session:
        yield session


def test_a_run_from_start_to_result(qtbot, qapp, host, listener, session, model):
    job = CarryOut(session.path, request_for(model))
    host.ask(job)
    qtbot.waitUntil(lambda: listener.end(job) is not None, timeout=START_MS)
    assert listener.end(job).error is None
    assert listener.heard[0].state is State.RUNNING
    assert isinstance(listener.heard[1].told, Started)
    assert isinstance(listener.end(job).answer, Finished)
    assert listener.threads == {qapp.thread()}
    done = [event.done for event in listener.told(Progress)]
    assert done == sorted(done)
    final = listener.told(Snapshot)[-1]
    assert final.final
    assert final.dataset.sizes["layer"] == LAYERS
    assert final.dataset.sizes["head"] == HEADS
    stored = session.run(final.run).result()
    assert stored is not None
    assert stored["qk_eigenvalues"].equals(final.dataset["qk_eigenvalues"])


def test_facts_and_refusals_of_models(qtbot, host, listener, model, tmp_path):
    jobs = [Inspect(ModelSpec(source=str(path))) for path in (model, tmp_path)]
    for job in jobs:
        host.ask(job)
    qtbot.waitUntil(lambda: all(listener.end(job) for job in jobs), timeout=START_MS)
    good, bad = map(listener.end, jobs)
    assert (good.answer.n_layers, good.answer.n_heads, good.answer.family) == (LAYERS, HEADS, "gpt2")
    assert bad.answer is None
    assert "config.json" in bad.error.message
    assert "\n" not in bad.error.message


def test_cancel_is_quick_and_keeps_what_is_committed(qtbot, host, listener, session, model):
    # Folding the norm gives every layer a null of its own, so that units take long enough to be interrupted.
    job = CarryOut(session.path, request_for(model, fold_norm=True, null_draws=100_000))
    host.ask(job)
    qtbot.waitUntil(lambda: bool(listener.told(Progress)), timeout=START_MS)
    began = time.monotonic()
    host.cancel(job.id)
    qtbot.waitUntil(lambda: listener.end(job) is not None, timeout=START_MS)
    assert listener.end(job).state is State.STOPPED
    assert time.monotonic() - began < 4  # aim: 2 s
    run = session.run(listener.told(Started)[0].run)
    assert len(run.committed()) < len(run.plan)
    for stopped in listener.told(Stopped):  # it says so itself, unless it had to be killed
        assert len(run.committed()) == stopped.done < stopped.total
    for key in run.committed():
        run.read_unit(key)


def test_the_death_of_the_compute_process_costs_one_unit(qtbot, host, listener, session, model):
    import psutil

    job = CarryOut(session.path, request_for(model, fold_norm=True, null_draws=100_000))
    host.ask(job)
    qtbot.waitUntil(lambda: bool(listener.told(Progress)), timeout=START_MS)
    for child in psutil.Process().children():
        if "spawn_main" in " ".join(child.cmdline()):
            child.kill()
    qtbot.waitUntil(lambda: listener.end(job) is not None, timeout=START_MS)
    assert listener.end(job).state is State.LOST
    assert "killed" in listener.end(job).error.message
    assert listener.told(Started)[0].run == session.runs()[0].id
