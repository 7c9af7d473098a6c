"""The last boundary: what escapes a slot or a thread of the window is shown instead of printed."""

import sys
import threading
from types import TracebackType

from PySide6.QtCore import QObject, Signal


class EscapedErrors(QObject):
    """From its making on, `caught` carries, on its own thread, whatever exception nobody else has caught.

    A panic of a library in Rust, which is no `Exception`, is one of them.
    """

    caught = Signal(object)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        sys.excepthook = self._catch
        threading.excepthook = self._catch_in_thread

    def _catch(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        self.caught.emit(error)

    def _catch_in_thread(self, escaped: threading.ExceptHookArgs) -> None:
        if escaped.exc_value is not None and not isinstance(escaped.exc_value, SystemExit):
            self.caught.emit(escaped.exc_value)
