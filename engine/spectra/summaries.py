"""Scalar summaries of non-negative spectra (methods §1): the last axis is the spectrum, in any order, the rest is kept.

Summaries of a spectrum of zeros, or with a NaN in it, are NaN.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

Array = NDArray[np.float64]


def _ratio(numerator: Array, denominator: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(numerator / denominator)


def shares(values: Array) -> Array:
    """p_k = λ_k/Σλ, same shape as `values`."""
    # Divide by the largest first, to keep sums of huge or tiny spectra in range.
    scaled = _ratio(values, values.max(axis=-1, keepdims=True))
    return _ratio(scaled, scaled.sum(axis=-1, keepdims=True))


def participation_ratio(values: Array) -> Array:
    """(Σλ)²/Σλ², the effective number of modes, from 1 to n."""
    return 1.0 / np.square(shares(values)).sum(axis=-1)


def normalised_participation_ratio(values: Array) -> Array:
    """pr/n, from 1/n to 1."""
    return participation_ratio(values) / values.shape[-1]


def entropy(values: Array) -> Array:
    """−Σ p ln p in nats, from 0 to ln n."""
    return np.asarray(entr(shares(values)).sum(axis=-1))


def effective_rank(values: Array) -> Array:
    """exp(entropy), from 1 to n."""
    return np.exp(entropy(values))


def stable_rank(values: Array) -> Array:
    """Σλ/λ_1; for λ = σ² this is ‖A‖_F²/‖A‖₂²."""
    return _ratio(values.sum(axis=-1), values.max(axis=-1))


def condition(values: Array) -> Array:
    """λ_1/λ_n; infinite when λ_n = 0 < λ_1. Pass the structurally nonzero part only."""
    return _ratio(values.max(axis=-1), values.min(axis=-1))


def leading(values: Array) -> Array:
    """λ_1."""
    return np.asarray(values.max(axis=-1))


def total(values: Array) -> Array:
    """Σλ."""
    return np.asarray(values.sum(axis=-1))


def total_square(values: Array) -> Array:
    """Σλ²."""
    return np.asarray(np.square(values).sum(axis=-1))
