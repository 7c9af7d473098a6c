"""Work in a thread: its answers arrive on the GUI thread, in order."""

import threading
import time

from PySide6.QtCore import QThread

from gui.state.background_tasks import BackgroundTasks


def test_tasks_answer_on_the_gui_thread_in_order_and_carry_errors(qtbot, qapp):
    tasks, threads, answers = BackgroundTasks(), set(), []

    def work() -> int:
        threads.add(threading.get_ident())
        return 42

    def keep(answer: object) -> None:
        assert QThread.currentThread() is qapp.thread()
        answers.append(answer)

    def fail() -> None:
        raise ValueError("no")

    titles = []
    tasks.running_changed.connect(titles.append)
    tasks.submit("first", work, keep, keep)
    tasks.submit("second", fail, keep, keep)
    qtbot.waitUntil(lambda: len(answers) == 2, timeout=5000)
    assert answers[0] == 42
    assert isinstance(answers[1], ValueError)
    assert threads != {threading.get_ident()}
    assert titles == ["first", "first", "second", ""]
    tasks.close()


def test_closed_tasks_are_forgotten(qtbot):
    tasks, answers = BackgroundTasks(), []
    tasks.submit("", lambda: time.sleep(0.1), answers.append, answers.append)
    tasks.close()
    qtbot.wait(50)
    assert answers == []
