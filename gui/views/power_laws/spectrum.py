"""Spectra of one layer under all conditions, with power laws whose window can be dragged, and their residuals."""

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from engine.analyses.conditions import Condition
from engine.errors import UserError
from engine.spectra.student import interval
from gui.plots.figure import Axis, Cell, Figure, Floats, Line, Mark, Panel, Rule, Span, Table
from gui.plots.selection import Selection
from gui.views.base import Options
from gui.views.power_laws.data import NOTHING, PowerLawSlice, geometric_mean, layer_axis, ranked
from gui.views.power_laws.depth import curve_marks

if TYPE_CHECKING:
    import xarray as xr


WINDOW_EDGE: dict[str, Any] = {"lowest": "as in the run", "shared": True}


class ResidualOptions(Options):
    fit_start: int = Field(
        0,
        ge=0,
        title="Ranks",
        description="First rank of the fit; or drag the window on the plot",
        json_schema_extra=WINDOW_EDGE,
    )
    fit_stop: int = Field(
        0,
        ge=0,
        title="to",
        description="Last rank of the fit; or drag the window on the plot",
        json_schema_extra=WINDOW_EDGE,
    )
    noise: bool = Field(True, title="Noise", description="iid Gaussian noise of the same shape and trace")


class SpectrumOptions(ResidualOptions):
    scope: Literal["this spectrum", "all"] = Field(
        "this spectrum", title="Fit", description="Whether the window is for this layer alone or for all of them"
    )


def spectrum(dataset: "xr.Dataset", selection: Selection, options: SpectrumOptions) -> Figure:
    """The spectrum of one layer under all conditions, log-log, with fits; beside it α by layer (S1 fig. 1b)."""
    fitted = PowerLawSlice.of(dataset, selection)
    layer = fitted.layer(selection)
    start, stop = fitted.window(options.fit_start, options.fit_stop)
    shown = [c for c in fitted.conditions if np.isfinite(fitted.at(c, fitted.spectrum.name)[:, layer]).any()]
    if not shown:
        return Figure(empty=_missing(fitted))
    marks: list[Mark] = [_span(fitted, layer, start, stop)]
    rows: list[tuple[Cell, ...]] = []
    trouble = ""
    for condition in shown:
        values = fitted.spectra(condition)[:, layer]
        color = fitted.colors[condition.label]
        if options.noise:
            noise = geometric_mean(fitted.spectra(condition, noise=True)[:, layer])
            marks.append(Line(*ranked(noise), "noise control", "null", dash=True))
        mean = geometric_mean(values)
        marks.append(Line(*ranked(mean), condition.label, color, 2, picks=(fitted.pick(condition, layer),)))
        try:
            rows.append(_row(fitted, condition, layer, start, stop))
            law = fitted.fit(mean, start, stop)
            marks.append(Line(law.ranks.astype(float), fitted.line(law), "power law", "ink", 1.3, dash=True))
        except UserError as error:
            trouble = error.message
    place = shown[0].models[0], layer
    what = f"gradients of {dataset['weight'].values[place]}" if "weight" in dataset else fitted.place
    title = f"Layer {layer}, {what}: {fitted.spectrum.symbol} by rank, power law over ranks {start} to {stop}"
    floor, limits, where = _floor(fitted, layer, marks)
    x, y = Axis("rank i", log=True), Axis(f"{fitted.spectrum.symbol}ᵢ", log=True, limits=limits)
    panels = (Panel(x, y, (*floor, *marks)), _alphas(fitted, layer, start, stop, options.scope == "all"))
    note = fitted.caveats(trouble, "the law is that of λ = σ²" if fitted.power == 2 else "", where)
    columns = (*COLUMNS[:-2], "N/d" if fitted.site >= 0 else "N/p", "seeds")
    return Figure((panels,), title=title, note=note, table=Table(columns, tuple(rows)) if rows else None)


def _floor(
    fitted: PowerLawSlice, layer: int, marks: list[Mark]
) -> tuple[tuple[Mark, ...], tuple[float, float] | None, str]:
    """The floor of a Gram matrix as a rule; far below the data it is left out of view and told in a note."""
    if "floor" not in fitted.dataset:
        return (), None, ""
    floor = max(float(np.nanmax(fitted.at(c, "floor")[:, layer], initial=0)) for c in fitted.conditions)
    drawn = np.concatenate([m.y for m in marks if isinstance(m, Line)])
    low, high = float(np.nanmin(drawn)), float(np.nanmax(drawn))
    rule = Rule("y", floor, "floor: rounding below", "muted")
    if floor > low / 1000:
        return (rule,), None, ""
    return (rule,), (low / 2, high * 2), f"the floor of rounding is at {floor:.2g}, below what is shown"


COLUMNS = ("condition", "α", "low", "high", "standard error", "R²", "α of noise", "its R²", "ranks", "N/d", "seeds")


def _row(fitted: PowerLawSlice, condition: Condition, layer: int, start: int, stop: int) -> tuple[Cell, ...]:
    """The fit in numbers: means over seeds, and the interval of α over them."""
    law = fitted.fit(fitted.spectra(condition)[:, layer], start, stop)
    noise = fitted.fit(fitted.spectra(condition, noise=True)[:, layer], start, stop)
    low, mean, high = (float(v) for v in interval(law.alpha))
    ratio = "positions_per_dim" if fitted.site >= 0 else "sequences_per_dim"
    numbers = (float(interval(values)[1]) for values in (law.se, law.r2, noise.alpha, noise.r2))
    per_dim = float(np.nanmean(fitted.at(condition, ratio)))
    return (condition.label, mean, low, high, *numbers, int(law.points.max()), per_dim, len(condition.models))


def _alphas(fitted: PowerLawSlice, layer: int, start: int, stop: int, every: bool) -> Panel:
    """α by layer as in the run with this layer fitted again, or all layers over the same window."""
    marks: list[Mark] = [Rule("x", float(layer), "", "muted")]
    renewed = slice(None) if every else slice(layer, layer + 1)
    for condition in fitted.conditions:
        values = np.array(fitted.at(condition, "alpha_rank"))
        with suppress(UserError):  # said under the plot
            values[:, renewed] = fitted.fit(fitted.spectra(condition)[:, renewed], start, stop).alpha
        marks += curve_marks(fitted, condition, values, points=False)
    run = "{} to {}".format(*fitted.run_window)
    title = f"all over ranks {start} to {stop}" if every else f"others as in the run, ranks {run}"
    return Panel(layer_axis(fitted.depth), Axis(fitted.variables["alpha_rank"].label), tuple(marks), title=title)


def residuals(dataset: "xr.Dataset", selection: Selection, options: ResidualOptions) -> Figure:
    """Log residuals of each spectrum about its fit: curvature that R² hides."""
    fitted = PowerLawSlice.of(dataset, selection)
    layer = fitted.layer(selection)
    start, stop = fitted.window(options.fit_start, options.fit_stop)
    shown = [c for c in fitted.conditions if np.isfinite(fitted.at(c, fitted.spectrum.name)[:, layer]).any()]
    if not shown:
        return Figure(empty=_missing(fitted))
    marks: list[Mark] = [_span(fitted, layer, start, stop), Rule("y", 0.0, "the fit", "ink")]
    rows: list[tuple[Cell, ...]] = []
    trouble = ""
    for condition in shown:
        curves = [(False, condition.label, fitted.colors[condition.label])]
        if options.noise:
            curves.insert(0, (True, "noise control", "null"))
        for noise, label, color in curves:
            values = geometric_mean(fitted.spectra(condition, noise=noise)[:, layer])
            try:
                law = fitted.fit(values, start, stop)
            except UserError as error:
                trouble = error.message
                continue
            ranks, positive = ranked(values)
            gap = fitted.power * np.log(positive) - (law.intercept - law.alpha * np.log(ranks))
            marks.append(Line(ranks, gap, label, color, 1 if noise else 2, dash=noise))
            if not noise:
                inside = gap[law.ranks[: int(law.points)] - 1]
                rows.append((condition.label, float(law.alpha), float(np.nanstd(inside)), _lag(inside), float(law.r2)))
    title = f"Layer {layer}, {fitted.place}: residuals of the power law over ranks {start} to {stop}"
    columns = ("condition", "α", "spread of ln λ about the fit", "correlation of neighbours", "R²")
    table = Table(columns, tuple(rows)) if rows else None
    panel = Panel(Axis("rank i", log=True), Axis("ln λᵢ − fit"), tuple(marks))
    note = fitted.caveats(
        trouble, "neighbours that move together say that a law bends: standard errors are then too small"
    )
    return Figure(((panel,),), title=title, note=note, table=table)


def _lag(values: Floats) -> float:
    """Correlation of neighbouring residuals, about 0 where they are independent."""
    finite = values[np.isfinite(values)]
    return float(np.corrcoef(finite[1:], finite[:-1])[0, 1]) if len(finite) > 2 and np.ptp(finite) > 0 else np.nan


def _span(fitted: PowerLawSlice, layer: int, start: int, stop: int) -> Span:
    """The window of ranks, inside the longest spectrum of this layer."""
    longest = max(int((fitted.spectra(c)[:, layer] > 0).sum(-1).max()) for c in fitted.conditions)
    return Span(float(start), float(min(stop, longest)), "fit_start", "fit_stop", (1.0, float(longest)), "fit window")


def _missing(fitted: PowerLawSlice) -> str:
    """Why a site and layer has no spectrum, and what to do."""
    if not fitted.conditions:
        return NOTHING
    names = [name for i, name in enumerate(fitted.sites) if i != fitted.site]
    where = " Choose another layer, or another sublayer in the navigator." if names else " Choose another layer."
    return f"There is no {fitted.place} at this layer.{where}"
