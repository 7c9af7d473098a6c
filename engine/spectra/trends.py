"""Statistics along depth: thirds, U shape, tests of rise and turn, regimes between change points (methods §6)."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine.spectra.student import two_sided

Array = NDArray[np.float64]

NULL_DRAWS = 1999


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
    """Tests of a rise, a fall or a turn along depth."""

    layers: int
    spearman: float
    spearman_p: float  # two-sided, against the same values in any order
    slope: float  # of the straight line, per layer
    curvature: float  # positive: a bowl
    vertex: float  # the layer at which the parabola turns
    turn_p: float  # p of a turn: a fall before the vertex and a rise after it, or the reverse

    def shape(self, level: float = 0.05) -> Literal["bowl", "arch", "rising", "falling", "no trend"]:
        """The shape that the tests support; a turn takes precedence over a rise."""
        if self.turn_p < level:
            return "bowl" if self.curvature > 0 else "arch"
        if self.spearman_p < level:
            return "rising" if self.spearman > 0 else "falling"
        return "no trend"


def trend(values: NDArray[np.floating]) -> Trend:
    """Spearman's ρ against depth, and the test of a turn by Lind and Mehlum (2010).

    The test fits a parabola and takes the larger of the one-sided p of a fall at one end and of a rise at the other, so
    that a bent but monotone profile is no bowl. There is no turn where the value at the vertex does not lie beyond both
    ends.

    Parameters
    ----------
    values : Array (L,)
        NaN marks an absent layer; below 5 layers everything is NaN.
    """
    layers = np.flatnonzero(np.isfinite(values))
    y, n = values[layers], len(layers)
    if n < 5:
        return Trend(n, *[np.nan] * 6)
    rho, p = spearman(np.arange(n, dtype=np.float64), y)
    middle, half = (layers[0] + layers[-1]) / 2, (layers[-1] - layers[0]) / 2
    x = (layers - middle) / half
    line = np.polynomial.polynomial.polyfit(x, y, 1)
    design = np.stack([np.ones(n), x, x**2], axis=1)
    (_, b, c), *_ = np.linalg.lstsq(design, y)
    rss = np.square(y - design @ np.linalg.lstsq(design, y)[0]).sum()
    cov = np.linalg.inv(design.T @ design) * max(rss, np.finfo(np.float64).tiny) / (n - 3)
    ends = [np.sign(c) * (b + 2 * c * at) for at in (-1, 1)]  # of a turn: negative, then positive
    errors = [np.sqrt(cov[1, 1] + 4 * at * cov[1, 2] + 4 * cov[2, 2]) for at in (-1, 1)]
    one_sided = [_upper(sign * end / error, n - 3) for sign, end, error in zip((-1, 1), ends, errors, strict=True)]
    vertex = middle - half * b / (2 * c) if c else np.nan
    turning = y[np.argmin(np.abs(layers - vertex))] if layers[0] < vertex < layers[-1] else np.nan
    turns = np.sign(c) * (y[0] - turning) > 0 and np.sign(c) * (y[-1] - turning) > 0
    turn_p = max(one_sided) if turns else 1.0
    return Trend(n, rho, p, float(line[1] / half), float(c / half**2), float(vertex), turn_p)


def spearman(x: NDArray[np.floating], y: NDArray[np.floating]) -> tuple[float, float]:
    """Rank correlation, and its two-sided p against random orders; both NaN below 5 complete pairs."""
    paired = np.isfinite(x) & np.isfinite(y)
    n = int(paired.sum())
    if n < 5:
        return np.nan, np.nan
    a, b = _ranks(x[paired]), _ranks(y[paired])
    rho = float(np.corrcoef(a, b)[0, 1]) if np.ptp(a) > 0 and np.ptp(b) > 0 else 0.0
    null = _null_spearman(n)
    return rho, float((1 + np.count_nonzero(np.abs(null) >= abs(rho) - 1e-12)) / (1 + len(null)))


def _upper(t: float, df: int) -> float:
    """P(T ≥ t)."""
    tail = two_sided(float(t), df) / 2
    return tail if t > 0 else 1 - tail


def _ranks(values: NDArray[np.floating]) -> Array:
    """Ranks from 0, equal values sharing their mean rank."""
    below = (values[:, None] > values).sum(1)
    return np.asarray(below + ((values[:, None] == values).sum(1) - 1) / 2)


@lru_cache(maxsize=64)
def _null_spearman(n: int) -> Array:
    """ρ of n layers in random orders, a table with a fixed seed."""
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
    noise of 12 layers (with the usual 2K ln n in 46 %), so a test decides the number: a first break, if the gain in BIC
    exceeds that of all but `level` of white noise of the same length, which is exact for any mean and scale; one more
    than K, if its gain exceeds that in noise about the K + 1 levels.

    Parameters
    ----------
    values : Array (L,)
        Pass logarithms of values that span decades. NaN marks an absent layer.
    """
    layers = np.flatnonzero(~np.isnan(values))
    x = values[layers]
    n = len(x)
    most = max(0, min(most, n // 2 - 1))  # two layers for each regime on average
    if n == 0:
        return Regimes(((),), ((np.nan,),), np.full(1, np.nan), np.full(1, np.nan), np.nan, (), 0)
    rss, starts = (part[0] for part in _segment(x[None], most))
    # A perfect fit would have BIC −∞: bound RSS by rounding.
    floor = n * np.square(np.finfo(np.float64).eps * np.abs(x).max()) + np.finfo(np.float64).tiny
    bic = _bic(np.maximum(rss, floor), n)
    slope = np.polynomial.Polynomial.fit(layers, x, 1)(layers) if n > 2 else x
    line = n * np.log(max(np.square(x - slope).sum(), floor) / n) + np.log(n)
    breaks = tuple(tuple(int(layers[at]) for at in starts[count, :count]) for count in range(most + 1))
    means = tuple(tuple(float(part.mean()) for part in np.split(x, starts[count, :count])) for count in range(most + 1))
    nulls = [_null_gains(n, most)] if most else []
    nulls += [_null_gains_of_one_more(tuple(np.diff([0, *starts[count, :count], n]))) for count in range(1, most)]
    gains = [bic[0] - bic.min(), *(bic[1:-1] - bic[2:])]
    p_values = tuple(
        float((1 + np.count_nonzero(null >= gain)) / (1 + NULL_DRAWS)) for null, gain in zip(nulls, gains, strict=False)
    )
    supported = next((count for count, p in enumerate(p_values) if p > level), most)
    return Regimes(breaks, means, rss, bic, float(line), p_values, supported)


PHASES = {0: ("one phase",), 1: ("early", "late"), 2: ("early", "transition", "late")}


def phases(fit: Regimes, count: int) -> tuple[str, ...]:
    """The phase of each of `count` places, by the supported breaks of a fit with at most two."""
    starts = fit.breaks[fit.supported]
    return tuple(PHASES[len(starts)][sum(at >= start for start in starts)] for at in range(count))


def _bic(rss: Array, n: int) -> Array:
    return np.asarray(n * np.log(rss / n) + 3 * np.arange(rss.shape[-1]) * np.log(n))


@lru_cache(maxsize=64)
def _null_gains(n: int, most: int) -> Array:
    """Gains in BIC of any breaks in white noise, (NULL_DRAWS,), a table with a fixed seed."""
    bic = _bic(_segment(np.random.default_rng(0).standard_normal((NULL_DRAWS, n)), most)[0], n)
    return np.asarray(bic[:, 0] - bic.min(axis=1))


@lru_cache(maxsize=1024)
def _null_gains_of_one_more(lengths: tuple[int, ...]) -> Array:
    """Gains in BIC of one more break in noise about regimes of these lengths, (NULL_DRAWS,)."""
    rng, n = np.random.default_rng(0), sum(lengths)
    before, best = np.zeros(NULL_DRAWS), np.zeros(NULL_DRAWS)
    for length in lengths:
        rss = _segment(rng.standard_normal((NULL_DRAWS, length)), 1)[0]
        before += rss[:, 0]
        best = np.maximum(best, rss[:, 0] - rss[:, 1])  # −∞ where a regime is one layer
    return np.asarray(n * np.log(before / (before - best)) - 3 * np.log(n))


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
