"""What the inspector shows, as plain data that an analysis makes from its dataset and the selection."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One quantity of the selected thing: its value, its null's median, its p-value and corrected q; NaN if absent."""

    symbol: str
    meaning: str
    value: float
    null: float = float("nan")
    p: float = float("nan")
    q: float = float("nan")


@dataclass(frozen=True)
class Inspection:
    """`verdict` is a plain sentence; `outside` says whether the selected thing leaves its null, None if unknown.

    `columns` names what a row shows, in the order of its fields; with three of them `null` is the last one shown.
    """

    title: str
    subtitle: str = ""
    columns: tuple[str, ...] = ("", "value", "null", "p", "q")
    rows: tuple[Row, ...] = ()
    verdict: str = ""
    outside: bool | None = None
    help: str = "index"
