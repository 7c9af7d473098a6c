"""Every test of the window runs off screen, and none may leave anything running.

A thread, an active timer or a visible window that outlives its test makes later tests fail in places that have nothing
to do with it. So a test that leaves one behind fails, and the message names the line that started it.

No figure that any of them draws may say S0 to S4 to a person: it names the study.
"""

import gc
import os
from collections.abc import Iterator
from typing import Any

import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from leaks import leaks, watch
from PySide6.QtCore import QCoreApplication, QEvent
from PySide6.QtWidgets import QApplication

from gui.plots.figure import Figure
from tests.citations import KEY, texts


@pytest.fixture(autouse=True)
def _studies_have_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    bare: list[str] = []
    make = Figure.__init__

    def record(self: Figure, *parts: Any, **named: Any) -> None:
        make(self, *parts, **named)
        bare.extend(text for text in texts(self) if KEY.search(text))

    monkeypatch.setattr(Figure, "__init__", record)
    yield
    if bare:
        pytest.fail("A figure says S0 to S4 instead of naming the study: " + "; ".join(bare), pytrace=False)


@pytest.fixture(autouse=True)
def _nothing_left_behind(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    started = watch(monkeypatch)
    windows = set(QApplication.topLevelWidgets()) if QApplication.instance() else set()
    yield
    if QApplication.instance() is None:
        return
    if leaks(started, windows):  # perhaps only waiting to be deleted
        gc.collect()
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        QCoreApplication.processEvents()
    if started:
        gc.collect()  # here and now: another thread of a later test must not destroy what this one leaves in cycles
    if found := leaks(started, windows):
        for window in set(QApplication.topLevelWidgets()) - windows:
            window.hide()
        pytest.fail("The test left behind " + "; ".join(found), pytrace=False)
