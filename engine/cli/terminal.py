"""What the command line writes: every line as plain text, whatever a name or a sentence in it holds."""

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from engine.printable import printable

MOST = 10_000
"""Characters of one line."""
WIDE = 200  # where numbers must not be cut: a narrow terminal wraps the line itself


def line(text: str = "") -> None:
    """Write a line of a result to standard output."""
    print(printable(text, MOST))


def reports() -> Console:
    """Return the console on standard error."""
    return Console(stderr=True, markup=False, emoji=False, highlight=False)


def say(console: Console, text: str) -> None:
    """Write a line about how it goes."""
    console.print(Text(printable(text, MOST)), soft_wrap=True)


class PlainTable(Table):
    """A table without lines, in whose cells nothing is markup."""

    def __init__(self, *headings: str) -> None:
        super().__init__(*headings, box=None, pad_edge=False, title_justify="left")

    def add_column(self, header: Any = "", *args: Any, **kwargs: Any) -> None:
        super().add_column(Text(printable(header, lines=True)), *args, **kwargs)

    def add_row(self, *cells: Any, **kwargs: Any) -> None:
        super().add_row(*(Text(printable(cell, lines=True)) for cell in cells), **kwargs)


def show(table: PlainTable, width: int | None = None) -> None:
    """Write a table to standard output."""
    console = Console(width=width, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    console.print(table)
