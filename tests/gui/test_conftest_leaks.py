"""The leak check of the window's tests finds what it is there for, and says who made it."""

from leaks import leaks, watch
from PySide6.QtCore import QThread, QTimer
from PySide6.QtWidgets import QWidget


def test_a_timer_a_thread_and_a_window_are_found_and_named(qapp, monkeypatch):
    started = watch(monkeypatch)
    timer, thread, window = QTimer(), QThread(), QWidget()
    window.setWindowTitle("left open")
    timer.start(10_000)
    thread.start()
    window.show()
    try:
        found = leaks(started, set())
        assert len(found) == 3
        assert all("test_conftest_leaks.py" in text for text in found)
        assert any("active QTimer" in text for text in found)
        assert any("running QThread" in text for text in found)
        assert any("visible QWidget “left open”" in text for text in found)
    finally:
        timer.stop()
        thread.quit()
        assert thread.wait(2000)
        window.close()
    assert leaks(started, set()) == []


def test_a_window_that_was_there_before_is_not_blamed(qapp):
    window = QWidget()
    window.show()
    assert leaks([], {window}) == []
    window.close()
