"""What anybody hands to the window is opened off its thread, and whatever escapes is one sentence with its details."""

import os
import shutil
import sys
import threading
import time

import pytest
import xarray as xr
from PySide6.QtCore import QObject, QTimer, Signal, Slot
from session_examples import INFO, PLAN, REQUEST
from window_parts import request_for, window_in

from engine.sessions.files import seal
from engine.sessions.store import Session
from gui.panes.tuning import LossCurve
from gui.state import document
from gui.state.background_tasks import BackgroundTasks
from gui.state.escaped import EscapedErrors

READ_MS = 30_000
RUNS = 500
STALL_SECONDS = 0.1
PanicException = type("PanicException", (BaseException,), {})


@pytest.fixture
def window(qtbot, tmp_path):
    with window_in(tmp_path) as made:
        qtbot.waitSignal(made.ready, timeout=READ_MS).wait()
        yield made


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A session with many runs, each with two of its four units and no result."""
    path = tmp_path_factory.mktemp("large") / "large.eigenscope"
    with Session.create(path) as session:
        first = session.new_run(REQUEST, [INFO], PLAN, {})
        for key in PLAN[:2]:
            (first.path / "units" / key).mkdir(parents=True)
        for number in range(RUNS - 1):
            shutil.copytree(first.path, first.path.with_name(f"{first.id}-{number}"))
    return path


class Probe(QObject):
    """Processor time that the GUI thread spends between two turns of its event loop: unlike the clock, not others'."""

    def __init__(self) -> None:
        super().__init__()
        self.busy: list[float] = []
        self._last = time.thread_time()
        self._timer = QTimer(self, interval=1)
        self._timer.timeout.connect(self._tick)
        self._timer.start()

    @Slot()
    def _tick(self) -> None:
        now = time.thread_time()
        self.busy.append(now - self._last)
        self._last = now

    def stop(self) -> None:
        self._timer.stop()


def test_many_runs_do_not_block_the_window(qtbot, window, large, monkeypatch):
    threads = set()
    finished = document.OpenSession.read

    def note(session):
        threads.add(threading.get_ident())
        return finished(session)

    monkeypatch.setattr(document.OpenSession, "read", note)
    probe = Probe()
    window.file_commands.open_path(large)
    qtbot.waitUntil(lambda: len(window.runs.rows) == RUNS, timeout=READ_MS)
    qtbot.wait(50)
    probe.stop()
    assert len(probe.busy) > 2
    assert max(probe.busy) < STALL_SECONDS
    assert threads
    assert threading.get_ident() not in threads
    assert {(row.done, row.total) for row in window.runs.rows} == {(2, 4)}


def test_a_session_asked_for_twice_is_opened_once(qtbot, window, large):
    for _ in range(3):
        window.file_commands.open_path(large)
    qtbot.waitUntil(lambda: not window.tasks.busy, timeout=READ_MS)
    assert window.document.session.path == large
    assert not window.messages.isVisible()


def test_a_run_that_is_started_meanwhile_keeps_its_session(qtbot, window, large):
    window.file_commands.open_path(large)
    session = window.document.ensure()
    window.runs.add(session.path, request_for(large))
    qtbot.waitUntil(window.messages.isVisible, timeout=READ_MS)
    assert "a run is in progress" in window.messages.text.text()
    assert window.document.session is session
    with Session.open(large) as free:
        assert not free.readonly, "the window has let go of it"


def special(path):
    os.mkfifo(path)
    return path


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the platform has no pipes with names")
@pytest.mark.parametrize("at", ["", "session.json"])
def test_a_pipe_in_place_of_a_session_is_a_sentence_at_once(qtbot, window, tmp_path, at):
    (tmp_path / "folder").mkdir()
    path = tmp_path / ("folder" if at else "pipe")
    special(path / at if at else path)
    window.file_commands.open_path(path)
    qtbot.waitUntil(window.messages.isVisible, timeout=READ_MS)
    assert str(path) in window.messages.text.text()
    assert window.document.session is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the platform has no pipes with names")
def test_a_pipe_in_place_of_the_record_of_a_training_is_no_curve(tmp_path):
    special(tmp_path / "training.json")
    assert LossCurve.of(tmp_path).training == {}


@pytest.mark.parametrize("error", [PanicException("index out of bounds"), MemoryError(), RecursionError(), KeyError(3)])
def test_whatever_opening_raises_is_a_sentence_and_the_open_session_stays(qtbot, window, large, monkeypatch, error):
    def fail(*_: object) -> None:
        raise error

    before = window.document.ensure()
    monkeypatch.setattr(Session, "runs", fail)
    window.file_commands.open_path(large)
    qtbot.waitUntil(window.messages.isVisible, timeout=READ_MS)
    assert window.messages.text.text().startswith(f"“{large}” cannot be opened: ")
    assert type(error).__name__ in window.messages.details.toPlainText()
    assert window.document.session is before
    monkeypatch.undo()
    Session.open(large).close()


@pytest.mark.parametrize(
    "state",
    [
        {"workspace": 3},
        {"workspace": {"pages": {"weights": {"panels": [{"options": {"layers": 3}}]}}}},
        {"workspace": {"pages": []}},
        {"navigator": {"view": ["layers"]}},
        {"selection": {"layer": "many"}},
        {"selection": {"layer": -(10**30), "head": 1e300}},
        {"selection": [1, 2]},
        {"run": {"not": "a name"}},
    ],
)
def test_saved_views_of_any_content_leave_the_defaults(qtbot, window, tmp_path, state):
    path = tmp_path / "views.eigenscope"
    Session.create(path).close()
    before = window.view_state.state()
    (path / "views").mkdir()
    (path / "views" / "window.json").write_bytes(seal({"settings": state}))
    window.file_commands.open_path(path)
    qtbot.waitUntil(lambda: window.document.session is not None, timeout=READ_MS)
    assert "views" in window.windowTitle()
    assert window.view_state.state() == before


def test_a_result_without_a_header_is_a_sentence_where_the_figure_would_be(qtbot, window, tmp_path):
    path = tmp_path / "headless.eigenscope"
    with Session.create(path) as session:
        run = session.new_run(REQUEST, [INFO], PLAN[:1], {})
        run.commit_unit(PLAN[0], xr.Dataset(), {"seconds": 1.0, "peak_bytes": 1})
        run.commit_result(xr.Dataset(attrs={"models": '[{"label": 3}]', "analysis": "weights"}))
    window.file_commands.open_path(path)
    qtbot.waitUntil(window.messages.isVisible, timeout=READ_MS)
    assert window.messages.text.text().startswith("The result of this run cannot be read: ")
    assert window.workspace.panel.figure_area.figure.empty == window.messages.text.text()


@pytest.fixture
def escaped(window, monkeypatch):
    """The window with the last boundary, which the application makes."""
    for module, name in ((sys, "excepthook"), (threading, "excepthook")):
        monkeypatch.setattr(module, name, getattr(module, name))  # put back at the end
    errors = EscapedErrors(window)
    errors.caught.connect(window.messages.show_error)
    return window


class Source(QObject):
    asked = Signal()


@pytest.mark.parametrize("error", [PanicException("index out of bounds"), MemoryError(), ValueError("one:\ntwo")])
@pytest.mark.parametrize("where", ["slot", "task", "thread"])
def test_whatever_escapes_is_a_sentence_with_its_details(qtbot, escaped, error, where):
    def fail() -> None:
        raise error

    source = Source()
    source.asked.connect(fail)
    match where:
        case "slot":
            source.asked.emit()
        case "task":
            escaped.tasks.submit("Working", fail, lambda _: None, escaped.messages.show_error)
        case "thread":
            threading.Thread(target=fail).start()
    qtbot.waitUntil(lambda: escaped.messages.isVisible() and not escaped.tasks.busy, timeout=READ_MS)
    text = escaped.messages.text.text()
    assert text.startswith("Internal error in Eigenscope; committed units are safe: ")
    assert text.isprintable()
    details = escaped.messages.details.toPlainText()
    assert type(error).__name__ in details
    assert "in fail" in details


def test_a_view_that_fails_does_not_leave_the_figure_of_another_selection(qtbot, escaped, monkeypatch):
    panel = escaped.workspace.panel
    dataset = xr.Dataset(attrs={"analysis": "weights"})
    source = Source()
    source.asked.connect(lambda: panel.show_dataset(dataset))
    source.asked.emit()
    assert panel.figure_area.figure.empty == "This view cannot be drawn."
    assert "Internal error" in escaped.messages.text.text()


def test_a_task_that_panics_does_not_hold_up_the_next(qtbot):
    def fail() -> None:
        raise PanicException("index out of bounds")

    tasks, answers = BackgroundTasks(), []
    tasks.submit("first", fail, answers.append, answers.append)
    tasks.submit("second", lambda: 42, answers.append, answers.append)
    qtbot.waitUntil(lambda: len(answers) == 2, timeout=READ_MS)
    tasks.close()
    assert isinstance(answers[0], PanicException)
    assert answers[1] == 42
