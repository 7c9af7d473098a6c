"""Warnings of libraries go to a file: they are for who looks into a number, not for the terminal.

What a user has to know of a result is said by the analysis itself, in a note or a sentence.
"""

import io
import logging
from contextlib import suppress
from pathlib import Path

MOST_BYTES = 1_000_000
"""A log that has grown beyond this begins anew."""
NAME = "eigenscope-warnings"


class _Log(logging.FileHandler):
    """Makes its folder and its file when the first warning comes."""

    def _open(self) -> io.TextIOWrapper:
        path = Path(self.baseFilename)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.mode = "w" if path.exists() and path.stat().st_size > MOST_BYTES else "a"
        return super()._open()

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):  # where the log cannot be written, that is not said on the terminal either
            super().emit(record)


def keep_warnings() -> None:
    """Send Python's warnings, and what libraries log without a place for it, to ``warnings.log`` of this user."""
    from platformdirs import user_log_path

    root = logging.getLogger()
    if any(handler.name == NAME for handler in root.handlers):
        return
    path = user_log_path("eigenscope", appauthor=False) / "warnings.log"
    handler = _Log(path, encoding="utf-8", errors="backslashreplace", delay=True)
    handler.set_name(NAME)
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(name)s: %(message)s"))
    logging.raiseExceptions = False
    root.addHandler(handler)
    logging.captureWarnings(True)
