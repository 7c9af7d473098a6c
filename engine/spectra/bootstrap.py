"""Percentile bootstrap intervals over samples (methods §1, "Uncertainty")."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_BLOCK = 1 << 22  # counts sorted per batch


def interval(
    samples: Array,
    rng: np.random.Generator,
    statistic: Literal["mean", "median"] = "mean",
    draws: int = 2000,
    level: float = 0.95,
) -> Array:
    """Percentile bootstrap interval of the mean or the median over the last axis.

    All rows (layer, component) share one set of draws, as they share their samples.

    Parameters
    ----------
    samples : Array (..., N)
        NaN marks an absent sample. +inf, such as the κ of a singular Jacobian, counts as a value.

    Returns
    -------
    Array (..., 2)
        Lower and upper end; NaN where a row has fewer than two samples.
    """
    n = samples.shape[-1]
    resampled = _means if statistic == "mean" else _medians
    counts = rng.multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float64)
    ends = np.full((*samples.shape[:-1], 2), np.nan)
    for index in np.ndindex(samples.shape[:-1]):
        present = ~np.isnan(samples[index])
        if present.sum() < 2:
            continue
        drawn = counts if present.all() else counts[:, present]
        drawn = drawn[drawn.any(axis=1)]
        # Order statistics: infinite values cannot be interpolated.
        tails = [(1 - level) / 2, (1 + level) / 2]
        ends[index] = np.quantile(resampled(samples[index][present], drawn), tails, method="inverted_cdf")
    return ends


def _means(values: Array, counts: Array) -> Array:
    """The mean of each resample, (draws,)."""
    infinite = np.isinf(values)
    # Centre first, so that a large mean costs no digits of a small spread.
    centre = values[~infinite].mean() if not infinite.all() else 0.0
    means = counts @ np.where(infinite, 0.0, values - centre) / counts.sum(axis=1) + centre
    if infinite.any():
        means[counts @ infinite > 0] = np.inf
    return np.asarray(means)


def _medians(values: Array, counts: Array) -> Array:
    """The median of each resample, (draws,), from the counts of the sorted values."""
    order = np.argsort(values)
    ordered, medians, step = values[order], np.empty(len(counts)), max(1, _BLOCK // len(values))
    for start in range(0, len(counts), step):
        reached = np.cumsum(counts[start : start + step][:, order], axis=1)
        total = reached[:, -1:]
        lower, upper = (ordered[(reached <= at).sum(axis=1)] for at in ((total - 1) // 2, total // 2))
        medians[start : start + step] = np.where(lower == upper, lower, (lower + upper) / 2)
    return medians
