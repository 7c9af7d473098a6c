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
from gui.state.escaped import EscapedErrors
from gui.state.settings import Settings
from gui.state.threads import abandoned
from gui.window import MainWindow


def start(argv: Sequence[str]) -> tuple[QApplication, MainWindow]:
    """Create the application and show its window; the caller runs the event loop."""
    app = QApplication([sys.argv[0], *argv])
    app.setOrganizationName("Eigenscope")
    app.setApplicationName("Eigenscope")
    app.setDesktopFileName("eigenscope")
    app.setWindowIcon(QIcon(str(RESOURCES / "icons" / "eigenscope.svg")))
    settings = Settings(QSettings())
    home = user_data_path("eigenscope", appauthor=False) / "sessions"
    window = MainWindow(app, settings, Path(home), theme.apply(app, settings.theme))
    EscapedErrors(window).caught.connect(window.messages.show_error)
    window.show()
    return app, window


def main(argv: Sequence[str]) -> int:
    """Show the window and return the exit code once it is closed."""
    # Ctrl-C in the terminal ends the program at once. That is always safe: committed units are on disk.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    app, _window = start(argv)
    code = app.exec()
    if abandoned:  # destroying a thread that would not stop aborts the process; its committed work is on disk
        os._exit(code)
    return code
