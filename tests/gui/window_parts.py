"""What the tests of the window share: a small model, a session with a finished run of it, and a window."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

from PySide6.QtCore import QCoreApplication, QEvent, QSettings
from PySide6.QtWidgets import QApplication, QMessageBox

from engine.errors import UserError
from engine.request import ModelSpec, Request
from engine.runs.jobs.job import Job, Reply, State
from gui.plots import theme
from gui.state.compute_host import ComputeHost
from gui.state.settings import Settings
from gui.window import MainWindow

LAYERS, HEADS = 3, 2


def save_model(folder: Path, layers: int = LAYERS, width: int = 32) -> Path:
    """A GPT-2 of random weights with one head that has a spike, saved as an ordinary folder."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        n_layer=layers, n_head=HEADS, n_embd=width, vocab_size=64, n_positions=16, bos_token_id=0, eos_token_id=0
    )
    model = GPT2LMHeadModel(config)
    d_head = width // HEADS
    spike = torch.randn(width, 1) @ torch.randn(1, d_head)
    weight = model.transformer.h[0].attn.c_attn.weight.data
    weight[:, :d_head] += spike  # head 0 of layer 0: a large singular value in W_Q and W_K
    weight[:, width : width + d_head] += spike
    model.save_pretrained(folder)
    return folder


def request_for(model: Path, **params: object) -> Request:
    return Request(
        analysis="weights",
        params={"null_draws": 200, **params},
        models=(ModelSpec(source=str(model)),),
        device="cpu",
    )


def told(job: Job, what: object) -> Reply:
    """What the compute process replies while a job runs."""
    return Reply(job.id, State.RUNNING, told=what)


def answered(job: Job, answer: object) -> Reply:
    return Reply(job.id, State.DONE, answer=answer)


def refused(job: Job, message: str, detail: str = "") -> Reply:
    return Reply(job.id, State.FAILED, error=UserError(message, detail))


@contextmanager
def window_in(folder: Path, *, compute: bool = False) -> Iterator[MainWindow]:
    """A shown window whose settings and sessions lie in `folder`; without `compute` no compute process starts."""
    app = QApplication.instance()
    assert isinstance(app, QApplication)
    settings = Settings(QSettings(str(folder / "settings.ini"), QSettings.Format.IniFormat))
    with ExitStack() as silent:
        for name in () if compute else ("start", "ask", "cancel"):
            silent.enter_context(patch.object(ComputeHost, name, lambda *_: None))
        window = MainWindow(app, settings, folder / "sessions", theme.apply(app, "light"))
        window.show()
        try:
            yield window
        finally:
            window.runs.cancel_all()
            window._confirm_close = lambda: True  # type: ignore[method-assign]
            window.close()
            window.deleteLater()
            QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


def answer_boxes(monkeypatch: object, button: QMessageBox.StandardButton) -> list[str]:
    """Answer every question box with `button`; returns what they asked."""
    asked: list[str] = []

    def answer(box: QMessageBox) -> QMessageBox.StandardButton:
        asked.append(box.text())
        return button

    monkeypatch.setattr(QMessageBox, "exec", answer)  # type: ignore[attr-defined]
    return asked
