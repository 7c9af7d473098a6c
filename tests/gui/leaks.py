"""Find what a test of the window left running, and who started it."""

import traceback
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from PySide6.QtCore import QObject, QThread, QTimer
from PySide6.QtWidgets import QApplication, QWidget
from shiboken6 import isValid

Started = list[tuple[weakref.ref[Any], str]]


def _caller() -> str:
    """The innermost line that is neither here nor in a library."""
    for frame in reversed(traceback.extract_stack()):
        if "site-packages" not in frame.filename and frame.filename != __file__:
            return f"{frame.filename}:{frame.lineno} in {frame.name}: {frame.line}"
    return "an unknown place"


def watch(monkeypatch: pytest.MonkeyPatch) -> Started:
    """Write down, from now on, who starts threads and timers and shows widgets."""
    started: Started = []
    for cls, method in ((QThread, "start"), (QTimer, "start"), (QWidget, "show")):
        _remember(monkeypatch, cls, method, started)
    return started


def _remember(monkeypatch: pytest.MonkeyPatch, cls: type, method: str, started: Started) -> None:
    original: Callable[..., Any] = getattr(cls, method)

    def start(self: QObject, *args: Any, **kwargs: Any) -> Any:
        started.append((weakref.ref(self), _caller()))
        return original(self, *args, **kwargs)

    monkeypatch.setattr(cls, method, start)


def leaks(started: Started, windows: set[QWidget]) -> list[str]:
    """What is still alive of `started`, and the visible windows that are not among `windows`.

    A timer in another thread goes with its thread, which may belong to a fixture of the whole module.
    """
    found = {}
    for reference, place in started:
        thing = reference()
        if thing is None or not isValid(thing):
            continue
        if isinstance(thing, QThread) and thing.isRunning():
            found[id(thing)] = f"a running {type(thing).__name__}, started at {place}"
        elif isinstance(thing, QTimer) and thing.isActive() and thing.thread() is QThread.currentThread():
            found[id(thing)] = f"an active {type(thing).__name__}, started at {place}"
    shown = {id(thing): place for reference, place in started if (thing := reference()) is not None}
    for window in QApplication.topLevelWidgets():
        if isValid(window) and window.isVisible() and window not in windows:
            where = shown.get(id(window), "an unknown place")
            found[id(window)] = f"a visible {type(window).__name__} “{window.windowTitle()}”, shown at {where}"
    return list(found.values())
