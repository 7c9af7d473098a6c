"""Densities of spectra on logarithmic bins, with a separate bin for zeros."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def log_edges(values: Array, floor: Array, bins: int) -> Array:
    """Edges of a zero bin and of `bins` logarithmic bins that hold every value above `floor` (broadcast to `values`).

    Returns
    -------
    Array (bins + 2,)
        0, then from just below the smallest value to just above the largest; 1 to 10 if there is none.
    """
    kept = values[(values > floor) & (values > 0)]
    low, high = (kept.min() * 0.999, kept.max() * 1.001) if len(kept) else (1.0, 10.0)
    return np.concatenate(([0.0], np.geomspace(low, high, bins + 1)))


def density(values: Array, edges: Array, size: int) -> Array:
    """Density P(λ) of spectra of `size` values, whose nonzero ones are the last axis of `values`.

    Returns
    -------
    Array (..., len(edges) − 1)
        ∫ P = 1 over all bins. NaN values pad shorter spectra; a spectrum of NaN alone gives NaN.
    """
    finite = np.isfinite(values)
    bins = len(edges) - 1
    at = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, bins - 1)
    flat = at + bins * np.arange(values[..., 0].size).reshape(values.shape[:-1])[..., None]
    counts = np.bincount(flat[finite], minlength=values[..., 0].size * bins).astype(np.float64)
    counts = counts.reshape(*values.shape[:-1], bins)
    counts[..., 0] += size - finite.sum(axis=-1)
    counts[~finite.any(axis=-1)] = np.nan
    return counts / (size * np.diff(edges))
