"""The window as a person uses it: run, look, walk, save, quit, reopen; and what it says when something is wrong."""

import json
import shutil

import numpy as np
import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QMessageBox
from window_parts import HEADS, LAYERS, answer_boxes, request_for, save_model, window_in

from engine.runs.loop import execute, start
from engine.sessions.store import Session
from gui.plots.selection import Selection

READ_MS = 20_000
START_MS = 90_000


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def finished(model, tmp_path_factory):
    """A session with one finished run."""
    path = tmp_path_factory.mktemp("finished") / "study.eigenscope"
    with Session.create(path) as session:
        execute(session, start(session, request_for(model)), lambda _: None, lambda: False)
        assert session.runs()[0].finished
    return path


@pytest.fixture
def study(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "study.eigenscope")


@pytest.fixture
def window(qtbot, tmp_path):
    with window_in(tmp_path) as made:
        qtbot.waitSignal(made.ready, timeout=READ_MS).wait()
        yield made


@pytest.fixture
def opened(qtbot, window, study):
    window.file_commands.open_path(study)
    qtbot.waitUntil(lambda: window.results.dataset is not None, timeout=READ_MS)
    return window


def drawn(panel) -> str:
    """What stands in a panel: its figure's title, or what it says instead."""
    figure = panel.figure_area.figure
    return figure.title or figure.empty


def test_run_look_walk_save_quit_reopen(qtbot, model, tmp_path):
    target = tmp_path / "kept.eigenscope"
    with window_in(tmp_path, compute=True) as window:
        qtbot.waitSignal(window.ready, timeout=READ_MS).wait()
        assert drawn(window.workspace.panel) == "Choose a model on the left, then press Run."
        assert window.document.session is None
        window.model_pane.source.setCurrentText(str(model))
        window.parameters.form.editors["null_draws"].widget.setValue(200)
        window.model_pane.device.widget.setCurrentText("cpu")
        snapshots = []
        window.runs.snapshot.connect(snapshots.append)
        qtbot.mouseClick(window.parameters.button, Qt.MouseButton.LeftButton)
        qtbot.waitUntil(lambda: window.runs.rows[0].state == "done", timeout=START_MS)
        assert snapshots[-1].final
        panel = window.workspace.panel
        assert "layer 0, head 0" in drawn(panel)
        assert "outside the product law" in window.inspector.verdict.text()

        for key in (
            Qt.Key.Key_Right,
            Qt.Key.Key_Right,
            Qt.Key.Key_Right,
            Qt.Key.Key_Down,
            Qt.Key.Key_Up,
            Qt.Key.Key_Down,
        ):
            qtbot.keyClick(window.workspace, key)
        assert window.selection.current == Selection(layer=LAYERS - 1, head=HEADS - 1)
        assert f"layer {LAYERS - 1}, head {HEADS - 1}" in drawn(panel)
        assert window.inspector.title.text() == f"Layer {LAYERS - 1}, head {HEADS - 1}"

        panel.set_view("layers")
        panel.forms["layers"].editors["statistic"].write("kappa")
        window.figure_commands.toggle_split()
        before, dataset = window.view_state.state(), window.results.dataset
        window.file_commands.save_to(target)
        qtbot.waitUntil(lambda: window.document.session.path == target, timeout=READ_MS)
        assert window.windowTitle().startswith("kept")

    with window_in(tmp_path) as window:
        qtbot.waitSignal(window.ready, timeout=READ_MS).wait()
        assert target in window.settings.recent
        window.file_commands.open_path(target)
        qtbot.waitUntil(lambda: window.results.dataset is not None, timeout=READ_MS)
        assert window.view_state.state() == before
        assert window.runs.rows[0].state == "done"
        assert "κ" in drawn(window.workspace.panel)
        for name in dataset.data_vars:
            np.testing.assert_array_equal(window.results.dataset[name].values, dataset[name].values)


def test_only_visible_views_are_drawn_and_all_visible_ones_follow(qtbot, opened):
    first, second = opened.workspace.page.panels
    shown = second.figure_area.figure
    opened.navigation.next_head()
    assert "head 1" in drawn(first)
    assert second.figure_area.figure is shown
    opened.figure_commands.toggle_split()
    assert "head 1" in drawn(second)
    opened.navigation.previous_head()
    assert "head 0" in drawn(first)
    assert "head 0" in drawn(second)


def test_every_view_draws_the_result(opened):
    panel = opened.workspace.panel
    for name, view in panel.views.items():
        panel.set_view(name)
        figure = panel.figure_area.figure
        assert figure.rows or figure.table if view.offered is None else "stands alone" in figure.empty, name
        assert panel.figure_area.plot.canvas.figure is panel.figure_area.figure


def test_a_click_in_the_navigator_selects(opened):
    (row,) = opened.navigator.figure_area.figure.rows
    opened.navigator.figure_area.picked.emit(row[0].marks[0].picks[1][2])
    assert opened.selection.current == Selection(layer=2, head=1)
    assert "layer 2, head 1" in drawn(opened.workspace.panel)


def test_arrows_belong_to_the_field_that_has_the_focus(qtbot, opened):
    opened.activateWindow()
    box = opened.parameters.form.editors["null_draws"].widget
    box.setFocus()
    qtbot.waitUntil(box.hasFocus)
    value = box.value()
    qtbot.keyClick(box, Qt.Key.Key_Up)
    assert box.value() > value
    assert opened.selection.current == Selection()


def test_a_second_window_is_refused_and_can_look(qtbot, opened, study, tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    with window_in(tmp_path / "other") as second:
        asked = answer_boxes(monkeypatch, QMessageBox.StandardButton.Cancel)
        second.file_commands.open_path(study)
        qtbot.waitUntil(lambda: bool(asked), timeout=READ_MS)
        assert "already open" in asked[0]
        assert second.document.session is None
        answer_boxes(monkeypatch, QMessageBox.StandardButton.Open)
        second.file_commands.open_path(study)
        qtbot.waitUntil(lambda: second.document.session is not None, timeout=READ_MS)
        assert second.document.session.readonly
        assert "read-only" in second.windowTitle()
        qtbot.waitUntil(lambda: second.results.dataset is not None, timeout=READ_MS)
        second.parameters.show_analysis("weights")
        second.run_commands.run()
        assert "read-only" in second.messages.text.text()
        assert [row.state for row in second.runs.rows] == ["done"]


def test_zip_and_back(qtbot, opened, tmp_path):
    archive = tmp_path / "for-you.zip"
    opened.file_commands.pack_to(archive)
    qtbot.waitUntil(lambda: archive.exists() and not opened.tasks.busy, timeout=READ_MS)
    assert "verified" in opened.messages.text.text()
    opened.file_commands.open_path(archive)
    qtbot.waitUntil(lambda: opened.document.session.readonly, timeout=READ_MS)
    qtbot.waitUntil(lambda: opened.results.dataset is not None, timeout=READ_MS)
    opened.file_commands.unpack_to(archive, tmp_path)
    qtbot.waitUntil(lambda: opened.document.session.path == tmp_path / "for-you.eigenscope", timeout=READ_MS)
    assert not opened.document.session.readonly


def test_verify_says_what_it_found(qtbot, opened, study):
    opened.file_commands.verify()
    qtbot.waitUntil(lambda: not opened.tasks.busy and opened.messages.isVisible(), timeout=READ_MS)
    assert "as they were committed" in opened.messages.text.text()
    opened.messages.hide()
    chunk = next(p for p in study.glob("runs/*/units/*/qk_eigenvalues/c/**/*") if p.is_file())
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"?")
    opened.file_commands.verify()
    qtbot.waitUntil(lambda: not opened.tasks.busy and opened.messages.isVisible(), timeout=READ_MS)
    assert "damaged" in opened.messages.text.text()


def test_a_damaged_result_is_a_sentence(qtbot, window, study):
    chunk = next(p for p in study.glob("runs/*/result.zarr/qk_eigenvalues/c/**/*") if p.is_file())
    chunk.write_bytes(b"nothing")
    window.file_commands.open_path(study)
    qtbot.waitUntil(window.messages.isVisible, timeout=READ_MS)
    assert "qk_eigenvalues" in window.messages.text.text()
    assert "Traceback" not in window.messages.text.text()


def test_a_session_of_a_newer_schema_is_a_sentence(qtbot, window, study):
    head = json.loads((study / "session.json").read_text())
    newer = json.dumps(head).replace('"schema": 1', '"schema": 99')
    (study / "session.json").write_text(newer)
    window.file_commands.open_path(study)
    qtbot.waitUntil(window.messages.isVisible, timeout=READ_MS)
    assert "newer" in window.messages.text.text()
    assert window.document.session is None


def test_what_is_no_session_is_a_sentence(qtbot, window, tmp_path):
    window.file_commands.open_path(tmp_path)
    qtbot.waitUntil(window.messages.isVisible, timeout=READ_MS)
    assert str(tmp_path) in window.messages.text.text()
    assert window.document.session is None


def test_a_message_can_be_copied_with_its_details(qtbot, qapp, window):
    window.messages.show_message("It failed.", "Because.")
    assert window.messages.details.isHidden()
    window.messages.more.click()
    assert window.messages.details.isVisible()
    window.messages.copy.click()
    assert qapp.clipboard().text() == "It failed.\n\nBecause."


def test_closing_during_a_run_asks(qtbot, window, model, monkeypatch):
    window.model_pane.source.setCurrentText(str(model))
    window.run_commands.run()
    assert window.runs.busy
    asked = answer_boxes(monkeypatch, QMessageBox.StandardButton.Cancel)
    assert not window.close()
    assert window.isVisible()
    assert "can be resumed" in asked[0]
    answer_boxes(monkeypatch, QMessageBox.StandardButton.Close)
    assert window.close()


def test_recent_sessions_are_offered(qtbot, opened, study):
    opened.actions_.menus["File"].aboutToShow.emit()
    assert [action.text() for action in opened._recent.actions()] == [str(study)]
    opened.file_commands.new()
    assert opened.document.session is None
    assert opened.runs.rows == []
    opened._recent.actions()[0].trigger()
    qtbot.waitUntil(lambda: opened.document.session is not None, timeout=READ_MS)
    assert opened.document.session.path == study


def test_a_home_that_cannot_be_made_is_a_sentence(window, tmp_path):
    (tmp_path / "sessions").write_text("in the way")
    window.run_commands.run()
    assert "Could not create a session" in window.messages.text.text()
    assert window.runs.rows == []


def test_layout_and_theme_persist(qtbot, tmp_path):
    with window_in(tmp_path) as window:
        window.dock_layout.docks["runs"].hide()
        window.theme_dark()
    with window_in(tmp_path) as window:
        assert window.dock_layout.docks["runs"].isHidden()
        assert window.settings.theme == "dark"
        window.dock_layout.reset()
        assert not window.dock_layout.docks["runs"].isHidden()
