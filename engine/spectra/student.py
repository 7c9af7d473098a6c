"""Student's t without scipy, whose import would delay the window: p-values, and intervals of a mean."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_STEPS = 20_001


@lru_cache(maxsize=256)
def _table(df: int) -> tuple[Array, Array]:
    """θ = arctan(t/√df) and P(|T| ≤ t), which is ∫₀^θ cos^(df−1) over the same to π/2."""
    theta = np.linspace(0, np.pi / 2, _STEPS)
    density = np.cos(theta) ** (df - 1)
    mass = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return theta, mass / mass[-1]


def two_sided(t: float, df: int) -> float:
    """P(|T| ≥ |t|) with `df` degrees of freedom; NaN without any."""
    if df < 1 or np.isnan(t):
        return np.nan
    theta, mass = _table(df)
    return float(1 - np.interp(np.arctan(abs(t) / df**0.5), theta, mass))


def quantile(df: int, level: float = 0.95) -> float:
    """The t with P(|T| ≤ t) = `level`."""
    theta, mass = _table(df)
    return float(df**0.5 * np.tan(np.interp(level, mass, theta)))


def interval(values: NDArray[np.floating]) -> tuple[Array, Array, Array]:
    """Lower end, mean and upper end of the 95 % interval over the first axis; NaN counts as absent.

    The ends are NaN where there are fewer than two values.
    """
    n = np.isfinite(values).sum(0)
    mean = np.where(n > 0, np.nansum(values, 0) / np.maximum(n, 1), np.nan)
    spread = np.sqrt(np.nansum((values - mean) ** 2, 0) / np.maximum(n - 1, 1) / np.maximum(n, 1))
    factor = np.array([quantile(k - 1) if k > 1 else np.nan for k in range(int(n.max(initial=0)) + 1)])
    half = factor[n] * spread
    return mean - half, mean, mean + half


def welch(a: Array, b: Array) -> tuple[float, float, float]:
    """Lower end, mean and upper end of the 95 % interval of mean a − mean b, for unequal variances (Welch 1947).

    NaN counts as absent; the ends are NaN where either has fewer than two values. Degrees of freedom are rounded down.
    """
    a, b = a[np.isfinite(a)], b[np.isfinite(b)]
    if not len(a) or not len(b):
        return np.nan, np.nan, np.nan
    mean = float(a.mean() - b.mean())
    if min(len(a), len(b)) < 2:
        return np.nan, mean, np.nan
    shares = np.array([a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)])
    variance = shares.sum()
    if variance == 0:
        return mean, mean, mean
    df = variance**2 / (np.square(shares) / [len(a) - 1, len(b) - 1]).sum()
    half = quantile(max(1, int(df))) * float(np.sqrt(variance))
    return mean - half, mean, mean + half
