"""λ of W_Aᵀ W_B for iid Gaussian W_A, W_B (d_h×d): limiting laws and the exact finite-size null (methods §2).

All λ of products are in units of d²σ_A²σ_B², with σ² the mean square of a matrix's entries, so that they are free of
scale; c = d_h/d. For c > 1 the laws are those of the d nonzero λ. `noise_eigenvalues` is the noise control of one
Gaussian matrix (methods §1).
"""

import numpy as np
import torch
from numpy.typing import NDArray

from engine.spectra.factored import Fold, structural_rank, triangular
from engine.spectra.threads import over_threads

Array = NDArray[np.float64]

BATCH_BYTES = 16 << 20  # memory budget for the factors of one batch of draws


def marchenko_pastur_edges(c: float) -> tuple[float, float]:
    """Edges of the naive single Marchenko–Pastur law, (1 ∓ √c)²."""
    return (1 - c**0.5) ** 2, (1 + c**0.5) ** 2


def marchenko_pastur_density(x: Array, c: float) -> Array:
    """Density of the naive law at `x`; it ignores that both factors are random, and serves comparison only."""
    low, high = marchenko_pastur_edges(c)
    with np.errstate(divide="ignore", invalid="ignore"):
        density = np.sqrt(np.clip((high - x) * (x - low), 0, None)) / (2 * np.pi * min(c, 1.0) * x)
    return np.where(x > 0, density, 0.0)


def product_law_edges(c: float) -> tuple[float, float]:
    """Edges of the product law: where the discriminant of its cubic changes sign.

    In m it is c²x(4x² − (8+20c−c²)x + 4(1−c)³), whose roots these are. From c = 1 on the product is a full square
    matrix and its law reaches zero.
    """
    middle, spread = 8 + 20 * c - c**2, np.sqrt(c * (c + 8) ** 3)
    low = (middle - spread) / 8 if c < 1 else 0.0
    return float(low), float((middle + spread) / 8)


def product_law_density(x: Array, c: float) -> Array:
    """Density of MP_c ⊠ MP_c at `x`, the law of λ at large d (methods eqs. 2.5, 2.6).

    c²m³ + (c²+2c)m² + (1+2c−x)m + 1 = 0; density |Im m|/(πx); moments 1 and 1+2c when c ≤ 1.
    """
    low, high = product_law_edges(c)
    inside = (x > max(low, 0.0)) & (x < high)
    at = x[inside]
    companion = np.zeros((len(at), 3, 3))
    companion[:, 0] = -np.column_stack((np.full_like(at, c**2 + 2 * c), 1 + 2 * c - at, np.ones_like(at))) / c**2
    companion[:, 1, 0] = companion[:, 2, 1] = 1
    density = np.zeros_like(x)
    density[inside] = max(c, 1.0) * np.abs(np.linalg.eigvals(companion).imag).max(axis=-1) / (np.pi * at)
    return density


def law_grid(c: float, points: int = 400) -> Array:
    """Points from edge to edge of the product law, denser at both edges, where the densities are steep."""
    low, high = product_law_edges(c)
    return low + (high - low) * (1 - np.cos(np.linspace(0, np.pi, points))) / 2


def gaussian_triangular(rng: np.random.Generator, draws: int, r: int, d: int) -> Array:
    """R of the thin QR of iid N(0, 1) matrices (d, r), up to the signs of its rows: (draws, r, r); needs d ≥ r.

    Bartlett's decomposition: χ of d, d−1, … degrees of freedom on the diagonal, N(0, 1) above it, all independent.
    So one draw of the exact finite-size null costs r² numbers instead of r·d.
    """
    triangle = np.triu(rng.standard_normal((draws, r, r)), 1)
    triangle[:, np.arange(r), np.arange(r)] = np.sqrt(rng.chisquare(d - np.arange(r), (draws, r)))
    return triangle


def null_eigenvalues(
    rng: np.random.Generator,
    draws: int,
    r: int,
    d: int,
    folds: tuple[Fold | None, Fold | None] = (None, None),
) -> Array:
    """Monte Carlo draws of λ of W_Aᵀ W_B for iid Gaussian W_A, W_B, in units of d²σ_A²σ_B² of each draw's own entries.

    Draws are scaled by their own entries, as trained heads are, so the rank of a head among the draws is an exact test
    at any scale of the weights.

    Parameters
    ----------
    r, d : int
        Shape of the factors, d_h × d.
    folds : pair of Fold, optional
        The norm folded into W_A and into W_B; None leaves that factor as it is.

    Returns
    -------
    Array (draws, mode), descending, of the modes that can differ from zero.
    """

    def factor(count: int, fold: Fold | None) -> torch.Tensor:
        if fold is None and d >= r:
            return torch.from_numpy(gaussian_triangular(rng, count, r, d))
        full = torch.from_numpy(rng.standard_normal((count, r, d), dtype=np.float32))
        return torch.cat(over_threads(lambda w: triangular(fold(w) if fold else w), full.tensor_split(pieces)))

    rank = min(structural_rank(r, d, fold) for fold in folds)
    wide, pieces = d < r or any(folds), 2 * torch.get_num_threads()
    batch = max(1, BATCH_BYTES // (8 * r * (d if wide else r)))
    parts = []
    for start in range(0, draws, batch):
        count = min(batch, draws - start)
        a, b = factor(count, folds[0]), factor(count, folds[1])
        core = a @ b.mT
        # Squaring the core is safe in fp64 here, where λ spans few decades, and twice as fast as its SVD.
        squares = (core @ core.mT).tensor_split(pieces)
        values = torch.cat(over_threads(torch.linalg.eigvalsh, squares)).flip(-1).clamp_min(0)
        unit = a.square().sum((-2, -1)) * b.square().sum((-2, -1)) / r**2
        parts.append((values[:, :rank] / unit[:, None]).numpy())
    return np.concatenate(parts)


def noise_eigenvalues(rng: np.random.Generator, dof: int, d: int, trace: float, draws: int = 1) -> Array:
    """Eigenvalues of iid Gaussian noise of the same shape and trace, the null of every power-law fit.

    Parameters
    ----------
    dof : int
        Independent rows: N for GᵀG, N − 1 for a covariance about the mean.
    d : int
        Columns.

    Returns
    -------
    Array (draws, min(dof, d)), descending, each draw with the sum `trace`.
    """
    spectra = []
    for _ in range(draws):
        # The triangular factor has the singular values of the noise at a fraction of its size.
        core = torch.from_numpy(gaussian_triangular(rng, 1, min(dof, d), max(dof, d))[0])
        spectra.append(torch.linalg.eigvalsh(core @ core.mT).flip(-1).clamp_min(0).numpy())
    values = np.stack(spectra)
    return values * (trace / values.sum(-1, keepdims=True))
