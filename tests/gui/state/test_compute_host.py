"""The thread that hosts the engine, with the real compute process: events arrive on the GUI thread."""

import threading
import time

import pytest
from PySide6.QtCore import QObject, QThread, Slot
from window_parts import HEADS, LAYERS, request_for, save_model

from engine.events import Failed, Finished, Progress, Snapshot, Started, Stopped
from engine.request import ModelSpec
from engine.runs.child import Inspected
from engine.sessions.store import Session
from gui.state.compute_host import Host
from gui.state.jobs import Jobs

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

    def of(self, *kinds: type) -> list:
        return [reply for reply in self.heard if isinstance(reply, kinds)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def host(qapp):
    host = Host()
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
    host.submit(session.path, request_for(model))
    qtbot.waitUntil(lambda: bool(listener.of(Finished, Failed)), timeout=START_MS)
    assert [type(e) for e in listener.of(Failed)] == []
    assert isinstance(listener.heard[0], Started)
    assert listener.threads == {qapp.thread()}
    done = [event.done for event in listener.of(Progress)]
    assert done == sorted(done)
    final = listener.of(Snapshot)[-1]
    assert final.final
    assert final.dataset.sizes["layer"] == LAYERS
    assert final.dataset.sizes["head"] == HEADS
    stored = session.run(final.run).result()
    assert stored is not None
    assert stored["qk_eigenvalues"].equals(final.dataset["qk_eigenvalues"])


def test_facts_and_refusals_of_models(qtbot, host, listener, model, tmp_path):
    host.inspect(ModelSpec(source=str(model)))
    host.inspect(ModelSpec(source=str(tmp_path)))
    qtbot.waitUntil(lambda: len(listener.of(Inspected)) == 2, timeout=START_MS)
    good, bad = listener.of(Inspected)
    assert (good.info.n_layers, good.info.n_heads, good.info.family) == (LAYERS, HEADS, "gpt2")
    assert bad.info is None
    assert "config.json" in bad.error.message
    assert "\n" not in bad.error.message


def test_cancel_is_quick_and_keeps_what_is_committed(qtbot, host, listener, session, model):
    # Folding the norm gives every layer a null of its own, so that units take long enough to be interrupted.
    host.submit(session.path, request_for(model, fold_norm=True, null_draws=100_000))
    qtbot.waitUntil(lambda: bool(listener.of(Progress)), timeout=START_MS)
    began = time.monotonic()
    host.cancel()
    qtbot.waitUntil(lambda: bool(listener.of(Stopped, Finished, Failed)), timeout=START_MS)
    assert [type(e) for e in listener.of(Finished, Failed)] == []
    assert time.monotonic() - began < 4  # aim: 2 s
    stopped = listener.of(Stopped)[0]
    run = session.run(stopped.run)
    assert len(run.committed()) == stopped.done < stopped.total
    for key in run.committed():
        run.read_unit(key)


def test_the_death_of_the_compute_process_costs_one_unit(qtbot, host, listener, session, model):
    import psutil

    host.submit(session.path, request_for(model, fold_norm=True, null_draws=100_000))
    qtbot.waitUntil(lambda: bool(listener.of(Progress)), timeout=START_MS)
    for child in psutil.Process().children():
        if "spawn_main" in " ".join(child.cmdline()):
            child.kill()
    qtbot.waitUntil(lambda: bool(listener.of(Failed)), timeout=START_MS)
    failed = listener.of(Failed)[0]
    assert "killed" in failed.message
    assert failed.run == session.runs()[0].id


def test_jobs_answer_on_the_gui_thread_in_order_and_carry_errors(qtbot, qapp):
    jobs, threads, answers = Jobs(), set(), []

    def work() -> int:
        threads.add(threading.get_ident())
        return 42

    def keep(answer: object) -> None:
        assert QThread.currentThread() is qapp.thread()
        answers.append(answer)

    def fail() -> None:
        raise ValueError("no")

    titles = []
    jobs.doing.connect(titles.append)
    jobs.do("first", work, keep, keep)
    jobs.do("second", fail, keep, keep)
    qtbot.waitUntil(lambda: len(answers) == 2, timeout=5000)
    assert answers[0] == 42
    assert isinstance(answers[1], ValueError)
    assert threads != {threading.get_ident()}
    assert titles == ["first", "first", "second", ""]
    jobs.close()


def test_closed_jobs_are_forgotten(qtbot):
    jobs, answers = Jobs(), []
    jobs.do("", lambda: time.sleep(0.1), answers.append, answers.append)
    jobs.close()
    qtbot.wait(50)
    assert answers == []
