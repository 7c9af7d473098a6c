"""Eigenvalues of a square operator and its departure from normality (methods §6, "On the mean Jacobian").

Everything runs in fp64 on the device of the matrix. A real operator J acts on column vectors: its right singular
vectors V are the directions that it reads, its left ones U those that it writes.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.errors import UserError
from engine.spectra.factored import by_modulus

Array = NDArray[np.float64]

COMPLEX_THRESHOLD = 1e-6  # of max|λ|; smaller imaginary parts count as rounding


@dataclass(frozen=True)
class OperatorStatistics:
    """Result of `describe`; d is the width of the operator, k that of the leading singular subspaces."""

    eigenvalues: NDArray[np.complex128]  # (d,), by descending modulus
    singular_values: Array  # (d,), descending
    left: Array  # (d, k): U_k
    right: Array  # (d, k): V_k
    column_norm: Array  # (d,): ‖J e_i‖₂
    norm: float  # ‖J‖_F/√d; of R = J − I it is the residual norm
    residual_norm: float  # ‖J − I‖_F/√d
    henrici: float
    expanding_fraction: float
    complex_fraction: float
    spectral_radius: float
    self_alignment: float
    # 1 − σ_{k+1}/σ_k. At 0, as for a rotation, the leading subspaces are any k directions: alignment means nothing.
    alignment_gap: float

    @property
    def alignment_baseline(self) -> float:
        """k/d: the expected self- and forward alignment of random subspaces; 1 says that k covers the whole space."""
        return self.left.shape[1] / self.left.shape[0]


def describe(matrix: Tensor, k: int = 64, eigenvalues: NDArray[np.complex128] | None = None) -> OperatorStatistics:
    """All statistics of one operator from one eigenvalue and one singular value decomposition.

    Parameters
    ----------
    matrix : Tensor (d, d), real
    k : int
        Width of the leading singular subspaces; at most d.
    eigenvalues : complex array (d,), optional
        Known eigenvalues, to save computing them: those of R = J − I are those of J less 1.

    Raises
    ------
    UserError
        If an entry is not finite.
    """
    j = matrix.double()
    if not bool(torch.isfinite(j).all()):
        raise UserError("The operator has entries that are not finite, so it has no spectrum; leave out its samples.")
    d = len(j)
    k = min(k, d)
    values = torch.linalg.eigvals(j) if eigenvalues is None else torch.as_tensor(eigenvalues)
    values = by_modulus(values).cpu().numpy()
    u, sigma, vh = torch.linalg.svd(j)
    left, right = u[:, :k], vh[:k].mT
    singular_values = sigma.cpu().numpy()
    modulus = np.abs(values)
    return OperatorStatistics(
        eigenvalues=values,
        singular_values=singular_values,
        left=left.cpu().numpy(),
        right=right.cpu().numpy(),
        column_norm=torch.linalg.vector_norm(j, dim=0).cpu().numpy(),
        norm=float(torch.linalg.matrix_norm(j)) / d**0.5,
        residual_norm=float(torch.linalg.matrix_norm(j - torch.eye(d).to(j))) / d**0.5,
        henrici=henrici_departure(values, singular_values),
        expanding_fraction=float(np.mean(modulus > 1)),
        complex_fraction=float(np.mean(np.abs(values.imag) > COMPLEX_THRESHOLD * modulus[0])),
        spectral_radius=float(modulus[0]),
        self_alignment=float((left.mT @ right).square().sum()) / k,
        alignment_gap=_gap(singular_values, k),
    )


def henrici_departure(eigenvalues: NDArray[np.complex128], singular_values: Array) -> float:
    """√(max(0, 1 − Σ|λ|²/Σσ²)): 0 if normal, towards 1 if the strictly triangular part of the Schur form dominates.

    Rounding of the ratio alone gives about 1e-7 for a normal matrix. NaN for the zero matrix.
    """
    if singular_values[0] == 0:
        return float("nan")
    share = (
        np.square(np.abs(eigenvalues / singular_values[0])).sum()
        / np.square(singular_values / singular_values[0]).sum()
    )
    return float(np.sqrt(max(0.0, 1 - share)))


def forward_alignment(left: Array, next_right: Array) -> float:
    """‖V_kᵀ U_k‖_F²/k of what one layer writes, U_k (d, k), and what the next one reads, V_k (d, k); baseline k/d."""
    return float(np.square(next_right.T @ left).sum() / left.shape[1])


def _gap(singular_values: Array, k: int) -> float:
    if k == len(singular_values):
        return 1.0
    return float(1 - singular_values[k] / singular_values[k - 1]) if singular_values[k - 1] > 0 else 0.0
