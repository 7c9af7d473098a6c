"""From null draws to p-values, and from p-values to q-values."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

Array = NDArray[np.float64]


def two_sided_p(draws: Array, observed: Array) -> Array:
    """Exact two-sided Monte Carlo p-values from ranks: twice the smaller of (1 + #)/(1 + n), at most 1.

    Parameters
    ----------
    draws : Array (n,)
        The statistic under the null.
    observed : Array, any shape
        NaN gives NaN.
    """
    ordered = np.sort(draws)
    n = len(ordered)
    at_least = n - np.searchsorted(ordered, observed, side="left")
    at_most = np.searchsorted(ordered, observed, side="right")
    p = np.minimum(1.0, 2 * (1 + np.minimum(at_least, at_most)) / (1 + n))
    return np.where(np.isnan(observed), np.nan, p)


def smallest_p(n: int) -> float:
    """The smallest value that `two_sided_p` can return with `n` draws."""
    return min(1.0, 2 / (1 + n))


def draws_for_one(tests: int, level: float = 0.05) -> int:
    """Draws needed for Benjamini–Hochberg to reject a single one of `tests` at `level`: 2/(1+n) ≤ level/tests."""
    return int(np.ceil(2 * tests / level)) - 1


def benjamini_hochberg(p: Array) -> Array:
    """q-values over all of `p` together, same shape.

    NaN marks a pending test: it counts as p = 1, so that the other q are upper bounds, and stays NaN.
    """
    missing = np.isnan(p)
    if missing.all():
        return p.copy()
    q = false_discovery_control(np.where(missing, 1.0, p), axis=None).reshape(p.shape)
    return np.where(missing, np.nan, q)
