"""Exponents along depth under all conditions: means over seeds, intervals, noise control, tests of trends."""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from engine.analyses.conditions import Condition
from engine.spectra.student import interval, quantile
from engine.spectra.trends import thirds, trend, u_shape
from engine.studies import cited
from gui.plots.figure import Axis, Band, Cell, Figure, Floats, Line, Mark, Panel, Points, Rule, Table
from gui.plots.selection import Selection
from gui.views.base import Options
from gui.views.power_laws.data import NOTHING, PowerLawSlice, layer_axis

if TYPE_CHECKING:
    import xarray as xr

OF_SIGMA = cited("α is that of λ = σ²; S1 §2.1.2 fits σ itself, so its exponents are half of these")
Spread = Literal["interval", "deviation"]
SPREADS: dict[str, Any] = {"labels": {"interval": "95 % interval", "deviation": "standard deviation"}}
NOISE = "α of iid Gaussian noise of the same shape and trace"
BANDS = {
    "interval": "Bands: 95 % interval of the mean over {} seeds (Student’s t)",
    "deviation": "Bands: one standard deviation over {} seeds",
}
BANDS_OF_FIT = {
    "interval": "One seed: bands are the 95 % interval of the fit itself, too narrow where a law bends, not over seeds",
    "deviation": "One seed: bands are one standard error of the fit, too narrow where a law bends, not over seeds",
}


class LayerOptions(Options):
    """Options of `by_layer`; each analysis offers its own statistics."""

    statistic: str = "alpha_rank"
    noise: bool = Field(True, title="Noise", description=NOISE)
    points: bool = Field(True, title="Seeds", description="Each seed's own value")
    spread: Spread = Field("interval", title="Bands", description="Over seeds", json_schema_extra=SPREADS)


class TrendOptions(Options):
    noise: bool = Field(False, title="Noise", description=NOISE)


def curve_marks(
    fitted: PowerLawSlice,
    condition: Condition,
    values: Floats,
    points: bool,
    spread: Spread = "interval",
    error: Floats | None = None,
) -> list[Mark]:
    """The mean over seeds by layer, its interval, and the values of each seed, from `values` (seed, layer).

    `error` (layer,) is half the width of the band, in place of the interval over seeds.
    """
    if not np.isfinite(values).any():
        return []
    at = np.arange(values.shape[1], dtype=float)
    low, mean, high = interval(values)
    if spread == "deviation" and len(values) > 1:
        deviation = np.std(values, axis=0, ddof=1)
        low, high = mean - deviation, mean + deviation
    if error is not None:
        low, high = mean - error, mean + error
    color, label = fitted.colors[condition.label], condition.label
    picks = tuple(fitted.pick(condition, i) for i in range(len(mean)))
    marks: list[Mark] = []
    if np.isfinite(low).any():
        marks.append(Band(at, low, high, label, color))
        if points:
            every = tuple(f"{label}, seed {seed}" for seed in fitted.seeds(condition) for _ in at)
            marks.append(Points(np.tile(at, len(values)), values.ravel(), label, color, 4, hover=every))
    random = condition.kind == "random"
    marks.append(Line(at, mean, label, color, 1.3 if random else 2, random, markers=True, picks=picks))
    return marks


def noise_marks(fitted: PowerLawSlice) -> list[Mark]:
    """α of noise of the same shape and trace, for each condition."""
    marks: list[Mark] = []
    for condition in fitted.conditions:
        mean = interval(fitted.at(condition, "noise_alpha_rank"))[1]
        marks.append(Line(np.arange(len(mean), dtype=float), mean, "noise control", "null", dash=True))
    return marks


def by_layer(dataset: "xr.Dataset", selection: Selection, options: LayerOptions) -> Figure:
    """A statistic by layer under all conditions (S1 figs 1a, 1c, 2b)."""
    fitted = PowerLawSlice.of(dataset, selection)
    statistic, spread = fitted.variables[options.statistic], options.spread
    is_alpha = statistic.name == "alpha_rank"
    if statistic.name not in dataset:
        return Figure(empty=f"This run has no {statistic.long_name}: choose another statistic, or run it anew with it.")
    shown = [c for c in fitted.conditions if np.isfinite(fitted.at(c, statistic.name)).any()]
    if not shown:
        return Figure(empty=NOTHING)
    marks: list[Mark] = [Rule("x", float(fitted.layer(selection)), "", "muted")]
    if options.noise and is_alpha:
        marks += noise_marks(fitted)
    seeds = max(len(c.models) for c in shown)
    bands = BANDS[spread].format(seeds) if seeds > 1 else "One seed: no interval over seeds"
    one_fit = seeds == 1 and is_alpha
    if one_fit:
        bands = BANDS_OF_FIT[spread]
    for condition in shown:
        error = _fit_error(fitted, condition, spread) if one_fit else None
        values, points = fitted.at(condition, statistic.name), options.points and not one_fit
        marks += curve_marks(fitted, condition, values, points, spread, error)
    panel = Panel(layer_axis(fitted.depth), Axis(statistic.label, log=statistic.log), tuple(marks))
    title = f"{_capital(fitted.place)}: {statistic.long_name} by layer"
    if statistic.name in ("alpha_rank", "r2"):
        title += ", ranks {} to {}".format(*fitted.run_window)
    return Figure(
        ((panel,),),
        title=title,
        note=fitted.caveats(OF_SIGMA if fitted.power == 2 else "", fitted.proportions(shown[0]), bands),
    )


def _fit_error(fitted: PowerLawSlice, condition: Condition, spread: Spread) -> Floats:
    """Half the width of the band around the slope of a single seed, (layer,)."""
    start, stop = fitted.run_window
    ranks = min(stop, fitted.dataset.sizes["mode"]) - start + 1
    se = fitted.at(condition, "alpha_rank_se")[0]
    return se * quantile(ranks - 2) if spread == "interval" else se


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


TREND_COLUMNS = (
    "condition", "shape", "Spearman ρ", "p of a trend", "slope a layer", "p of a turn", "turns at layer", "U index",
    "early", "middle", "late",
)  # fmt: skip


def trends(dataset: "xr.Dataset", selection: Selection, options: TrendOptions) -> Figure:
    """α by layer with tests of a rise and of a turn for each condition."""
    fitted = PowerLawSlice.of(dataset, selection)
    figure = by_layer(dataset, selection, LayerOptions(noise=options.noise))
    if figure.empty:
        return figure
    rows: list[tuple[Cell, ...]] = []
    for condition in fitted.conditions:
        mean = interval(fitted.at(condition, "alpha_rank"))[1]
        test = trend(mean)
        turn = test.vertex if test.turn_p < 1 else float("nan")
        shape = test.shape() if test.layers >= 5 else "too few layers"
        rows.append(
            (condition.label, shape, test.spearman, test.trend_p, test.slope, test.turn_p, turn,
             float(u_shape(mean)), *map(float, thirds(mean)))
        )  # fmt: skip
    note = (
        "Turn: a parabola falls at one end and rises at the other (Lind and Mehlum 2010). Both p: against noise whose "
        "neighbouring layers are alike, up to a random walk. U index: mean of first and last layer over the median of "
        "the others; then α of each third of the layers"
    )
    title = f"{_capital(fitted.place)}: does α rise, fall or turn with depth?"
    return Figure(figure.rows, title=title, note=fitted.caveats(note), table=Table(TREND_COLUMNS, tuple(rows)))
