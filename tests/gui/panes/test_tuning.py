"""Fine-tuning in the window: conditions of the model pane, the dialog with its curve, and the real thing."""

from unittest.mock import patch

import pytest
from jacobians_parts import model_info
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QDialog, QListWidget, QMessageBox
from window_parts import answer_boxes, answered, refused, told, window_in

from engine import recipes
from engine.request import DataSpec, Tuning
from engine.runs.jobs.tune import Tune, TuneProgress
from gui.panes.form import Form
from gui.panes.model import ModelPane
from gui.state.compute_host import ComputeHost

START_MS = 60_000


@pytest.fixture
def model_pane(qtbot):
    made = ModelPane()
    qtbot.addWidget(made)
    return made


def test_conditions_appear_once_for_each_seed(model_pane):
    model_pane.set_reads_text(True)
    model_pane.twin.setChecked(True)
    model_pane.tuned.setChecked(True)
    assert [spec.label for spec in model_pane.specs()] == ["builtin", "builtin (fine-tuned)", "builtin (random twin)"]
    model_pane.seeds.setValue(3)
    specs = model_pane.specs()
    assert [spec.seed for spec in specs] == [0, 1, 2] * 3
    assert [spec.condition for spec in specs[::3]] == ["builtin", "builtin (fine-tuned)", "builtin (random twin)"]
    model_pane.set_reads_text(False)
    assert [spec.seed for spec in model_pane.specs()] == [None, 0, 1, 2, 0, 1, 2]


def test_how_it_is_tuned_is_a_dialog_and_the_text_is_shown_for_it(model_pane, monkeypatch):
    assert model_pane.text.spec() is None
    assert model_pane.text.isHidden()

    def fill(dialog: QDialog) -> int:
        form = dialog.findChild(Form)
        form.set_value(Tuning(epochs=3, length=32))
        return 1

    monkeypatch.setattr(QDialog, "exec", fill)
    model_pane._edit_tuning()
    assert model_pane.tuned.isChecked()
    assert model_pane.specs()[-1].tuning == Tuning(epochs=3, length=32)
    assert not model_pane.text.isHidden()
    assert model_pane.text.spec() is not None


def test_a_request_with_conditions_is_recalled(qtbot, tmp_path):
    with window_in(tmp_path) as window:
        qtbot.waitSignal(window.ready, timeout=20_000).wait()
        model_pane = window.model_pane
        model_pane.revisions.setText("step0, step64")
        model_pane.tuned.setChecked(True)
        model_pane.tuning = Tuning(epochs=0.5)
        model_pane.seeds.setValue(2)
        request = window.run_commands.request()
        assert request.data is not None
        model_pane.tuned.setChecked(False)
        model_pane.seeds.setValue(1)
        model_pane.tuning = Tuning()
        model_pane.set_request(request)
        assert model_pane.specs() == request.models


def test_the_memory_line_counts_fine_tuning_and_the_samples_asked_for(qtbot, tmp_path):
    with window_in(tmp_path) as window:
        qtbot.waitSignal(window.ready, timeout=20_000).wait()
        model_pane = window.model_pane
        model_pane.info = model_info("builtin", False, 6)

        def needed() -> float:
            window.run_commands.update_memory()
            return float(model_pane.memory.text().split()[2])

        window.parameters.show_analysis("jacobians")
        model_pane.set_reads_text(True)
        few = needed()
        model_pane.text.form.set_value(DataSpec(samples=100_000))
        many = needed()
        assert many > few
        model_pane.tuning = Tuning(batch=100_000)
        model_pane.tuned.setChecked(True)
        assert needed() > many


def test_the_dialog_follows_and_offers_what_was_made(qtbot, tmp_path, monkeypatch):
    asked = []
    with window_in(tmp_path) as window, patch.object(ComputeHost, "ask", lambda _, job: asked.append(job)):
        qtbot.waitSignal(window.ready, timeout=20_000).wait()
        window.actions_.by_id["tune"].trigger()
        dialog = window.run_commands.tuner.dialog
        assert "builtin, on the training part of the text “builtin”" in dialog.subject.text()
        assert dialog.curve.figure().empty
        dialog.form.editors["epochs"].write("0")
        assert not dialog.start_button.isEnabled()
        dialog.form.set_value(Tuning(epochs=1))
        dialog.seed.write(5)
        qtbot.mouseClick(dialog.start_button, Qt.MouseButton.LeftButton)
        (job,) = [job for job in asked if isinstance(job, Tune)]
        assert job.spec.tuning == Tuning(epochs=1)
        assert job.seed == 5
        assert job.out == tmp_path / "sessions" / "fine-tuned-1"
        assert not dialog.start_button.isEnabled()
        boxes = answer_boxes(monkeypatch, QMessageBox.StandardButton.Cancel)
        assert not window.close()
        assert "Fine-tuning is in progress" in boxes[0]
        for step, loss, held in ((0, float("nan"), 5.0), (1, 4.5, None), (2, 4.0, 3.0)):
            window.host.replied.emit(told(job, TuneProgress(step, 2, loss, held)))
        training, held_out, _ = dialog.curve.figure().rows[0][0].marks
        assert training.y.tolist() == [4.5, 4.0]
        assert (held_out.x.tolist(), held_out.y.tolist()) == ([0, 2], [5.0, 3.0])
        window.host.replied.emit(answered(job, ("step0", "step2")))
        assert "from 5.0000 to 3.0000" in dialog.status.text()
        assert window.model_pane.source.currentText() == str(job.out)
        assert window.model_pane.revisions.text() == "step0, step2"
        assert str(job.out) in window.settings.models
        dialog.plot.help_requested.emit()
        assert "Conditions and seeds" in window.help.browser.toPlainText()
        window.help.hide()
        dialog._start()
        window.host.replied.emit(refused(asked[-1], "The text is too short.", "3 tokens"))
        assert window.messages.details.toPlainText() == "3 tokens"
        assert dialog.status.text() == "The text is too short."
        dialog.close()


def test_recipes_start_from_the_window(qtbot, tmp_path, monkeypatch):
    def pick(dialog: QDialog) -> int:
        listing = dialog.findChild(QListWidget)
        names = [listing.item(i).data(Qt.ItemDataRole.UserRole) for i in range(listing.count())]
        assert names == list(recipes.titles())
        listing.setCurrentRow(names.index("training"))
        return 1

    monkeypatch.setattr(QDialog, "exec", pick)
    with window_in(tmp_path) as window:
        qtbot.waitSignal(window.ready, timeout=20_000).wait()
        window.actions_.by_id["recipe"].trigger()
        (row,) = window.runs.rows
        assert row.request == recipes.recipe("training")
        assert window.model_pane.specs() == row.request.models


def test_a_model_is_really_tuned_stopped_and_resumed(qtbot, tmp_path):
    words = "the cat sat on a mat and the dog saw it all from the door of the house\n" * 150
    (tmp_path / "text.txt").write_text(words)
    with window_in(tmp_path, compute=True) as window:
        qtbot.waitSignal(window.ready, timeout=20_000).wait()
        window.model_pane.text.form.editors["source"].write(str(tmp_path / "text.txt"))
        window.run_commands.tune()
        dialog = window.run_commands.tuner.dialog
        dialog.form.set_value(Tuning(epochs=4, length=32, batch=8))
        dialog._start()
        qtbot.waitUntil(lambda: dialog.progress_bar.value() >= 1, timeout=START_MS)
        dialog._stop()
        qtbot.waitUntil(lambda: not dialog.running, timeout=START_MS)
        assert "stopped" in dialog.status.text()
        dialog._start()
        qtbot.waitUntil(lambda: not dialog.running, timeout=START_MS)
        assert "Done" in dialog.status.text()
        last = window.model_pane.revisions.text().split(", ")[-1]
        assert (tmp_path / "sessions" / "fine-tuned-1" / last / "model.safetensors").exists()
        held = list(dialog.curve.held_out.values())
        assert held[-1] < held[0]
        dialog.close()
