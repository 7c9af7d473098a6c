"""The exponent of the eigenvalues' density by maximum likelihood, α_ESD."""

from typing import TYPE_CHECKING

import numpy as np

from engine.analyses.activations.plan import DENSITY
from engine.spectra.student import interval
from gui.plots.figure import Axis, Cell, Figure, Line, Mark, Panel, Table
from gui.plots.selection import Selection
from gui.views.base import Options
from gui.views.power_laws.data import PowerLawSlice, layer_axis
from gui.views.power_laws.depth import curve_marks

if TYPE_CHECKING:
    import xarray as xr


class DensityOptions(Options):
    """Nothing to choose: the fit is the run's."""


def density(dataset: "xr.Dataset", selection: Selection, options: DensityOptions) -> Figure:
    """The share of eigenvalues above λ with the fitted tail, α_ESD by layer, and the tests of one layer in numbers."""
    fitted = PowerLawSlice.of(dataset, selection)
    if not fitted.has("alpha_esd"):
        return Figure(
            empty="This run has no density fits. Tick “Density fit” in the parameters and run it again, or wait for "
            "the first spectrum."
        )
    layer = fitted.layer(selection)
    tails: list[Mark] = []
    depth: list[Mark] = []
    rows: list[tuple[Cell, ...]] = []
    for condition in fitted.conditions:
        depth += curve_marks(fitted, condition, fitted.at(condition, "alpha_esd"), points=True)
        numbers = {name: float(interval(fitted.at(condition, name)[:, layer])[1]) for name in DENSITY}
        values = fitted.spectra(condition)[0, layer]
        values = values[np.isfinite(values) & (values > 0)]
        if not len(values):
            continue
        color = fitted.colors[condition.label]
        share = np.arange(1, len(values) + 1) / len(values)
        picks = (fitted.pick(condition, layer),)
        tails.append(Line(values, share, condition.label, color, 2, picks=picks))
        alpha, xmin = (float(fitted.at(condition, name)[0, layer]) for name in ("alpha_esd", "xmin"))
        if np.isfinite(alpha):
            at = np.geomspace(xmin, values[0], 32)
            law = np.mean(values >= xmin) * (at / xmin) ** (1 - alpha)
            tails.append(Line(at, law, "fitted tail", "ink", 1.3, dash=True))
        rank = float(interval(fitted.at(condition, "alpha_rank")[:, layer])[1])
        rows.append((condition.label, *numbers.values(), 1 + 1 / rank))
    title = f"Layer {layer}, {fitted.place}: power law of the density, by maximum likelihood"
    panels = (
        Panel(Axis("λ", log=True), Axis("share of eigenvalues ≥ λ", log=True), tuple(tails)),
        Panel(layer_axis(fitted.depth), Axis(fitted.variables["alpha_esd"].label), tuple(depth)),
    )
    columns = ("condition", *(fitted.variables[name].symbol for name in DENSITY), "1 + 1/α of rank")
    note = fitted.caveats(
        "A small bootstrap p speaks against a power law; a negative ratio prefers the lognormal. Several seeds: their "
        "means; the curve is the first seed's. The last column is what a pure law along rank would give"
    )
    return Figure((panels,), title=title, note=note, table=Table(columns, tuple(rows)) if rows else None)
