"""Views of single samples: box plots by layer, and one sample through all layers (S0 figs 2 and 3)."""

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from gui.plots.figure import Band, Boxes, Figure, Floats, Line, Mark, Panel, Points
from gui.plots.selection import Pick, Selection
from gui.views.base import Options
from gui.views.boxes import Box, box_of
from gui.views.jacobians.data import (
    COLORS,
    COMPONENTS,
    SAMPLED_LABELS,
    VARIABLES,
    JacobiansSlice,
    SampledName,
    axis_of,
    depth,
    layer_axis,
    quote,
    reading_of,
)

if TYPE_CHECKING:
    import xarray as xr

Pair = Literal["sublayers", "block"]
PAIRS: dict[str, tuple[str, str]] = {"sublayers": ("attn", "mlp"), "block": ("block", "residual")}
PAIR_LABELS: dict[str, Any] = {"labels": {"sublayers": "attention, MLP", "block": "block, block − I"}}
TWIN = "random-init twin"
MOST = 30_000
"""More points than this in one figure take too long to draw at every step: then outliers alone are drawn."""


class BoxOptions(Options):
    statistic: SampledName = Field("rho", title="Statistic", json_schema_extra=SAMPLED_LABELS)
    of: Pair = Field("sublayers", title="Of", json_schema_extra=PAIR_LABELS)
    points: Literal["outliers", "all"] = Field(
        "outliers", title="Points", description="Outliers lie beyond 1.5 times the box from it; a click reads the text"
    )
    twin: bool = Field(True, title="Twin", description="The same samples through the random-init twin")


def boxplots(dataset: "xr.Dataset", selection: Selection, options: BoxOptions) -> Figure:
    """A per-sample statistic by layer as box plots, attention beside MLP, model beside twin."""
    jacobians = JacobiansSlice.of(dataset, selection)
    variable = VARIABLES[options.statistic]
    shown = [c for c in PAIRS[options.of] if c in jacobians.measured(options.statistic)]
    if not shown:
        return Figure(empty=jacobians.missing(options.statistic, PAIRS[options.of][0], variable.long_name))
    twin = jacobians.twin if options.twin else None
    groups = [(jacobians, c, COMPONENTS[c], COLORS[c]) for c in shown]
    if twin is not None:
        groups = [g for group in groups for g in (group, (twin, group[1], TWIN, "twin"))]
    width = 0.84 / len(groups)
    places = [(i - (len(groups) - 1) / 2) * width for i in range(len(groups))]
    crowded = len(groups) * jacobians.layers * jacobians.samples > MOST
    everything = options.points == "all" and not crowded
    marks: list[Mark] = []
    selected: list[tuple[float, float]] = []
    sample = jacobians.sample(selection)
    for (drawn, component, label, color), offset in zip(groups, places, strict=True):
        values = drawn.values(options.statistic, component)
        x = depth(len(values)) + offset
        box = box_of(values)
        picks = tuple(Pick(layer=i) for i in range(len(values)))
        name = "" if label == COMPONENTS[component] else f"{COMPONENTS[component]}, "
        hover = tuple(f"{name}layer {i}" for i in range(len(values)))
        marks.append(Boxes(x, *box, width=0.86 * width, label=label, color=color, picks=picks, hover=hover))
        marks.append(_points(drawn, values, box, x, width, everything, (label, color, name, variable.symbol)))
        if drawn is jacobians:
            selected += zip(x, values[:, sample], strict=True)
    x, y = np.array(selected).T
    marks.append(Points(x, y, f"sample {sample}", "ink", size=10, filled=False))
    panel = Panel(layer_axis(jacobians.layers), axis_of(variable), tuple(marks))
    count = int(np.isfinite(jacobians.values(options.statistic, shown[0])).sum(axis=1).max())
    title = jacobians.title(f"{variable.symbol} of {count} samples by layer")
    few = f"More than {MOST:,} points: only outliers are drawn" if crowded and options.points == "all" else ""
    note = jacobians.caveats(
        _sentence(jacobians, sample), reading_of(variable), jacobians.of_kappa(shown, options.statistic), few
    )
    return Figure(((panel,),), title=title, note=note)


def _points(
    jacobians: JacobiansSlice,
    values: Floats,
    box: Box,
    x: Floats,
    width: float,
    everything: bool,
    words: tuple[str, str, str, str],
) -> Points:
    """The samples beyond the whiskers, or all of them spread over the width of their box.

    `words` are label, colour, what stands before a point's layer in its hover text, and the statistic's symbol.
    """
    label, color, name, symbol = words
    outside = (values < box[0][:, None]) | (values > box[4][:, None])
    layer, sample = np.nonzero(np.isfinite(values) & (outside | everything))
    at, y = x[layer], values[layer, sample]
    if everything:  # the golden ratio spreads neighbours evenly, and alike at every draw
        at = at + 0.7 * width * ((sample * 0.6180339887) % 1 - 0.5)
    places = list(zip(layer.tolist(), sample.tolist(), strict=True))
    # A click on the twin's point reads the same sample: the model stays
    picks = tuple(_pick(i, s) for i, s in places)
    tokens = [token for _, token in jacobians.texts]
    hover = tuple(
        f"{name}layer {i}, sample {s} at “{tokens[s]}”: {symbol} = {v:.4g}"
        for (i, s), v in zip(places, y.tolist(), strict=True)
    )
    return Points(at, y, label, color, size=4.0 if everything else 5.0, picks=picks, hover=hover)


@lru_cache(maxsize=MOST)
def _pick(layer: int, sample: int) -> Pick:
    return Pick(layer=layer, sample=sample)


def _sentence(jacobians: JacobiansSlice, sample: int) -> str:
    text, token = jacobians.texts[sample]
    if not text and not token:
        return ""
    return f"Sample {sample}, at “{token}”: {quote(text)}"


class SampleOptions(Options):
    statistic: SampledName = Field("rho", title="Statistic", json_schema_extra=SAMPLED_LABELS)
    of: Pair = Field("sublayers", title="Of", json_schema_extra=PAIR_LABELS)
    twin: bool = Field(True, title="Twin", description="The same sample through the random-init twin")


def one_sample(dataset: "xr.Dataset", selection: Selection, options: SampleOptions) -> Figure:
    """A statistic of the selected sample through all layers, over the middle 90 % of all samples; and its text."""
    jacobians = JacobiansSlice.of(dataset, selection)
    variable, sample = VARIABLES[options.statistic], jacobians.sample(selection)
    shown = [c for c in PAIRS[options.of] if c in jacobians.measured(options.statistic)]
    if not shown:
        return Figure(empty=jacobians.missing(options.statistic, PAIRS[options.of][0], variable.long_name))
    axis = axis_of(variable)
    panels = []
    for component in shown:
        values = jacobians.values(options.statistic, component)
        x = depth(len(values))
        low, middle, high = _quantiles(values, (0.05, 0.5, 0.95))
        marks: list[Mark] = [
            Band(x, low, high, "middle 90 % of samples", "null"),
            Line(x, middle, "median", "null", dash=True),
        ]
        if options.twin and (twin := jacobians.twin) is not None:
            other = twin.values(options.statistic, component)[:, sample]
            marks.append(Line(x[: len(other)], other, f"this sample, {TWIN}", "twin", markers=True))
        picks = tuple(jacobians.pick(i, sample) for i in range(len(x)))
        marks.append(Line(x, values[:, sample], "this sample", "data", 2, markers=True, picks=picks))
        layer = jacobians.layer(selection)
        ring = np.array([values[layer, sample]])
        marks.append(Points(np.array([float(layer)]), ring, "selected layer", "ink", size=15, filled=False))
        panels.append(Panel(layer_axis(jacobians.layers), axis, tuple(marks), title=COMPONENTS[component]))
    token = jacobians.texts[sample][1]
    title = jacobians.title(f"{variable.symbol} of sample {sample}" + (f", at “{token}”" if token else ""))
    of_kappa = jacobians.of_kappa(shown, options.statistic)
    note = jacobians.caveats(_sentence(jacobians, sample), reading_of(variable), of_kappa)
    return Figure((tuple(panels),), title=title, note=note)


def _quantiles(values: Floats, at: tuple[float, ...]) -> Floats:
    """Quantiles over the finite samples, (quantile, layers)."""
    quantiles = np.full((len(at), len(values)), np.nan)
    for layer, row in enumerate(values):
        if (finite := row[np.isfinite(row)]).size:
            quantiles[:, layer] = np.quantile(finite, at)
    return quantiles
