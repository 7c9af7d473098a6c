"""Run → Verify closed forms: what is asked, and what is said about it."""

import numpy as np
import pytest
from window_parts import LAYERS, answered, save_model, window_in

from engine.request import DataSpec
from engine.runs.jobs.verify import Verified, Verify
from gui.commands.actions import WindowState

START_MS = 60_000


def ask(window, model, data) -> None:
    window.model_pane.source.setCurrentText(str(model))
    window.model_pane.text.form.set_value(DataSpec(source=str(data), length=8))
    window.model_pane.device.write("cpu")
    window.actions_.by_id["verify_closed"].trigger()


def test_the_compute_process_verifies_the_model_in_the_loader(qtbot, tmp_path):
    np.save(tmp_path / "ids.npy", np.arange(1, 9)[None])
    with window_in(tmp_path, compute=True) as window:
        model, messages = save_model(tmp_path / "tiny"), window.messages
        ask(window, model, tmp_path / "ids.npy")
        assert "Verifying the closed forms of tiny" in messages.text.text()
        qtbot.waitUntil(lambda: "Verifying" not in messages.text.text(), timeout=START_MS)
        assert messages.text.text().startswith("Closed forms and automatic differentiation agree to")
        assert messages.text.text().endswith(f"over {LAYERS} layers, both contexts.")
        assert messages.property("kind") == "notice"
        heading, *rows = messages.details.toPlainText().splitlines()
        assert heading.split() == ["context", "layer", "attn", "mlp", "block", "residual"]
        assert len(rows) == 2 * LAYERS
        assert all(float(cell) < 1e-9 for row in rows for cell in row.split()[2:])

        ask(window, tmp_path / "nothing", tmp_path / "ids.npy")
        qtbot.waitUntil(lambda: messages.property("kind") == "error", timeout=START_MS)
        assert "nothing" in messages.text.text()


@pytest.fixture
def window(qtbot, tmp_path):
    with window_in(tmp_path) as made:
        yield made


def test_a_difference_is_an_error_with_its_table(window, monkeypatch):
    asked = []
    monkeypatch.setattr(window.host, "ask", asked.append)
    ask(window, "builtin", "text.txt")
    (job,) = asked
    window.host.replied.emit(answered(job, Verified(False, "They differ by 2e-3.", "context  layer")))
    assert window.messages.text.text() == "They differ by 2e-3."
    assert window.messages.details.toPlainText() == "context  layer"
    assert window.messages.property("kind") == "error"


def test_what_is_asked(window, monkeypatch):
    asked = []
    monkeypatch.setattr(window.host, "ask", asked.append)
    ask(window, "builtin-encoder", "text.txt")
    (message,) = asked
    assert isinstance(message, Verify)
    assert (message.spec.source, message.data.source, message.data.samples) == ("builtin-encoder", "text.txt", 1)
    assert message.device == "cpu"
    ask(window, "", "text.txt")
    assert len(asked) == 1
    assert "No model is named" in window.messages.text.text()


def test_it_is_not_offered_while_a_run_goes_on(window):
    window.actions_.update(WindowState(running=True))
    assert not window.actions_.by_id["verify_closed"].isEnabled()
