"""The command line: the same engine as the window's, without a window."""

import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress


def main(arguments: Sequence[str]) -> int:
    """Carry out one command and return its exit code: 0 done, 1 failed, 2 unusable arguments, 130 cancelled.

    Raises
    ------
    UserError
        What failed; the entry point prints it as one line and exits with 1.
    """
    import typer

    from engine.cli.commands import app
    from engine.errors import UserError
    from engine.printable import printable
    from engine.sessions.files import FULL

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that cannot show a character shows its number
    try:
        code = app(list(arguments), prog_name="main.py", standalone_mode=False)
        sys.stdout.flush()  # here, where a full disk can still be told
    except typer.Abort:
        return 130
    except OSError as error:
        if error.errno not in FULL:
            raise
        with suppress(OSError):  # or what is still buffered fails again when the program ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise UserError(
            "The disk is full, so not everything could be printed. Free some space and try again."
        ) from error
    except Exception as error:
        show = getattr(error, "show", None)  # what typer has to say of the arguments, whose base class has no name
        if show is None:
            raise
        text = io.StringIO()
        show(text)
        print(printable(text.getvalue(), 10_000, lines=True), end="", file=sys.stderr)
        return 2
    return code if isinstance(code, int) else 0
