"""The power law of a spectrum's density, p(λ) ∝ λ^−α above x_min, by maximum likelihood (methods eq. 1.8).

Clauset, Shalizi and Newman (2009): x_min is where the Kolmogorov–Smirnov distance is smallest, p comes from a
semi-parametric bootstrap that refits x_min in every draw, and a likelihood ratio (Vuong) compares the law with a
lognormal. This α is not the slope along rank: a pure rank law λ_i ∝ i^−a has α = 1 + 1/a.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FEWEST = 10  # values in a tail; with fewer, the distance is small by chance
CANDIDATES = 64  # for x_min in the bootstrap and in the observed distance that it is compared with
AT_ONCE = 2**22  # distances per array, over several tails


@dataclass(frozen=True)
class DensityFit:
    """All NaN with an empty tail where a spectrum has too few positive values."""

    alpha: float  # `alpha_esd`
    se: float  # (α − 1)/√tail
    xmin: float
    tail: int  # values from x_min on
    ks: float
    p: float  # share of draws from the fitted law with a larger distance; small values speak against a power law
    lognormal_ratio: float  # log-likelihood ratio over its standard deviation: positive favours the power law
    lognormal_p: float  # p of its sign


NOTHING = DensityFit(np.nan, np.nan, np.nan, 0, np.nan, np.nan, np.nan, np.nan)


def fit(values: Array, rng: np.random.Generator, draws: int = 100) -> DensityFit:
    """Fit `alpha_esd` to the positive finite values of one spectrum.

    Parameters
    ----------
    draws : int
        Bootstrap draws; p has an error of about ½/√draws, and is NaN for 0 draws.
    """
    import powerlaw  # imports matplotlib: keep it lazy

    x = np.sort(values[np.isfinite(values) & (values > 0)])
    n = len(x)
    if n < 2 * FEWEST or x[0] == x[-1]:
        return NOTHING
    ks, start = _closest(x, np.arange(n - FEWEST + 1))
    alpha, tail = float(1 + (n - start) / np.log(x[start:] / x[start]).sum()), n - start
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # The default range of the library ends at α = 3
        law = powerlaw.Fit(x, xmin=x[start], parameter_ranges={"alpha": [1.0, None]}, verbose=0)
        ratio, ratio_p = law.distribution_compare("power_law", "lognormal", normalized_ratio=True)
        if law.lognormal.noise_flag:  # it did not converge
            ratio = ratio_p = np.nan
    coarse = np.unique(np.linspace(0, n - FEWEST, CANDIDATES).astype(np.int64))
    observed = _closest(x, coarse)[0]
    further = 0
    for _ in range(draws):
        inside = rng.binomial(n, tail / n) if start else n
        drawn = x[start] * rng.random(inside) ** (-1 / (alpha - 1))
        below = x[rng.integers(start, size=n - inside)] if inside < n else x[:0]
        further += _closest(np.sort(np.concatenate([below, drawn])), coarse)[0] >= observed
    p = (1 + further) / (1 + draws) if draws else np.nan
    return DensityFit(alpha, (alpha - 1) / tail**0.5, float(x[start]), tail, ks, p, float(ratio), float(ratio_p))


def _closest(x: Array, starts: NDArray[np.int64]) -> tuple[float, int]:
    """The smallest KS distance over tails of ascending `x` that begin at `starts`, and where that tail begins.

    For each tail α = 1 + m/Σ ln(x_i/x_min), and the distance is to the empirical distribution from below.
    """
    n = len(x)
    starts = np.unique(np.searchsorted(x, x[starts]))  # the first of equal values
    logs = np.log(x)
    sums = np.cumsum(logs[::-1])[::-1]
    m = n - starts
    total = sums[starts] - m * logs[starts]
    starts, m, total = starts[total > 0], m[total > 0], total[total > 0]
    pieces = -(-len(starts) * n // AT_ONCE)
    parts = zip(*(np.array_split(array, pieces) for array in (starts, m, m / total)), strict=True)
    distance = np.concatenate([_distances(logs, *part) for part in parts])
    best = int(distance.argmin())
    return float(distance[best]), int(starts[best])


def _distances(logs: Array, starts: NDArray[np.int64], m: NDArray[np.int64], slope: Array) -> Array:
    """KS distances of the tails of m values from `starts` on, whose exponent is α − 1 = `slope`."""
    order = np.arange(len(logs))
    below = np.exp(-slope[:, None] * np.maximum(logs - logs[starts, None], 0.0))
    gap = np.abs(1 - below - (order - starts[:, None]) / m[:, None])
    return np.asarray(np.where(order >= starts[:, None], gap, 0.0).max(axis=1))
