"""Exponents along depth under all conditions: means over seeds with intervals, the noise control, tests of trends."""

from typing import TYPE_CHECKING, Literal

import numpy as np

from engine.analyses.conditions import Condition
from engine.spectra.student import interval, quantile
from engine.spectra.trends import thirds, trend, u_shape
from gui.plots.figure import Axis, Band, Cell, Figure, Floats, Line, Mark, Panel, Points, Rule, Table
from gui.plots.selection import Selection
from gui.views.power_laws.data import ALPHA, NOTHING, PowerLawSlice, layer_axis

if TYPE_CHECKING:
    import xarray as xr

STATISTICS = {
    "alpha_rank": ALPHA,
    "r2": "R² of the power law",
    "pr": "participation ratio (Σσ²)²/Σσ⁴",
    "trace": "total variance, tr C",
}
LOG = ("trace", "pr")
Spread = Literal["interval", "deviation"]
SPREADS: dict[str, str] = {"interval": "95 % interval", "deviation": "standard deviation"}
BANDS = {
    "interval": "Bands: 95 % interval of the mean over {} seeds (Student’s t)",
    "deviation": "Bands: one standard deviation over {} seeds",
}
OF_FIT = {
    "interval": "One seed: bands are the 95 % interval of the fit itself, too narrow where a law bends, not over seeds",
    "deviation": "One seed: bands are one standard error of the fit, too narrow where a law bends, not over seeds",
}


def curve_marks(
    fitted: PowerLawSlice,
    condition: Condition,
    values: Floats,
    points: bool,
    spread: Spread = "interval",
    error: Floats | None = None,
) -> list[Mark]:
    """The mean over seeds by layer, its interval, and each seed's own value; `values` are (seed, layer).

    `error` is half the width of the band in the place of that over seeds, (layer,).
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


def by_layer(
    dataset: "xr.Dataset",
    selection: Selection,
    statistic: str = "alpha_rank",
    noise: bool = True,
    points: bool = True,
    spread: Spread = "interval",
) -> Figure:
    """A statistic by layer under all conditions (S1 figs 1a, 1c, 2b)."""
    fitted = PowerLawSlice.of(dataset, selection)
    shown = [c for c in fitted.conditions if np.isfinite(fitted.at(c, statistic)).any()]
    if not shown:
        return Figure(empty=NOTHING)
    marks: list[Mark] = [Rule("x", float(fitted.layer(selection)), "", "muted")]
    if noise and statistic == "alpha_rank":
        marks += noise_marks(fitted)
    seeds = max(len(c.models) for c in shown)
    bands = BANDS[spread].format(seeds) if seeds > 1 else "One seed: no interval over seeds"
    of_fit = seeds == 1 and statistic == "alpha_rank"
    if of_fit:
        bands = OF_FIT[spread]
    for condition in shown:
        error = _fit_error(fitted, condition, spread) if of_fit else None
        marks += curve_marks(fitted, condition, fitted.at(condition, statistic), points and not of_fit, spread, error)
    panel = Panel(layer_axis(fitted.depth), Axis(STATISTICS[statistic], log=statistic in LOG), tuple(marks))
    title = f"{_capital(fitted.place)}: {STATISTICS[statistic]} by layer"
    if statistic in ("alpha_rank", "r2"):
        title += ", ranks {} to {}".format(*fitted.run_window)
    return Figure(((panel,),), title=title, note=fitted.caveats(fitted.proportions(shown[0]), bands))


def _fit_error(fitted: PowerLawSlice, condition: Condition, spread: Spread) -> Floats:
    """What the fit of a single seed says of its own slope, (layer,)."""
    start, stop = fitted.run_window
    ranks = min(stop, fitted.dataset.sizes["mode"]) - start + 1
    se = fitted.at(condition, "alpha_rank_se")[0]
    return se * quantile(ranks - 2) if spread == "interval" else se


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


TREND_COLUMNS = (
    "condition", "shape", "Spearman ρ", "p of ρ", "slope a layer", "p of a turn", "turns at layer", "U index",
    "early", "middle", "late",
)  # fmt: skip


def trends(dataset: "xr.Dataset", selection: Selection, noise: bool = False) -> Figure:
    """α by layer with what the tests of rise and turn say of each condition."""
    fitted = PowerLawSlice.of(dataset, selection)
    figure = by_layer(dataset, selection, noise=noise)
    if figure.empty:
        return figure
    rows: list[tuple[Cell, ...]] = []
    for condition in fitted.conditions:
        mean = interval(fitted.at(condition, "alpha_rank"))[1]
        found = trend(mean)
        turn = found.vertex if found.turn_p < 1 else float("nan")
        shape = found.shape() if found.layers >= 5 else "too few layers"
        rows.append(
            (condition.label, shape, found.spearman, found.spearman_p, found.slope, found.turn_p, turn,
             float(u_shape(mean)), *map(float, thirds(mean)))
        )  # fmt: skip
    note = (
        "Spearman: against the same values in any order. Turn: a parabola falls at one end and rises at the other "
        "(Lind and Mehlum 2010). U index: mean of first and last layer over the median of the others; then α of each "
        "third of the layers. Layers are not independent samples: take p as a guide"
    )
    title = f"{_capital(fitted.place)}: does α rise, fall or turn with depth?"
    return Figure(figure.rows, title=title, note=fitted.caveats(note), table=Table(TREND_COLUMNS, tuple(rows)))
