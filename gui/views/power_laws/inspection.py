"""What is selected in numbers, beside noise, and the navigator: exponents of every layer at every site."""

from typing import TYPE_CHECKING

import numpy as np

from engine.spectra.student import interval
from gui.plots.figure import Axis, Figure, Image, Panel
from gui.plots.selection import Selection
from gui.views.inspection import Inspection, Row
from gui.views.power_laws.data import NOTHING, PowerLawSlice, layer_axis

if TYPE_CHECKING:
    import xarray as xr

COLUMNS = ("", "value", "noise")
ROWS = {
    "alpha_rank": ("α", "minus the slope of ln λ on ln rank"),
    "alpha_rank_se": ("± α", "standard error of α"),
    "r2": ("R²", "of the fit; noise alone has a high one too"),
    "alpha_esd": ("α_ESD", "exponent of the density, by maximum likelihood"),
    "ks": ("KS", "distance of that fit"),
    "esd_p": ("p of α_ESD", "bootstrap: a small one speaks against a power law"),
    "pr": ("PR", "participation ratio of σ²"),
    "trace": ("tr C", "total variance"),
}
OF_ALL = {
    "positions_per_dim": ("N/d", "positions over dimensions"),
    "sequences_per_dim": ("N/p", "sequences over the weight's entries"),
    "mean_loss": ("loss", "nats a token, in the same pass"),
    "loss": ("loss", "nats a token, in the same pass"),
    "perplexity": ("perplexity", "of the text, in the same pass"),
}


def inspect(dataset: "xr.Dataset", selection: Selection) -> Inspection:
    """The selected layer and site under the selected model's condition, on every part of the text."""
    fitted = PowerLawSlice.of(dataset, selection)
    layer = fitted.layer(selection)
    title = f"Layer {layer}" + (f", {fitted.place}" if fitted.site >= 0 else "")
    rows: list[Row] = []
    for condition in [c for c in fitted.conditions if fitted.model in c.models]:
        part = f" ({condition.split})" if condition.split else ""
        for name, (symbol, meaning) in ROWS.items():
            if name in dataset:
                value = _mean(fitted.at(condition, name)[:, layer])
                null = _mean(fitted.at(condition, "noise_alpha_rank")[:, layer]) if name == "alpha_rank" else np.nan
                rows.append(Row(symbol + part, meaning, value, null))
        for name, (symbol, meaning) in OF_ALL.items():
            if name in dataset and "sample" not in dataset[name].dims:
                values = fitted.at(condition, name)
                rows.append(Row(symbol + part, meaning, _mean(values[:, layer] if values.ndim > 1 else values)))
    there = tuple(row for row in rows if not np.isnan(row.value))
    of = next((c for c in fitted.conditions if fitted.model in c.models), None)
    seeds = f", mean over {len(of.models)} seeds" if of and len(of.models) > 1 else ""
    subtitle = (of.name if of else fitted.label) + seeds
    return Inspection(title, subtitle, COLUMNS, there, _verdict(fitted, layer) if there else NOTHING, help=fitted.help)


def _mean(values: np.ndarray) -> float:
    return float(interval(values)[1])


def _verdict(fitted: PowerLawSlice, layer: int) -> str:
    """How the slope compares with the noise's."""
    condition = fitted.current
    if condition is None or fitted.model not in condition.models:
        return ""
    alpha, noise = (_mean(fitted.at(condition, name)[:, layer]) for name in ("alpha_rank", "noise_alpha_rank"))
    if np.isnan(alpha) or np.isnan(noise):
        return ""
    return f"Noise of the same shape has a slope of {noise:.3f}; this spectrum falls {alpha / noise:.1f} times as fast."


def navigator(dataset: "xr.Dataset", selection: Selection) -> Figure:
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
        label="α",
        picks=picks,
        marked=((row, layer),),
    )
    x = Axis("layer", ticks=layer_axis(fitted.depth).ticks, limits=(-0.5, fitted.depth - 0.5))
    ticks = tuple((float(i), name) for i, name in enumerate(names))
    y = Axis("", ticks=ticks, limits=(-0.5, len(z) - 0.5), inverted=True)
    return Figure(((Panel(x, y, (image,)),),), legend=False)
