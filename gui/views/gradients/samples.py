"""The loss of every sequence, with a table of texts."""

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from gui.plots.figure import Axis, Cell, Figure, Mark, Panel, Points, Table
from gui.plots.selection import Pick, Selection
from gui.views.base import Options
from gui.views.power_laws.data import PowerLawSlice

if TYPE_CHECKING:
    import xarray as xr

LETTERS = 160


class SampleOptions(Options):
    rows: int = Field(40, title="Rows", description="Of the table: the sequences of the largest loss", ge=5, le=1000)


def losses(dataset: "xr.Dataset", selection: Selection, options: SampleOptions) -> Figure:
    """Loss of every sequence under all conditions, and a table of the texts that the selected model predicts worst."""
    fitted = PowerLawSlice.of(dataset, selection)
    if not np.isfinite(dataset["loss"].values).any():
        return Figure(empty="No sequence has been measured yet: losses are drawn as they arrive.")
    marks: list[Mark] = []
    x = np.arange(dataset.sizes["sample"], dtype=float)
    shown = fitted.conditions
    for condition in shown:
        values = condition.of(dataset["loss"].values)[0]
        picks = tuple(Pick(model=condition.models[0], sample=i) for i in range(len(values)))
        marks.append(Points(x, values, condition.label, fitted.colors[condition.label], 6, picks=picks))
    sample = min(selection.sample, len(x) - 1)
    table, current = None, fitted.current
    if current is not None:
        model = fitted.model if fitted.model in current.models else current.models[0]
        own = dataset["loss"].values[model, current.at]
        order = [i for i in np.argsort(-own) if np.isfinite(own[i])][: options.rows]
        texts = dataset["sample_text"].values[model, current.at]
        rows: tuple[tuple[Cell, ...], ...] = tuple((int(i), float(own[i]), quote(str(texts[i]))) for i in order)
        picks = tuple(Pick(sample=int(i)) for i in order)
        table = Table(("sequence", "loss", "text"), rows, picks=picks)
        if np.isfinite(own[sample]):
            marks.append(Points(x[[sample]], own[[sample]], "selected", "ink", 14, filled=False))
    panel = Panel(Axis("sequence"), Axis(fitted.variables["loss"].label), tuple(marks))
    seeds = max((len(c.models) for c in shown), default=1)
    note = "Several seeds: the first one’s sequences" if seeds > 1 else ""
    title = "Loss of every sequence" + (f"; largest losses of {current.label}" if current else "")
    return Figure(((panel,),), title=title, note=fitted.caveats(note), table=table)


def quote(text: str) -> str:
    """The beginning of a text on one line."""
    line = " ".join(text.split())
    return line if len(line) <= LETTERS else line[:LETTERS] + " …"
