"""Schur surgery: what the non-normal part of the Jacobians does to their product (methods §6, "Schur surgery").

J = Q(Λ + N)Qᴴ with Λ the eigenvalues and N strictly upper triangular. At every layer N is scaled by a dose α and the
product composed again, in three constructions:

- ``schur``: Q(Λ + αN)Qᴴ = αJ + (1−α)QΛQᴴ: same spectrum, same basis; normal at α = 0, the model itself at α = 1;
- ``random`` (Control A): Q(Λ + αG)Qᴴ, G iid complex Gaussian with ‖G‖_F = ‖N‖_F. It keeps the mass and loses the
  triangle; unlike what S3 says it moves the spectrum too, and `Surgery.moved` says by how much;
- ``haar`` (Control B): Q̃(Λ + αN)Q̃ᴴ, Q̃ Haar unitary: same spectrum and triangle in another basis at every layer.

Two points about interpretation. N is complex, as Q is, even for a real J; and QΛQᴴ depends on the order in which the
eigenvalues stand in Λ, which is LAPACK's. Mode R does the same to R = J − I and adds I again. Because
J − I = Q(Λ − I + N)Qᴴ, it is the same surgery: it can differ from mode J only by that order.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import rsf2csf, schur
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from engine.jacobians.cumulative import Rows, leading_left
from engine.spectra import cost

Array = NDArray[np.float64]

DOSES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
CONSTRUCTIONS = ("schur", "random", "haar")


@dataclass(frozen=True)
class SchurForm:
    """J = Q(Λ + N)Qᴴ, complex128, on the device of J."""

    q: Tensor  # (d, d), unitary
    eigenvalues: Tensor  # (d,)
    triangle: Tensor  # (d, d): N, strictly upper

    @classmethod
    def of(cls, matrix: Tensor, residual: bool = False) -> Self:
        """Decompose a real `matrix` (d, d), or J − I in mode R (`residual`), given back as a form of J.

        A real Schur form turned complex costs half of a complex one. There is none for a GPU: it is made on the CPU.
        """
        j = matrix.double().cpu()
        j = j - torch.eye(len(j), dtype=j.dtype) if residual else j
        t, q = (torch.from_numpy(part).to(matrix.device) for part in rsf2csf(*schur(j.numpy())))
        return cls(q, t.diagonal() + float(residual), t.triu(1))

    def dosed(self, dose: float) -> Tensor:
        """J_α = Q(Λ + αN)Qᴴ, (d, d) complex."""
        return self.q @ (torch.diag(self.eigenvalues) + dose * self.triangle) @ self.q.mH


@dataclass(frozen=True)
class Surgery:
    """Products J_{ℓ→L} after surgery at all their layers."""

    doses: tuple[float, ...]
    effective_rank: Array  # (construction, dose, layer, draw); ``schur`` has one draw, the others are NaN
    log_frobenius: Array  # the same shape: ln ‖J_{ℓ→L}‖_F
    moved: Array  # (layer,): how far Control A at α = 1 moves the spectrum, √(Σ|λ − λ′|²/Σ|λ|²), first draw


def operate(
    backwards: Iterable[Tensor],
    doses: Sequence[float] = DOSES,
    draws: int = 4,
    rank: int = 256,
    residual: bool = False,
    seed: int = 0,
) -> Surgery:
    """Dose response of all three constructions, with `draws` random matrices per layer for each control.

    Parameters
    ----------
    backwards : iterable of Tensor (d, d)
        J_{L−1}, …, J_0: the last layer's first. Only one is held at a time.
    rank : int
        Of the truncation, as in `cumulative.compose`; none where d ≤ rank.
    residual : bool
        Mode R.

    Notes
    -----
    Within a draw all doses share G and Q̃, so that a dose response is not blurred by their chance.
    """
    generator = torch.Generator().manual_seed(seed)
    streams = [(0, 0)] + [(c, draw) for c in (1, 2) for draw in range(draws)]
    rows: dict[tuple[int, int], Rows] = {}
    ranks, sizes, moved = [], [], []
    for factor in backwards:
        form = SchurForm.of(factor, residual)
        alpha = torch.tensor(doses, dtype=torch.float64, device=factor.device)[:, None, None]
        ranks.append(np.full((len(CONSTRUCTIONS), len(doses), draws), np.nan))
        sizes.append(ranks[-1].copy())
        for construction, draw in streams:
            q, n = form.q, form.triangle
            if construction == 1:
                n = _ginibre(n, generator)
                n = n * (torch.linalg.matrix_norm(form.triangle) / torch.linalg.matrix_norm(n))
                if draw == 0:
                    moved.append(_distance(form.eigenvalues, n))
            elif construction == 2:
                q = haar_unitary(q, generator)
            before = rows.get((construction, draw))
            if before is not None:
                after = _below(before, q, form, n, alpha)
            elif construction == 2:
                after = rows[0, 0].times(form.q)  # the last layer is the model's own in another basis: one truncation
            else:
                after = _top(form.eigenvalues, n, alpha, rank)
            rows[construction, draw] = after = Rows.of(after.matrix @ q.mH, after.log_scale)
            ranks[-1][construction, :, draw] = after.effective_rank().cpu().numpy()
            sizes[-1][construction, :, draw] = after.log_frobenius().cpu().numpy()
    effective_rank, log_frobenius = (np.stack(part[::-1], axis=2) for part in (ranks, sizes))
    return Surgery(tuple(doses), effective_rank, log_frobenius, np.array(moved[::-1]))


def _top(eigenvalues: Tensor, n: Tensor, alpha: Tensor, rank: int) -> Rows:
    """The last layer's Λ + αn, truncated, for all doses: (dose, r, d)."""
    dosed = []
    for dose in alpha.flatten():  # one at a time: each is d×d
        matrix = torch.diag(eigenvalues) + dose * n
        left = leading_left(matrix, rank)
        dosed.append(matrix if left is None else left.mH @ matrix)
    return Rows.of(torch.stack(dosed))


def _below(rows: Rows, q: Tensor, form: SchurForm, n: Tensor, alpha: Tensor) -> Rows:
    """`rows` times Q(Λ + αn), the dose along the first axis: three thin products and no d×d one."""
    turned = rows.matrix @ q
    return Rows(turned * form.eigenvalues + alpha * (turned @ n), rows.log_scale)


def haar_unitary(like: Tensor, generator: torch.Generator) -> Tensor:
    """A Haar unitary matrix with the shape and device of `like` (d, d) (Mezzadri 2007)."""
    q, r = torch.linalg.qr(_ginibre(like, generator))
    return q * torch.sgn(r.diagonal())


def _ginibre(like: Tensor, generator: torch.Generator) -> Tensor:
    # Drawn on the CPU, so that every device gets the same numbers.
    return torch.randn(like.shape, generator=generator, dtype=torch.complex128).to(like.device)


def _distance(eigenvalues: Tensor, g: Tensor) -> float:
    """How far Λ → Λ + G moves the eigenvalues, by their best matching, relative to the root of Σ|λ|²."""
    old = eigenvalues.cpu().numpy()
    new = torch.linalg.eigvals(torch.diag(eigenvalues) + g).cpu().numpy()
    squares = np.square(np.abs(old[:, None] - new[None, :]))
    return float(np.sqrt(squares[linear_sum_assignment(squares)].sum() / np.square(np.abs(old)).sum()))


def seconds(
    d: int, layers: int, doses: int = len(DOSES), draws: int = 4, rank: int = 256, device: str = "cpu"
) -> float:
    """Predicted seconds of `operate`, from rates measured on this machine at small d."""
    thin = 3 * min(rank, d) / d * doses * (1 + 2 * draws)
    full = 4 * draws  # a Haar matrix: as long as about four products
    product = (thin + full) * cost.seconds("complex_product", d, device)
    each = cost.seconds("schur", d) + cost.seconds("complex_eigenvalues", d, device) + product
    truncation = doses * (1 + draws) * cost.seconds("hermitian", d, device) if d > rank else 0.0
    return layers * each + truncation
