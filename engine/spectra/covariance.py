"""Covariance of a stream of vectors in bounded memory, by partial sums that merge exactly (methods §3)."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Columns of the scatter per product; blocks above the diagonal are skipped.
COLUMNS = 256
# Vectors summed per fp32 product; longer sums would lose more than the 1e-7 of each product.
ROWS = 512


@dataclass
class Covariance:
    """Count, mean and scatter of a stream of vectors, merged by Chan's formula; C = M₂/(n−1).

    Memory O(d²), whatever the number of vectors. Merging is associative and commutative up to rounding in fp64.

    Attributes
    ----------
    count : int
        Number of vectors, n.
    mean : Tensor, (d,) float64
        μ.
    scatter : Tensor, (d, d) float64
        M₂ = Σ (x−μ)(x−μ)ᵀ; only the lower triangle is valid.
    """

    count: int
    mean: Tensor
    scatter: Tensor

    @classmethod
    def zero(cls, d: int, device: torch.device | str = "cpu") -> "Covariance":
        """The covariance of no vectors."""
        mean = torch.zeros(d, dtype=torch.float64, device=device)
        return cls(0, mean, torch.zeros(d, d, dtype=torch.float64, device=device))

    @classmethod
    def of(cls, vectors: Tensor) -> "Covariance":
        """The covariance of one batch (m, d): products in fp32 (fp64 for fp64 vectors), summed in fp64.

        Vectors are centred before they are multiplied, so that a large mean costs no precision.
        """
        x = vectors if vectors.dtype == torch.float64 else vectors.float()
        count, d = x.shape
        sums = cls.zero(d, x.device)
        if count == 0:
            return sums
        shift = x.mean(0)
        x = x - shift
        for rows in x.split(ROWS):
            for start in range(0, d, COLUMNS):
                columns = slice(start, start + COLUMNS)
                sums.scatter[start:, columns] += rows[:, start:].T @ rows[:, columns]
        left = x.mean(0).double()  # what rounding of the shift left
        sums.scatter.addr_(left, left, alpha=-count)
        return cls(count, shift.double() + left, sums.scatter)

    def add(self, other: "Covariance") -> None:
        """Merge another's vectors into this one: δ = μ' − μ; M₂ += M₂' + δδᵀ·n·m/(n+m); μ += δ·m/(n+m)."""
        total = self.count + other.count
        if other.count == 0:
            return
        delta = other.mean - self.mean
        self.scatter += other.scatter
        self.scatter.addr_(delta, delta, alpha=self.count * other.count / total)
        self.mean += delta * (other.count / total)
        self.count = total

    @property
    def rank(self) -> int:
        """Number of eigenvalues that can be nonzero, min(n − 1, d)."""
        return max(0, min(self.count - 1, len(self.mean)))

    @property
    def matrix(self) -> Tensor:
        """C, (d, d); NaN for fewer than two vectors."""
        lower = self.scatter.tril()
        whole = lower + lower.tril(-1).T
        return whole / (self.count - 1) if self.count > 1 else torch.full_like(whole, torch.nan)

    def eigenvalues(self) -> NDArray[np.float64]:
        """Eigenvalues of C in fp64, (d,), descending; NaN beyond the rank, never negative."""
        eigenvalues = np.full(len(self.mean), np.nan)
        if self.rank:
            values = torch.linalg.eigvalsh(self.scatter).flip(-1)[: self.rank].clamp_min(0)
            eigenvalues[: self.rank] = values.cpu().numpy() / (self.count - 1)
        return eigenvalues

    def packed(self) -> NDArray[np.float64]:
        """The lower triangle of M₂, row by row, (d(d+1)/2,), for storage beside count and mean."""
        return self.scatter.cpu().numpy()[np.tril_indices(len(self.mean))]

    @classmethod
    def unpacked(
        cls, count: int, mean: NDArray[np.float64], packed: NDArray[np.float64], device: torch.device | str = "cpu"
    ) -> "Covariance":
        """The inverse of `packed`, bit for bit."""
        covariance = cls.zero(len(mean))
        covariance.scatter.numpy()[np.tril_indices(len(mean))] = packed
        return cls(count, torch.tensor(mean, device=device), covariance.scatter.to(device))
