"""The entry point: opens the window without arguments, runs the command line with them."""

import os
import sys
import traceback

from engine.errors import UserError, is_failure, reason
from engine.logs import keep_warnings
from engine.printable import printable


def main(argv: list[str] | None = None) -> int:
    """Run the program and return its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    keep_warnings()
    try:
        os.getcwd()
    except OSError:  # libraries end the process when they notice
        return _fail("The folder that this was started in is gone. Change to one that is there and try again.", "")
    try:
        if arguments:
            from engine.cli import main as run_command

            return run_command(arguments)
        from gui.app import main as open_window

        return open_window([])
    except UserError as error:
        return _fail(error.message, error.detail)
    except BaseException as error:
        if not is_failure(error):
            raise
        return _fail(
            f"Unexpected error ({type(error).__name__}: {reason(error)}). Please report it.", traceback.format_exc()
        )


def _fail(message: str, detail: str) -> int:
    """Print one line for the user and write the rest to a file that can be attached to a bug report."""
    print(f"eigenscope: {printable(message, 10_000)}", file=sys.stderr)
    if detail:
        from platformdirs import user_log_path

        log = user_log_path("eigenscope", appauthor=False) / "last-error.txt"
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text(detail, encoding="utf-8", errors="backslashreplace")  # names may not be Unicode
        except OSError:  # the line printed above must do
            return 1
        print(f"Details: {log}", file=sys.stderr)
    return 1


# The compute process is spawned and imports this file again: without the guard it would open a second window.
if __name__ == "__main__":
    sys.exit(main())
