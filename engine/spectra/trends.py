"""Statistics along depth: thirds, U shape, tests of rise and turn, regimes between change points (methods §6, §13)."""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine.spectra import serial

Array = NDArray[np.float64]


def thirds(values: NDArray[np.floating]) -> Array:
    """Means of the early, middle and late third of the layers, (..., L) → (..., 3).

    Left-over layers go to the middle third. NaN counts as absent.
    """
    layers = values.shape[-1]
    edge = layers // 3
    parts = (values[..., :edge], values[..., edge : layers - edge], values[..., layers - edge :])
    return np.stack([_mean(part) for part in parts], axis=-1)


def _mean(values: NDArray[np.floating]) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.nansum(values, axis=-1) / np.count_nonzero(~np.isnan(values), axis=-1))


def u_shape(values: NDArray[np.floating]) -> Array:
    """(mean of the first and the last layer)/(median of the layers between), (..., L) → (...); NaN below 3 layers."""
    if values.shape[-1] < 3:
        return np.full(values.shape[:-1], np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((values[..., 0] + values[..., -1]) / 2 / np.median(values[..., 1:-1], axis=-1))


@dataclass(frozen=True)
class Trend:
    """Tests of a rise, a fall or a turn along depth. Both p take into account that neighbouring layers are alike."""

    layers: int
    spearman: float
    slope: float  # of the straight line, per layer
    trend_p: float  # two-sided, of a rise or fall
    curvature: float  # positive: a bowl
    vertex: float  # the layer at which the parabola turns
    turn_p: float  # of a turn: a fall before the vertex and a rise after it, or the reverse

    def shape(self, level: float = 0.05) -> Literal["bowl", "arch", "rising", "falling", "no trend"]:
        """The shape that the tests support; a turn takes precedence over a rise."""
        if self.turn_p < level:
            return "bowl" if self.curvature > 0 else "arch"
        if self.trend_p < level:
            return "rising" if self.slope > 0 else "falling"
        return "no trend"


def trend(values: NDArray[np.floating]) -> Trend:
    """The straight line and the parabola along depth, each with its p against correlated noise (methods §13).

    The test of a turn is that of Lind and Mehlum (2010): the parabola must fall at one end and rise at the other, so
    that a bent but monotone profile is no bowl.

    Parameters
    ----------
    values : Array (L,)
        NaN marks an absent layer; below 5 layers everything is NaN.
    """
    layers = np.flatnonzero(np.isfinite(values))
    y, n = np.asarray(values[layers], np.float64), len(layers)
    if n < serial.FEWEST:
        return Trend(n, *[np.nan] * 6)
    middle, half = (layers[0] + layers[-1]) / 2, (layers[-1] - layers[0]) / 2
    x = (layers - middle) / half
    slope = np.polynomial.polynomial.polyfit(x, y, 1)[1]
    _, b, c = np.polynomial.polynomial.polyfit(x, y, 2)
    return Trend(
        layers=n,
        spearman=float(serial.rank_correlation(x[None], y[None])[0]),
        slope=float(slope / half),
        trend_p=serial.trend_p(y),
        curvature=float(c / half**2),
        vertex=float(middle - half * b / (2 * c)) if c else np.nan,
        turn_p=serial.p_value(serial.turn_over_error, y),
    )


def spearman(x: NDArray[np.floating], y: NDArray[np.floating]) -> tuple[float, float]:
    """Rank correlation of independent pairs, and its two-sided p against random orders; NaN below 5 complete pairs."""
    paired = np.isfinite(x) & np.isfinite(y)
    n = int(paired.sum())
    if n < 5:
        return np.nan, np.nan
    rho = float(serial.rank_correlation(x[paired][None], y[paired][None])[0])
    null = _null_spearman(n)
    return rho, float((1 + np.count_nonzero(np.abs(null) >= abs(rho) - 1e-12)) / (1 + len(null)))


@lru_cache(maxsize=64)
def _null_spearman(n: int) -> Array:
    """ρ of n values in random orders, a table with a fixed seed."""
    orders = np.random.default_rng(0).permuted(np.tile(np.arange(n, dtype=np.float64), (9999, 1)), axis=1)
    centred = np.arange(n) - (n - 1) / 2
    return np.asarray((orders - (n - 1) / 2) @ centred / np.square(centred).sum())


@dataclass(frozen=True)
class Regimes:
    """A piecewise-constant fit of a statistic along depth, for 0, 1, … breaks."""

    breaks: tuple[tuple[int, ...], ...]  # for each number of breaks: the layers at which a new regime starts
    means: tuple[tuple[float, ...], ...]  # for each number of breaks: the level of each regime
    rss: Array  # (breaks + 1,)
    bic: Array  # (breaks + 1,)
    bic_line: float  # of a straight line; where lowest, the statistic slopes rather than steps
    p_values: tuple[float, ...]  # against noise: of a first break, of a second one given the first, and so on
    supported: int  # number of breaks

    @property
    def is_slope(self) -> bool:
        """Whether a straight line fits the layers better than any number of regimes."""
        return self.bic_line < float(self.bic.min())


def regimes(values: Array, most: int = 2, level: float = 0.05) -> Regimes:
    """Least-squares change points by dynamic programming, and the number that the layers support.

    BIC = n ln(RSS/n) + 3K ln n for K breaks: a break costs one for its level and two for its place, as in the modified
    criterion of Zhang and Siegmund (2007); a straight line costs its slope. BIC alone finds breaks in 15 % of white
    noise of 12 layers, and in most random walks, so a test decides the number (methods §13): a first break, if the gain
    in BIC is beyond noise whose neighbours are alike; one more than K, if its gain is beyond such noise about the
    K + 1 levels.

    Parameters
    ----------
    values : Array (L,)
        Pass logarithms of values that span decades. NaN marks an absent layer.
    """
    layers = np.flatnonzero(~np.isnan(values))
    x = np.asarray(values[layers], np.float64)
    n = len(x)
    most = max(0, min(most, n // 2 - 1))  # two layers for each regime on average
    if n == 0:
        return Regimes(((),), ((np.nan,),), np.full(1, np.nan), np.full(1, np.nan), np.nan, (), 0)
    rss, starts = (part[0] for part in _segment(x[None], most))
    bic = _bic(rss[None], x[None])[0]
    slope = np.polynomial.Polynomial.fit(layers, x, 1)(layers) if n > 2 else x
    line = float(_bic(np.square(x - slope).sum()[None, None], x[None])[0, 0] + np.log(n))
    breaks = tuple(tuple(int(layers[at]) for at in starts[count, :count]) for count in range(most + 1))
    means = tuple(tuple(float(part.mean()) for part in np.split(x, starts[count, :count])) for count in range(most + 1))
    tests = [_gain(most)] if most else []
    tests += [_gain_of_one_more(tuple(np.diff([0, *starts[count, :count], n]))) for count in range(1, most)]
    p_values = tuple(serial.p_value(test, x) for test in tests)
    supported = next((count for count, p in enumerate(p_values) if not p <= level), most)
    return Regimes(breaks, means, rss, bic, line, p_values, supported)


PHASES = {0: ("one phase",), 1: ("early", "late"), 2: ("early", "transition", "late")}


def phases(fit: Regimes, count: int) -> tuple[str, ...]:
    """The phase of each of `count` places, by the supported breaks of a fit with at most two."""
    starts = fit.breaks[fit.supported]
    return tuple(PHASES[len(starts)][sum(at >= start for start in starts)] for at in range(count))


def _bic(rss: Array, series: Array) -> Array:
    """BIC of fits with 0, 1, … breaks, from their RSS (S, breaks + 1) of series (S, n)."""
    n = series.shape[1]
    # A perfect fit would have BIC −∞: bound RSS by rounding.
    floor = n * np.square(np.finfo(np.float64).eps * np.abs(series).max(1, keepdims=True)) + np.finfo(np.float64).tiny
    return np.asarray(n * np.log(np.maximum(rss, floor) / n) + 3 * np.arange(rss.shape[-1]) * np.log(n))


@lru_cache(maxsize=16)
def _gain(most: int) -> serial.Statistic:
    """The gain in BIC of up to `most` breaks over none, with what all of them leave."""

    def statistic(series: Array) -> tuple[Array, Array]:
        rss, starts = _segment(series, most)
        bic = _bic(rss, series)
        return bic[:, 0] - bic.min(1), series - _levels(series, starts[:, most])

    return statistic


@lru_cache(maxsize=1024)
def _gain_of_one_more(lengths: tuple[int, ...]) -> serial.Statistic:
    """The gain in BIC of one more break in regimes of these lengths, with what it leaves."""
    starts = np.cumsum([0, *lengths])

    def statistic(series: Array) -> tuple[Array, Array]:
        before, after, at = np.zeros(len(series)), np.full(len(series), np.inf), np.zeros(len(series), np.int64)
        for start, stop in pairwise(starts):
            rss, cuts = _segment(series[:, start:stop], 1)
            better = rss[:, 1] - rss[:, 0] < after  # ∞ − RSS where a regime is one layer
            after = np.where(better, rss[:, 1] - rss[:, 0], after)
            at = np.where(better, start + cuts[:, 1, 0], at)
            before += rss[:, 0]
        bic = _bic(np.stack([before, before + after], axis=1), series)
        cuts = np.concatenate([np.broadcast_to(starts[1:-1], (len(series), len(lengths) - 1)), at[:, None]], axis=1)
        return bic[:, 0] - bic[:, 1], series - _levels(series, cuts)

    return statistic


def _levels(series: Array, starts: NDArray[np.int64]) -> Array:
    """The mean of its segment at each place, (S, n), for segments that start at 0 and at `starts` (S, breaks)."""
    segment = (np.arange(series.shape[1])[:, None] >= starts[:, None]).sum(-1)
    onehot = segment[..., None] == np.arange(starts.shape[1] + 1)
    counts = np.maximum(onehot.sum(1), 1)
    means = (series[..., None] * onehot).sum(1) / counts
    return np.take_along_axis(means, segment, axis=1)


def _segment(series: Array, most: int) -> tuple[Array, NDArray[np.int64]]:
    """Best piecewise-constant fits of many series (S, n).

    Returns
    -------
    rss : Array (S, most + 1)
    starts : integer array (S, most + 1, most)
        For c breaks, entries 0..c−1: where a new segment starts.
    """
    s, n = series.shape
    centred = series - series.mean(axis=1, keepdims=True)
    sums = np.concatenate([np.zeros((s, 1)), np.cumsum(centred, axis=1)], axis=1)
    squares = np.concatenate([np.zeros((s, 1)), np.cumsum(centred**2, axis=1)], axis=1)

    def costs(stop: int) -> Array:
        """RSS about the mean of series[:, start:stop], for every start before `stop`."""
        total = sums[:, [stop]] - sums[:, :stop]
        within = squares[:, [stop]] - squares[:, :stop] - total**2 / np.arange(stop, 0, -1)
        return np.asarray(np.maximum(within, 0.0))

    best = np.full((most + 1, s, n + 1), np.inf)  # best[c, :, j]: c breaks in the first j values
    last = np.zeros((most + 1, s, n + 1), dtype=np.int64)
    for stop in range(1, n + 1):
        cost = costs(stop)
        best[0, :, stop] = cost[:, 0]
        for c in range(1, min(most + 1, stop)):
            through = best[c - 1, :, c:stop] + cost[:, c:]
            choice = through.argmin(axis=1)
            best[c, :, stop] = through[np.arange(s), choice]
            last[c, :, stop] = c + choice
    starts = np.zeros((s, most + 1, most), dtype=np.int64)
    for c in range(1, most + 1):
        stop_at = np.full(s, n)
        for at in range(c, 0, -1):
            stop_at = last[at, np.arange(s), stop_at]
            starts[:, c, at - 1] = stop_at
    return best[:, :, n].T, starts
