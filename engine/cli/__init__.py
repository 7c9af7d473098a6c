"""The command line: the same engine as the window's, without a window."""

from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Carry out one command and return its exit code: 0 done, 1 failed, 2 unusable arguments, 130 cancelled.

    Raises
    ------
    UserError
        What failed; the entry point prints it as one line and exits with 1.
    """
    from engine.cli.commands import app

    try:
        app(list(arguments), prog_name="main.py")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0
