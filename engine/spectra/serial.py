"""Tests of series whose neighbours resemble each other: layers along depth, checkpoints of one training (methods §13).

The null is noise of the first order, x_t = φ x_{t−1} + e_t, up to the random walk (φ = 1). How strongly neighbours
resemble each other is not known, and too short a series does not tell it well; so each test takes the largest p over
all φ that the series itself does not exclude (Berger and Boos 1994). It therefore errs on the side of saying nothing.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Statistic = Callable[[Array], tuple[Array, Array]]
"""From series (S, n) to how extreme each is, (S,), and to what is left of it without the effect sought, (S, n)."""

DRAWS = 999
EXCLUDED = 0.005
"""Chance that the true φ is taken for excluded; it is added to every p."""
PHI = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 1.0)
STATIONARY = PHI[:5]
"""Up to 0.8. The mean of more persistent noise is known no better from a dozen layers than from one."""
FEWEST = 5


def p_value(statistic: Statistic, values: Array, phi: tuple[float, ...] = PHI) -> float:
    """P that noise of any admissible φ is at least as extreme as `values` (n,); NaN below `FEWEST` values."""
    if len(values) < FEWEST:
        return np.nan
    extreme, left = (part[0] for part in statistic(values[None]))
    largest = 0.0
    tables = _tables(statistic, len(values), phi)
    for at in _admissible([lag_one for _, lag_one in tables], left):
        largest = max(largest, (1 + np.count_nonzero(tables[at][0] >= extreme - 1e-12)) / (1 + DRAWS))
    return min(1.0, largest + EXCLUDED)


def trend_p(values: Array) -> float:
    """Two-sided p of a rise or fall (n,): of a straight line, or of the order alone, which a bent one has too."""
    return min(1.0, 2 * min(p_value(statistic, values) for statistic in (slope_over_error, rank_agreement)))


def mean_interval(values: Array, level: float = 0.95, sloped: bool = False) -> tuple[float, float, float]:
    """Lower end, mean and upper end of the interval of the mean of a stationary series (n,); NaN counts as absent.

    The ends are NaN below `FEWEST` values. A random walk has no mean, so φ goes up to 0.8 only. With `sloped` a
    straight line may lie beneath the noise: the mean is that of the line.
    """
    values = values[np.isfinite(values)]
    n, mean = len(values), float(values.mean()) if len(values) else np.nan
    if n < FEWEST:
        return np.nan, mean, np.nan
    statistic = mean_beside_slope if sloped else mean_over_error
    left = statistic(values[None])[1][0]
    tables = _tables(statistic, n, STATIONARY)
    admissible = _admissible([lag_one for _, lag_one in tables], left)
    factor = max(float(np.quantile(tables[at][0], min(1.0, level + EXCLUDED))) for at in admissible)
    half = factor * float(np.sqrt(np.square(left).sum() / (n - 1 - sloped) / n))
    return mean - half, mean, mean + half


def correlation_p(x: Array, y: Array) -> float:
    """Two-sided p of Spearman's ρ of two series (n,) against independent series that each have their own φ.

    NaN below three pairs.
    """
    n = len(x)
    if n < 3:
        return np.nan
    rho = abs(float(rank_correlation(x[None], y[None])[0]))
    lags = _noise_lags(n)
    largest = 0.0
    for i in _admissible(lags, x - x.mean()):
        for j in _admissible(lags, y - y.mean()):
            null = _null_correlations(n, min(i, j), max(i, j))
            largest = max(largest, (1 + np.count_nonzero(null >= rho - 1e-12)) / (1 + DRAWS))
    return min(1.0, largest + 2 * EXCLUDED)


def effective_pairs(x: Array, y: Array) -> float:
    """How many independent pairs say as much about a correlation as these (n,): n (1 − r_x r_y)/(1 + r_x r_y).

    Bartlett (1935); r is each series' lag-one correlation, corrected for the bias of short series (Kendall 1954).
    """
    n = len(x)
    lags = [float(lag_one_correlation(values[None] - values.mean())[0]) for values in (x, y)]
    product = float(np.prod([np.clip(lag + (1 + 3 * lag) / n, 0.0, 0.95) for lag in lags]))
    return n * (1 - product) / (1 + product)


def slope_over_error(series: Array) -> tuple[Array, Array]:
    """|t| of a straight line by least squares, and the residuals."""
    n = series.shape[1]
    at = np.arange(n) - (n - 1) / 2
    slope = series @ at / (at @ at)
    left = series - series.mean(1, keepdims=True) - slope[:, None] * at
    return _over(np.abs(slope), np.sqrt(np.square(left).sum(1) / (n - 2) / (at @ at))), left


def rank_agreement(series: Array) -> tuple[Array, Array]:
    """|ρ| of Spearman with the order, and the residuals of a straight line."""
    order = np.broadcast_to(np.arange(series.shape[1], dtype=np.float64), series.shape)
    return np.abs(rank_correlation(series, order)), slope_over_error(series)[1]


def mean_over_error(series: Array) -> tuple[Array, Array]:
    """|t| of the mean, and the deviations from it."""
    mean = series.mean(1)
    return _over(np.abs(mean), series.std(1, ddof=1) / np.sqrt(series.shape[1])), series - mean[:, None]


def mean_beside_slope(series: Array) -> tuple[Array, Array]:
    """|t| of the mean beside a straight line, and the residuals of the line."""
    n, left = series.shape[1], slope_over_error(series)[1]
    return _over(np.abs(series.mean(1)), np.sqrt(np.square(left).sum(1) / (n - 2) / n)), left


def first_third_over_rest(series: Array) -> tuple[Array, Array]:
    """|t| of the mean of the first third less that of the rest, and the deviations from the two."""
    n, edge = series.shape[1], series.shape[1] // 3
    means = [part.mean(1, keepdims=True) for part in (series[:, :edge], series[:, edge:])]
    left = np.concatenate([series[:, :edge] - means[0], series[:, edge:] - means[1]], axis=1)
    error = np.sqrt(np.square(left).sum(1) / (n - 2) * (1 / edge + 1 / (n - edge)))
    return _over(np.abs(means[0] - means[1])[:, 0], error), left


def lower_end_above_middle(series: Array) -> tuple[Array, Array]:
    """How far the lower of both ends lies above the mean between them, in standard deviations of what lies between."""
    inner = series[:, 1:-1]
    left = inner - inner.mean(1, keepdims=True)
    height = np.minimum(series[:, 0], series[:, -1]) - inner.mean(1)
    return _over(height, inner.std(1, ddof=1)), left


def lower_end_below_middle(series: Array) -> tuple[Array, Array]:
    """How far the lower of both ends lies below the mean between them."""
    height, left = lower_end_above_middle(series)
    return -height, left


def turn_over_error(series: Array) -> tuple[Array, Array]:
    """The smaller t of the two slopes at the ends of a parabola, in the sense of a turn (Lind and Mehlum 2010).

    −∞ where the value at the vertex does not lie beyond both ends. With it, what the parabola leaves.
    """
    n = series.shape[1]
    x = np.linspace(-1, 1, n)
    design = np.stack([np.ones(n), x, x**2], axis=1)
    coefficients = series @ np.linalg.pinv(design).T
    left = series - coefficients @ design.T
    b, c = coefficients[:, 1], coefficients[:, 2]
    covariance = np.linalg.inv(design.T @ design)
    scale = np.sqrt(np.square(left).sum(1) / (n - 3))
    ends = [
        _over(
            np.sign(c) * side * (b + 2 * c * side),
            scale * np.sqrt(covariance[1, 1] + 4 * side * covariance[1, 2] + 4 * covariance[2, 2]),
        )
        for side in (-1, 1)
    ]
    with np.errstate(divide="ignore", invalid="ignore"):
        vertex = np.where(c != 0, -b / (2 * c), np.inf)
    at_vertex = np.abs(x - vertex[:, None]).argmin(1)
    turning = series[np.arange(len(series)), at_vertex]
    turns = (np.abs(vertex) < 1) & (np.sign(c) * (series[:, 0] - turning) > 0)
    turns &= np.sign(c) * (series[:, -1] - turning) > 0
    return np.where(turns, np.minimum(*ends), -np.inf), left


def lag_one_correlation(series: Array) -> Array:
    """Σ x_t x_{t−1}/Σ x_t² of residuals (S, n), (S,); 0 where nothing is left."""
    squares = np.square(series).sum(1)
    return np.asarray((series[:, 1:] * series[:, :-1]).sum(1) / np.where(squares > 0, squares, 1.0))


def rank_correlation(x: Array, y: Array) -> Array:
    """Spearman's ρ of each pair of rows (S, n), equal values sharing their mean rank; 0 where one is constant."""
    a, b = ranks(x), ranks(y)
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    size = np.sqrt(np.square(a).sum(1) * np.square(b).sum(1))
    return np.asarray((a * b).sum(1) / np.where(size > 0, size, 1.0))


def ranks(series: Array) -> Array:
    """Ranks along the last axis from 0, equal values sharing their mean rank."""
    below = (series[..., :, None] > series[..., None, :]).sum(-1)
    return np.asarray(below + ((series[..., :, None] == series[..., None, :]).sum(-1) - 1) / 2)


def noise(phi: float, length: int, draws: int, rng: np.random.Generator) -> Array:
    """Series x_t = φ x_{t−1} + e_t (methods eq. 13.1), (draws, length), stationary where φ < 1."""
    series = rng.standard_normal((draws, length))
    if phi < 1:
        series[:, 0] /= np.sqrt(1 - phi**2)
    for t in range(1, length):
        series[:, t] += phi * series[:, t - 1]
    return np.asarray(series)


def _over(effect: Array, error: Array) -> Array:
    """Effect over error; a series without any noise has as much of an effect as rounding lets it show."""
    return np.asarray(effect / np.maximum(error, np.finfo(np.float64).tiny))


def _admissible(lags: Sequence[Array], left: Array) -> list[int]:
    """Which φ, by their index, agree with the lag-one correlation of residuals (n,); `lags` holds its null for each.

    The smallest φ stays for series that alternate, the largest for those smoother than any.
    """
    observed = float(lag_one_correlation(left[None])[0])
    return [
        at
        for at, lag_one in enumerate(lags)
        if (at == 0 or np.mean(lag_one <= observed + 1e-12) >= EXCLUDED / 2)
        and (at == len(lags) - 1 or np.mean(lag_one >= observed - 1e-12) >= EXCLUDED / 2)
    ]


@lru_cache(maxsize=64)
def _tables(statistic: Statistic, n: int, phi: tuple[float, ...]) -> tuple[tuple[Array, Array], ...]:
    """For each φ, the statistic and the lag-one correlation of what is left, (DRAWS,) each, with a fixed seed."""
    tables = []
    for value in phi:
        extreme, left = statistic(noise(value, n, DRAWS, np.random.default_rng(0)))
        tables.append((extreme, lag_one_correlation(left)))
    return tuple(tables)


@lru_cache(maxsize=64)
def _noise_lags(n: int) -> tuple[Array, ...]:
    """Lag-one correlations about the mean for each of `PHI`, (DRAWS,)."""
    drawn = (noise(phi, n, DRAWS, np.random.default_rng(0)) for phi in PHI)
    return tuple(lag_one_correlation(series - series.mean(1, keepdims=True)) for series in drawn)


@lru_cache(maxsize=512)
def _null_correlations(n: int, i: int, j: int) -> Array:
    """|ρ| of independent series of the i-th and the j-th of `PHI`, (DRAWS,)."""
    rng = np.random.default_rng(0)
    return np.abs(rank_correlation(noise(PHI[i], n, DRAWS, rng), noise(PHI[j], n, DRAWS, rng)))
