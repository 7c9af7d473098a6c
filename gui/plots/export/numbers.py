"""Save the numbers of a figure, exactly as drawn: CSV for a spreadsheet, NPZ for a notebook."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gui.plots.export.writing import write
from gui.plots.figure import Band, Boxes, Figure, Image, Line, Mark, Panel, Points, Rule, Segments, Span, Steps, Table

COLUMNS = ("panel", "title", "mark", "kind", "label", "x", "x_end", "y", "y_end", "low", "high", "z", "q1", "q3")
"""Columns of the CSV. Histogram bars, heatmap cells and boxes span `x` to `x_end`; boxes have the median in `y` and
whiskers from `low` to `high`; `z` is the value of a heatmap cell or of a coloured point."""

Row = tuple[object, ...]


def panels(figure: Figure) -> Iterator[tuple[str, Panel]]:
    """Yield the panels with their names: ``r0c2`` is in the first row, third column."""
    for r, row in enumerate(figure.rows):
        for c, panel in enumerate(row):
            yield f"r{r}c{c}", panel


def mark_arrays(mark: Mark) -> dict[str, npt.NDArray[np.floating]]:
    """Return the arrays that a mark draws, by field name."""
    names = {
        Line: ("x", "y"),
        Points: ("x", "y", "values", "size"),
        Segments: ("x", "y"),
        Band: ("x", "low", "high"),
        Steps: ("edges", "height"),
        Boxes: ("x", "low", "q1", "median", "q3", "high", "width"),
        Image: ("z", "x_edges", "y_edges"),
        Rule: ("at",),
        Span: ("low", "high"),
    }[type(mark)]
    return {name: np.asarray(value) for name in names if (value := getattr(mark, name)) is not None}


def key(panel: str, index: int, mark: Mark) -> str:
    """Return the prefix of a mark's array names in an NPZ: ``r0c2_1_line``."""
    return f"{panel}_{index}_{type(mark).__name__.lower()}"


def arrays(figure: Figure) -> dict[str, npt.NDArray[np.floating]]:
    """Return every array of a figure, named by panel, index of the mark, its kind and its field: ``r0c2_1_line_x``."""
    return {
        f"{key(name, i, mark)}_{field}": array
        for name, panel in panels(figure)
        for i, mark in enumerate(panel.marks)
        for field, array in mark_arrays(mark).items()
    }


def table_arrays(table: Table) -> dict[str, npt.NDArray[Any]]:
    """Return every column of a table, of numbers or texts, as ``table_0``, ``table_1`` …."""
    return {f"table_{i}": np.array([row[i] for row in table.rows]) for i in range(len(table.columns))}


def write_npz(figure: Figure, path: Path) -> None:
    """Write `arrays`, the columns of the table and, under ``about``, JSON with titles, labels and provenance."""
    about: dict[str, Any] = {
        "title": figure.title,
        "note": figure.note,
        "provenance": figure.provenance,
        "panels": {
            name: {
                "title": panel.title,
                "x": {"label": panel.x.label, "log": panel.x.log},
                "y": {"label": panel.y.label, "log": panel.y.log},
                "marks": {key(name, i, mark): mark.label for i, mark in enumerate(panel.marks)},
            }
            for name, panel in panels(figure)
        },
    }
    columns: dict[str, npt.NDArray[Any]] = {}
    if figure.table is not None:
        columns = table_arrays(figure.table)
        about["table"] = dict(zip(columns, figure.table.columns, strict=True))
    buffer = io.BytesIO()
    named = {"about": np.array(json.dumps(about)), **arrays(figure), **columns}
    np.savez_compressed(buffer, allow_pickle=False, **named)
    write(path, buffer.getvalue())


def write_csv(figure: Figure, path: Path) -> None:
    """Write a tidy table with a row for each point, bar or cell; leading comments give the provenance.

    The figure's own table is the file if there are no panels, else a second file ``NAME-table.csv``.
    """
    if figure.table is not None:
        beside = path.with_name(f"{path.stem}-table{path.suffix}") if figure.rows else path
        _write_rows(figure, beside, figure.table.columns, figure.table.rows)
        if not figure.rows:
            return
    rows = (
        _padded((name, panel.title, i, type(mark).__name__.lower(), mark.label, *row))
        for name, panel in panels(figure)
        for i, mark in enumerate(panel.marks)
        for row in _rows(mark)
    )
    _write_rows(figure, path, COLUMNS, rows)


def _write_rows(figure: Figure, path: Path, columns: tuple[str, ...], rows: Iterable[Row]) -> None:
    text = io.StringIO(newline="")
    for line in _comments(figure):
        text.write("# " + " ".join(line.split()) + "\n")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    table.writerows(rows)
    write(path, text.getvalue().encode())


def _comments(figure: Figure) -> Iterator[str]:
    yield figure.title
    if figure.note:
        yield figure.note
    yield from (f"{k}: {v}" for k, v in figure.provenance.items())
    yield from (f"{name}: x is {panel.x.label}, y is {panel.y.label}" for name, panel in panels(figure))


def _padded(row: Row) -> Row:
    return (*row, *[""] * (len(COLUMNS) - len(row)))


def _rows(mark: Mark) -> Iterable[Row]:
    """Yield x, x_end, y, y_end, low, high, z (and q1, q3) of every element as Python floats, which print in full."""
    a = {name: array.tolist() for name, array in mark_arrays(mark).items()}
    blank = ""
    match mark:
        case Line():
            return ((x, blank, y, blank, blank, blank, blank) for x, y in zip(a["x"], a["y"], strict=True))
        case Points():
            z = a.get("values") or [blank] * len(a["x"])
            return ((x, blank, y, blank, blank, blank, v) for x, y, v in zip(a["x"], a["y"], z, strict=True))
        case Segments():
            ends = zip(a["x"], a["y"], strict=True)
            return ((x[0], x[1], y[0], y[1], blank, blank, blank) for x, y in ends)
        case Band():
            return ((x, blank, blank, blank, lo, hi, blank) for x, lo, hi in zip(*a.values(), strict=True))
        case Steps():
            edges = zip(a["edges"], a["edges"][1:], a["height"], strict=False)
            return ((left, right, y, blank, blank, blank, blank) for left, right, y in edges)
        case Boxes():
            half = mark.width / 2
            groups = zip(*(a[name] for name in ("x", "median", "low", "high", "q1", "q3")), strict=True)
            return ((x - half, x + half, y, blank, low, high, blank, q1, q3) for x, y, low, high, q1, q3 in groups)
        case Image():
            x, y = a["x_edges"], a["y_edges"]
            return (
                (x[j], x[j + 1], y[i], y[i + 1], blank, blank, z)
                for i, row in enumerate(a["z"])
                for j, z in enumerate(row)
            )
        case Rule():
            at = a["at"]
            if mark.axis == "x":
                return [(at, *[blank] * 6)]
            return [(blank, blank, at, *[blank] * 4)]
        case Span():
            return [(a["low"], a["high"], *[blank] * 5)]
