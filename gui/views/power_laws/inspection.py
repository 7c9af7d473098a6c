"""The selected layer and site in numbers beside noise, and the navigator over all of them."""

from typing import TYPE_CHECKING

import numpy as np

from engine.spectra.student import interval
from gui.plots.figure import Axis, Figure, Image, Panel
from gui.plots.selection import Selection
from gui.views.base import Options
from gui.views.inspection import Inspection, Row
from gui.views.power_laws.data import NOTHING, PowerLawSlice, layer_axis

if TYPE_CHECKING:
    import xarray as xr

COLUMNS = ("", "value", "noise")
PLACES = {"model", "split", "site", "layer"}


def inspect(dataset: "xr.Dataset", selection: Selection) -> Inspection:
    """The selected layer and site under the selected model's condition, on every part of the text."""
    fitted = PowerLawSlice.of(dataset, selection)
    layer = fitted.layer(selection)
    title = f"Layer {layer}" + (f", {fitted.place}" if fitted.site >= 0 else "")
    conditions = [c for c in fitted.conditions if fitted.model in c.models]
    subject = conditions[0].name if conditions else fitted.label
    seeds = f", mean over {len(conditions[0].models)} seeds" if conditions and len(conditions[0].models) > 1 else ""
    numbers = [
        name
        for name, variable in fitted.variables.items()
        if name in dataset
        and variable.role != "null"
        and set(variable.dims) <= PLACES
        and {"model", "split"} <= set(variable.dims)
    ]
    rows: list[Row] = []
    for condition in conditions:
        part = f" ({condition.split})" if condition.split else ""
        for name in numbers:
            values = fitted.at(condition, name)
            value = _mean(values[:, layer] if "layer" in dataset[name].dims else values)
            noise = _mean(fitted.at(condition, f"noise_{name}")[:, layer]) if f"noise_{name}" in dataset else np.nan
            rows.append(Row(fitted.variables[name].symbol + part, fitted.variables[name].long_name, value, noise))
    present = tuple(row for row in rows if not np.isnan(row.value))
    verdict = _verdict(fitted, layer) if present else NOTHING
    return Inspection(title, subject + seeds, COLUMNS, present, verdict, help=fitted.help)


def _mean(values: np.ndarray) -> float:
    return float(interval(values)[1])


def _verdict(fitted: PowerLawSlice, layer: int) -> str:
    """The slope against that of noise."""
    condition = fitted.current
    if condition is None or fitted.model not in condition.models:
        return ""
    alpha, noise = (_mean(fitted.at(condition, name)[:, layer]) for name in ("alpha_rank", "noise_alpha_rank"))
    if np.isnan(alpha) or np.isnan(noise):
        return ""
    return f"Noise of the same shape has a slope of {noise:.3f}; this spectrum falls {alpha / noise:.1f} times as fast."


def navigator(dataset: "xr.Dataset", selection: Selection, options: Options) -> Figure:
    """Layers × sites of the selected model coloured by α; with one site alone, layers × conditions."""
    fitted = PowerLawSlice.of(dataset, selection)
    condition = fitted.current
    if condition is None or not fitted.has("alpha_rank"):
        return Figure(empty=NOTHING)
    layer, layers = fitted.layer(selection), range(fitted.depth)
    if len(fitted.sites) > 1:
        z = np.array([interval(fitted.at(condition, "alpha_rank", s))[1] for s in range(len(fitted.sites))])
        picks = tuple(tuple(fitted.pick(condition, i, s) for i in layers) for s in range(len(fitted.sites)))
        names, row = [fitted.name_of(s) for s in range(len(fitted.sites))], fitted.site
    else:
        z = np.array([interval(fitted.at(c, "alpha_rank"))[1] for c in fitted.conditions])
        picks = tuple(tuple(fitted.pick(c, i) for i in layers) for c in fitted.conditions)
        names, row = [c.label for c in fitted.conditions], fitted.conditions.index(condition)
    image = Image(
        z,
        np.arange(fitted.depth + 1) - 0.5,
        np.arange(len(z) + 1) - 0.5,
        label=fitted.variables["alpha_rank"].symbol,
        picks=picks,
        marked=((row, layer),),
    )
    x = Axis("layer", ticks=layer_axis(fitted.depth).ticks, limits=(-0.5, fitted.depth - 0.5))
    ticks = tuple((float(i), name) for i, name in enumerate(names))
    y = Axis("", ticks=ticks, limits=(-0.5, len(z) - 0.5), inverted=True)
    return Figure(((Panel(x, y, (image,)),),), legend=False)
