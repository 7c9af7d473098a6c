"""Garbage in cycles is collected on the GUI thread, and on no other while the window is there."""

import gc
import threading
import weakref

from PySide6.QtCore import QObject
from window_parts import window_in

from gui.state.garbage import Collector


class _Cycle:
    def __init__(self) -> None:
        self.me = self


def test_another_thread_collects_nothing(qtbot):
    parent = QObject()
    collector = Collector(parent)
    died_on: list[str] = []
    lost = _Cycle()
    weakref.finalize(lost, lambda: died_on.append(threading.current_thread().name))
    del lost

    kept: list[list[int]] = []

    def allocate() -> None:
        kept.extend([] for _ in range(200_000))  # far beyond what makes Python collect on its own

    worker = threading.Thread(target=allocate, name="worker")
    worker.start()
    worker.join()
    assert died_on == []
    collector.collect()
    assert died_on == [threading.main_thread().name]
    collector.close()
    assert gc.isenabled()


def test_the_window_takes_over_and_gives_back(qtbot, tmp_path):
    with window_in(tmp_path):
        assert not gc.isenabled()
    assert gc.isenabled()
