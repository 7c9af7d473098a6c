"""Statistics of attention matrices, over all heads and samples at once (methods §5).

A matrix A (T, T) holds in row t the weights with which token t reads the tokens, and its rows sum to 1. Batches are
(sample, head, T, T); shorter samples stand in the leading corner, with zeros in the rows and columns of the padding.
"""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from engine.spectra.threads import over_threads

Statistic = Literal[
    "entropy", "exp_entropy", "sparsity", "frobenius", "spectral_norm", "stable_rank", "top_eigenvalue",
    "second_eigenvalue", "concentration", "sink", "erank", "r_l1l2",
]  # fmt: skip
STATISTICS: tuple[Statistic, ...] = get_args(Statistic)
SPECTRAL: tuple[Statistic, ...] = ("erank", "r_l1l2")
"""Statistics that need all singular values."""

# Relative error of ‖A‖₂ at which Lanczos stops.
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-11}
# Lanczos steps before falling back to a full decomposition of AᵀA; up to size SMALL that is quicker from the start.
MOST_STEPS = 48
SMALL = 128
# Steps between checks of the error; a check costs as much as a step.
LOOK = 4


def allowed(lengths: Tensor, size: int, causal: bool, window: int | None = None) -> Tensor:
    """Number of tokens that each row may attend to, (N, T); 0 in rows of padding.

    Parameters
    ----------
    lengths : Tensor, (N,)
        Tokens of each sample.
    window : int, optional
        Width of a sliding window: the most tokens that a causal row reads, itself included.
    """
    rows = torch.arange(size, device=lengths.device)
    most = rows + 1 if causal else lengths[:, None].expand(-1, size)
    if causal and window is not None:
        most = most.clamp(max=window)
    return torch.where(rows < lengths[:, None], most, 0)


def without_padding(matrices: Tensor, lengths: Tensor) -> Tensor:
    """Zero the rows and columns of the padding."""
    if int(lengths.min()) == matrices.shape[-1]:
        return matrices
    real = torch.arange(matrices.shape[-1], device=matrices.device) < lengths[:, None]
    return matrices * (real[:, None, :, None] & real[:, None, None, :])


def eigenvalues(matrices: Tensor, causal: bool) -> Tensor:
    """All eigenvalues (..., T), sorted by |λ| descending.

    Of a causal model they are the diagonal, exactly: real, in [0, 1], the first one 1. A bidirectional model's come
    from the general solver, on the CPU, and are complex.
    """
    if causal:
        return matrices.diagonal(dim1=-2, dim2=-1).sort(-1, descending=True).values
    values = _each(torch.linalg.eigvals, matrices.cpu())
    return values.gather(-1, values.abs().argsort(dim=-1, descending=True, stable=True))


def singular_values(matrices: Tensor) -> Tensor:
    """All singular values (..., T), descending, in the precision of the matrices."""
    return torch.linalg.svdvals(matrices) if matrices.is_cuda else _each(torch.linalg.svdvals, matrices)


def spectral_norms(matrices: Tensor) -> Tensor:
    """‖A‖₂ of every matrix, (...), without the other singular values.

    Lanczos on AᵀA from the vector of ones. A is non-negative, so AᵀA has a non-negative leading eigenvector (Perron and
    Frobenius), which cannot be orthogonal to the ones. A Ritz value θ with residual r has an error of at most r, and of
    at most r² over its distance to the next.
    """
    size = matrices.shape[-1]
    left = matrices.reshape(-1, size, size)
    if size <= SMALL:
        return _from_gram(left).reshape(matrices.shape[:-2])
    norms = left.new_zeros(len(left))
    active = torch.arange(len(left), device=left.device)
    basis = left.new_full((len(left), 1, size), size**-0.5)  # rows are the vectors
    band = left.new_zeros(len(left), 0, 2, dtype=torch.float64)  # αs and βs
    while len(active):
        if band.shape[1] == MOST_STEPS:
            norms[active] = _from_gram(left)
            break
        image = left.mT @ (left @ basis[:, -1, :, None])
        along = basis @ image
        image = image - basis.mT @ along
        image = image - basis.mT @ (basis @ image)
        beta = image.norm(dim=(1, 2))
        band = torch.cat((band, torch.stack((along[:, -1, 0], beta), -1)[:, None].double()), 1)
        if band.shape[1] % LOOK == 0:
            theta, off = _ritz(band)
            done = off <= TOLERANCE[left.dtype] * 2 * theta
            norms[active[done]] = theta[done].sqrt().to(norms)
            kept = (~done).nonzero()[:, 0]
            if len(kept) < len(active):
                active, left, basis, band, image, beta = (
                    part[kept] for part in (active, left, basis, band, image, beta)
                )
        following = image / beta.clamp(min=torch.finfo(beta.dtype).tiny)[:, None, None]
        basis = torch.cat((basis, following.mT), 1)
    return norms.reshape(matrices.shape[:-2])


def _from_gram(matrices: Tensor) -> Tensor:
    """σ₁ of each matrix (n, T, T) from the eigenvalues of AᵀA in float64, at half the cost of an SVD of A."""
    doubles = matrices.double()
    grams = doubles.mT @ doubles
    squares = torch.linalg.eigvalsh(grams) if grams.is_cuda else _each(torch.linalg.eigvalsh, grams)
    return squares[:, -1].clamp(min=0).sqrt().to(matrices)


def _ritz(band: Tensor) -> tuple[Tensor, Tensor]:
    """The largest Ritz value of each tridiagonal matrix, and a bound on its error."""
    inner = (
        torch.diag_embed(band[..., 0]) + torch.diag_embed(band[:, :-1, 1], 1) + torch.diag_embed(band[:, :-1, 1], -1)
    )
    values, vectors = torch.linalg.eigh(inner)
    residual = band[:, -1, 1] * vectors[:, -1, -1].abs()
    gap = (values[:, -1] - values[:, -2]).clamp(min=torch.finfo(values.dtype).tiny)
    return values[:, -1], torch.minimum(residual, residual.square() / gap)


def statistics(
    matrices: Tensor,
    lengths: Tensor,
    causal: bool,
    *,
    epsilon: float = 0.1,
    window: int | None = None,
    eigen: Tensor | None = None,
    singular: Tensor | None = None,
) -> dict[Statistic, Tensor]:
    """Every statistic of every sample and head, (N, H) each.

    Parameters
    ----------
    matrices : Tensor, (N, H, T, T)
        In float32 or float64, `without_padding`.
    lengths : Tensor, (N,)
    causal : bool
    epsilon : float
        Weights below ε/T count as zero in `sparsity`, the share of such weights among those allowed.
    window : int, optional
        See `allowed`.
    eigen, singular : Tensor, (N, H, T), optional
        Spectra that are known already; without `singular` the statistics in `SPECTRAL` are left out.

    Returns
    -------
    dict
        ``entropy`` is the mean entropy of the rows in nats, ``exp_entropy`` its exponential, ``sink`` the mean weight
        that the other tokens put on the first one, ``concentration`` |λ₁|²/Σ|λ|², ``stable_rank`` ‖A‖_F²/‖A‖₂²,
        ``erank`` and ``r_l1l2`` are those of the singular values σ, not σ².
    """
    n = lengths[:, None].to(matrices)
    size = matrices.shape[-1]
    lam = (eigenvalues(matrices, causal) if eigen is None else eigen).abs().to(matrices)
    frobenius = torch.linalg.vector_norm(matrices, dim=(-2, -1))
    norm = spectral_norms(matrices) if singular is None else singular[..., 0]
    entropy = torch.special.entr(matrices).sum((-2, -1)) / n
    permitted = allowed(lengths, size, causal, window).sum(1)[:, None].to(matrices)
    # Masked weights are exact zeros and count as small: subtract them.
    small = torch.count_nonzero(matrices < (epsilon / n)[..., None, None], dim=(-2, -1)) - (size**2 - permitted)
    result: dict[Statistic, Tensor] = {
        "entropy": entropy,
        "exp_entropy": entropy.exp(),
        "sparsity": small / permitted,
        "frobenius": frobenius,
        "spectral_norm": norm,
        "stable_rank": (frobenius / norm).square(),
        "top_eigenvalue": lam[..., 0],
        "second_eigenvalue": lam[..., 1] if size > 1 else lam[..., 0] * torch.nan,
        "concentration": lam[..., 0].square() / lam.square().sum(-1),
        "sink": matrices[..., 1:, 0].sum(-1) / (n - 1),
    }
    return result if singular is None else result | ranks(singular)


def ranks(singular: Tensor) -> dict[Statistic, Tensor]:
    """``erank`` = exp of the entropy of σ/Σσ, and ``r_l1l2`` = (Σσ)²/Σσ² (S2), of spectra (..., T)."""
    total = singular.sum(-1)
    entropy = torch.special.entr(singular / total[..., None]).sum(-1)
    return {"erank": entropy.exp(), "r_l1l2": total.square() / singular.square().sum(-1)}


def _each(solve: Callable[[Tensor], Tensor], matrices: Tensor) -> Tensor:
    """`solve` over a batch on the CPU, split between threads."""
    size = matrices.shape[-1]
    flat = matrices.reshape(-1, size, size)
    if torch.get_num_threads() == 1 or len(flat) < 2:
        results = solve(flat)
    else:
        results = torch.cat(over_threads(solve, flat.chunk(4 * torch.get_num_threads())))
    return results.reshape(matrices.shape[:-1])
