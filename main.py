"""The one entry point: the window without arguments, the command line with them."""

import sys

from engine.errors import UserError


def main(argv: list[str] | None = None) -> int:
    """Run the program and return its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        if arguments:
            from engine.cli import main as run_command

            return run_command(arguments)
        from gui.app import main as open_window

        return open_window([])
    except UserError as error:
        print(f"eigenscope: {error}", file=sys.stderr)
        return 1


# The compute process is spawned and imports this file again: without the guard it would open a second window.
if __name__ == "__main__":
    sys.exit(main())
