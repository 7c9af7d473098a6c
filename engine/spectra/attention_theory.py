"""Formulas of S2's synthetic figures beside the exact values (methods §5).

Plain arithmetic on arrays, quick enough to follow a slider.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def power_law(n: int, alpha: float) -> Array:
    """σ_i = i^−α for i = 1..n (S2 eq. 2 with C = 1)."""
    return np.arange(1, n + 1, dtype=float) ** -alpha


def effective_rank(n: int, alpha: float) -> float:
    """(Σσ)²/Σσ² of σ_i = i^−α, summed exactly; for large n at α = 1 it is (ln n)²/ζ(2)."""
    sigma = power_law(n, alpha)
    return float(sigma.sum() ** 2 / np.square(sigma).sum())


def claimed_effective_rank(n: int, alpha: float) -> float:
    """S2 eq. 3, ((2α − 1)/(2α)) n^((2α − 1)/α), defined for α > ½; NaN elsewhere.

    At α = 1 it gives n/2, where S2's text says O(√n). The sum itself grows as (ln n)²: O(√n), but not as √n.
    """
    if alpha <= 0.5:
        return float("nan")
    return float((2 * alpha - 1) / (2 * alpha) * n ** ((2 * alpha - 1) / alpha))


def relaxed(initial: Array, final: Array, tau: Array, t: Array | float) -> Array:
    """λ_i(t) = λ_i(∞)(1 − e^(−t/τ_i)) + λ_i(0) e^(−t/τ_i) (S2 eq. 1)."""
    decay = np.exp(-np.asarray(t) / tau)
    return np.asarray(final * (1 - decay) + initial * decay)


def uniform(n: int) -> Array:
    """Every row 1/n: the largest entropy, ln n, and rank 1. It contradicts S2 eq. 5."""
    return np.full((n, n), 1 / n)


@lru_cache(maxsize=8)
def uniform_causal(n: int) -> tuple[float, float]:
    """Effective rank exp H(σ/Σσ) and exp of the mean entropy of causal rows 1/i, which have full rank.

    Their mean entropy is ln(n!)/n, the largest that causal rows can have.
    """
    sigma = np.linalg.svd(np.tril(np.ones((n, n))) / np.arange(1, n + 1)[:, None], compute_uv=False)
    share = sigma / sigma.sum()
    return float(np.exp(-(share * np.log(share)).sum())), float(np.exp(np.log(np.arange(1, n + 1)).mean()))


def identity(n: int) -> Array:
    """Every token reads itself: entropy 0 and rank n. It contradicts S2 eq. 5."""
    return np.eye(n)


def random_attention(n: int, sparsity: float, rng: np.random.Generator) -> Array:
    """Random rows with exponential weights at `kept` random places, normalised (S2 fig. 4)."""
    weights = rng.exponential(size=(n, n))
    drop = rng.random((n, n)).argsort(1).argsort(1) >= kept(n, sparsity)
    weights[drop] = 0
    return np.asarray(weights / weights.sum(1, keepdims=True))


def kept(n: int, sparsity: float) -> int:
    """Number of weights left in a row at this sparsity, at least one."""
    return max(1, n - int(sparsity * n + 1e-9))


def random_norms(n: int, sparsity: float) -> tuple[float, float]:
    """Expected ‖A‖_F and ‖A‖₂ of `random_attention`; neither grows with √n or ln n *(ours)*.

    k exponential weights, normalised, have Σa² = 2/(k + 1) on average, so ‖A‖_F = √(2n/(k + 1)). A is 11ᵀ/n and noise
    of the variance τ² = 2/(k + 1) − 1/n in a row, whose rows sum to 0; so AAᵀ is 11ᵀ/n and the noise's own square, and
    its leading eigenvalue 1/(1 − τ²) while τ² < ½, and otherwise 4τ², the edge of the noise (Benaych-Georges and
    Nadakuditi 2011).
    """
    square = 2 / (kept(n, sparsity) + 1)
    noise = max(0.0, square - 1 / n)
    return float(np.sqrt(n * square)), float((1 - noise) ** -0.5 if noise < 0.5 else 2 * np.sqrt(noise))


def expressivity(n: int, sparsity: float, kappa: float, d_model: int) -> float:
    """Effective rank over n of a spectrum that falls from 1 to 1/κ by equal factors *(ours)*.

    It has as many modes as weights are kept in a row, and no more than `d_model`. S2 eq. 6 says only that expressivity
    is at most some f(rank, d_model, heads), and draws a curve.
    """
    modes = min(kept(n, sparsity), d_model)
    sigma = kappa ** -np.linspace(0, 1, modes)
    share = sigma / sigma.sum()
    return float(np.exp(-(share * np.log(share)).sum()) / n)


def stability_margin(norm: Array | float) -> Array | float:
    """2 − ‖A‖₂, positive by S2's criterion for stable training."""
    return 2 - norm


def crossing(x: Array, falling: Array, rising: Array) -> Array:
    """The first x at which two curves (..., x) cross, by linear interpolation; NaN where they do not."""
    apart = np.asarray(falling - rising, float)
    with np.errstate(invalid="ignore"):
        crosses = (apart[..., :-1] * apart[..., 1:] <= 0) & (apart[..., :-1] != apart[..., 1:])
    first = crosses.argmax(-1)[..., None]
    before, after = (np.take_along_axis(apart, first + step, -1)[..., 0] for step in (0, 1))
    left, right = x[first[..., 0]], x[first[..., 0] + 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        crossings = left + (right - left) * before / (before - after)
    return np.where(crosses.any(-1), crossings, np.nan)
