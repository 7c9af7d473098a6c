"""The product of all Jacobians from a layer to the last, J_{ℓ→L} = J_L…J_ℓ (methods §6, "Cumulative product").

The product is composed backwards, from the last layer to the first. Truncating the SVD to rank r after each step, as
published, is the same as truncating the last layer's alone: what remains has r rows, and r rows times J_ℓ have rank r
at most. So there is one truncation, U_rᴴ J_L, and thin exact products after it; and none at all where d ≤ r.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.spectra.summaries import participation_ratio

Array = NDArray[np.float64]

PROBES = 16


@dataclass(frozen=True)
class Rows:
    """Matrices (..., r, d) times exp(`log_scale`), scaled so that their largest entry is 1: no product overflows."""

    matrix: Tensor
    log_scale: Tensor  # (...), fp64

    @classmethod
    def of(cls, matrix: Tensor, log_scale: Tensor | float = 0.0) -> Self:
        """Rescale `matrix`; one of zeros stays as it is, with a log-scale of −∞."""
        largest = matrix.abs().amax((-2, -1))
        safe = torch.where(largest > 0, largest, 1.0)
        return cls(matrix / safe[..., None, None], largest.log() + log_scale)

    def times(self, factor: Tensor) -> Self:
        """The product with `factor` (..., d, d) on its right."""
        return self.of(self.matrix @ factor, self.log_scale)

    def log_frobenius(self) -> Tensor:
        """The product's own ln ‖·‖_F, (...)."""
        return torch.linalg.matrix_norm(self.matrix).log() + self.log_scale

    def effective_rank(self) -> Tensor:
        """Participation ratio of σ², (...), as ‖M‖_F⁴/‖MMᴴ‖_F²: no decomposition is needed. NaN for zeros."""
        gram = self.matrix @ self.matrix.mH
        return gram.diagonal(dim1=-2, dim2=-1).real.sum(-1).square() / gram.abs().square().sum((-2, -1))

    def singular_values(self) -> Tensor:
        """Singular values of `matrix`, (..., r), descending: those of the product in units of exp(log_scale)."""
        if self.matrix.shape[-2] < self.matrix.shape[-1]:
            return torch.linalg.svdvals(torch.linalg.qr(self.matrix.mH, mode="r").R)
        return torch.linalg.svdvals(self.matrix)


def leading_left(matrix: Tensor, rank: int) -> Tensor | None:
    """U_r (..., d, r): the leading left singular vectors; None where all are kept.

    From JJᴴ: which of two nearly equal directions is kept does not matter, and U_r is orthonormal in any case.
    """
    if matrix.shape[-1] <= rank:
        return None
    return torch.linalg.eigh(matrix @ matrix.mH).eigenvectors[..., -rank:].flip(-1)


@dataclass(frozen=True)
class Cumulative:
    """J_{ℓ→L} of every layer ℓ; r = min(rank, d)."""

    singular_values: Array  # (L, r), descending, in units of exp(log_scale)
    log_scale: Array  # (L,)
    effective_rank: Array  # (L,): pr of σ²
    discarded: Array  # (L,): estimated share of ‖J_{ℓ→L}‖_F² that the truncation left out; 0 where d ≤ rank

    @property
    def log_singular_values(self) -> Array:
        """The products' own ln σ_i, (L, r).

        NaN below d·ε·σ_1 for each factor of the product, where a product in fp64 has only rounding.
        """
        layers, r = self.singular_values.shape
        factors = np.arange(layers, 0, -1)[:, None]
        floor = np.finfo(np.float64).eps * r * factors * self.singular_values[:, :1]
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(self.singular_values) + self.log_scale[:, None]
        return np.where(self.singular_values > floor, logs, np.nan)

    @property
    def exponents(self) -> Array:
        """Lyapunov-type exponents ln σ_i/(L − ℓ), (L, r): per layer of the product, as layers count from 0."""
        return self.log_singular_values / np.arange(len(self.log_scale), 0, -1)[:, None]


def compose(backwards: Iterable[Tensor], rank: int = 256, seed: int = 0) -> Cumulative:
    """Compose the Jacobians J_{L−1}, …, J_0, given in this order, one at a time.

    Parameters
    ----------
    backwards : iterable of Tensor (d, d)
        The last layer's first. Only one is held at a time.
    rank : int
        Rows kept. Everything is exact where d ≤ rank.
    seed : int
        Of the random probes that estimate what a truncation leaves out.

    Returns
    -------
    Cumulative
        In the order of the layers, the first layer first.
    """
    rows = lost = kept_left = None
    sigma, scales, ranks, shares = [], [], [], []
    for factor in backwards:
        j = factor.double()
        if rows is None:
            kept_left = leading_left(j, rank)
            rows = Rows.of(j if kept_left is None else kept_left.mT @ j)
            if kept_left is not None:
                lost = Rows.of(_probe(j, kept_left, seed))
        else:
            rows, lost = rows.times(j), lost and lost.times(j)
        sigma.append(rows.singular_values().cpu().numpy())
        ranks.append(float(participation_ratio(sigma[-1] ** 2)))
        scales.append(float(rows.log_scale))
        shares.append(_share(rows, lost) if lost else 0.0)
    return Cumulative(*(np.array(part[::-1]) for part in (sigma, scales, ranks, shares)))


def _probe(last: Tensor, left: Tensor, seed: int) -> Tensor:
    """G (I − U_rU_rᵀ) J_L, (PROBES, d): random rows of what is left out, whose mean square norm is its ‖·‖_F²."""
    generator = torch.Generator().manual_seed(seed)
    g = torch.randn(PROBES, len(last), generator=generator, dtype=torch.float64).to(last.device) / PROBES**0.5
    return (g - (g @ left) @ left.mT) @ last


def _share(rows: Rows, lost: Rows) -> float:
    kept, out = (2 * float(part.log_frobenius()) for part in (rows, lost))
    if kept == -np.inf:
        return float(out > -np.inf)
    return float(1 / (1 + np.exp(np.clip(kept - out, -700, 700))))
