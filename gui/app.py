"""The application: one process, one window."""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from platformdirs import user_data_path
from PySide6.QtCore import QSettings
from PySide6.QtGui import QIcon
from PySide6.QtWidgets import QApplication

from engine.resources import RESOURCES
from gui.plots import theme
from gui.state.settings import Settings
from gui.state.threads import abandoned
from gui.window import MainWindow


def start(argv: Sequence[str]) -> tuple[QApplication, MainWindow]:
    """Make the application and show its window; the caller runs the event loop."""
    app = QApplication([sys.argv[0], *argv])
    app.setOrganizationName("Eigenscope")
    app.setApplicationName("Eigenscope")
    app.setDesktopFileName("eigenscope")
    app.setWindowIcon(QIcon(str(RESOURCES / "icons" / "eigenscope.svg")))
    settings = Settings(QSettings())
    home = user_data_path("eigenscope", appauthor=False) / "sessions"
    window = MainWindow(app, settings, Path(home), theme.apply(app, settings.theme))
    window.show()
    return app, window


def main(argv: Sequence[str]) -> int:
    """Show the window and return the exit code when it is closed."""
    # Ctrl-C in the terminal ends the program at once, which is safe at any time: what is committed is on disk.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    app, _window = start(argv)
    code = app.exec()
    if abandoned:  # a thread that would not stop: destroying it would abort the process, and what it held is on disk
        os._exit(code)
    return code
