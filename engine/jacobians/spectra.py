"""Singular values and norms of many samples' Jacobians at once, formed only where that pays (methods §6)."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal, Self, get_args

import torch
from torch import Tensor

from engine.jacobians.operators import Operator
from engine.spectra.threads import over_threads

Statistic = Literal["rho", "delta", "frobenius", "pr", "kappa"]
STATISTICS: tuple[Statistic, ...] = get_args(Statistic)

# Bases, or matrices, of as many samples at a time as fit into this.
CHUNK_BYTES = 2**28
# Starting vectors: with one, a pair of equal singular values would be taken for a single one.
BLOCK = 2
# Columns of the basis after which a sample's matrix is decomposed as it is.
MOST_COLUMNS = 128
# Bound on the relative error of σ₁ and σ₂ at which a sample is done; most are ten times nearer.
TOLERANCE = {torch.float32: 5e-5, torch.float64: 1e-10}


@torch.no_grad()
def sample_statistics(operator: Operator, names: Collection[Statistic] = STATISTICS) -> dict[Statistic, Tensor]:
    """Statistics of each sample's Jacobian, (N,) float64 each.

    Parameters
    ----------
    operator : Operator, (N, d, d)
    names : collection of str
        ``rho`` σ₁, ``delta`` σ₂/σ₁ (NaN where J is 0), ``frobenius`` ‖J‖_F, ``pr`` ‖J‖_F⁴/‖JᵀJ‖_F² = (Σσ²)²/Σσ⁴,
        ``kappa`` as `condition_numbers`. All but the first two form J, some samples at a time.
    """
    found: dict[Statistic, Tensor] = {}
    if {"rho", "delta", "kappa"} & set(names):
        top = top_singular_values(operator)
        found |= {"rho": top[:, 0], "delta": top[:, 1] / top[:, 0]}
    if {"frobenius", "pr"} & set(names):
        found["frobenius"], found["pr"] = norms(operator)
    if "kappa" in names:
        found["kappa"] = condition_numbers(operator, found["rho"])
    return {name: found[name] for name in names}


@torch.no_grad()
def top_singular_values(operator: Operator) -> Tensor:
    """The two largest singular values of every sample, (N, 2) float64, by block Golub–Kahan bidiagonalisation.

    All samples of a chunk take a step together, and those that have converged leave. The starting vectors are the same
    for every sample, so that its values do not depend on who else is there.
    """
    n, d_out, d_in = operator.shape
    return torch.cat([_golub_kahan(operator[at]) for at in _chunks(n, 4 * MOST_COLUMNS * (d_out + d_in))])


@torch.no_grad()
def norms(operator: Operator) -> tuple[Tensor, Tensor]:
    """‖J‖_F and the participation ratio ‖J‖_F⁴/‖JᵀJ‖_F² of every sample, (N,) float64."""

    def both(matrices: Tensor) -> Tensor:
        total = matrices.double().square().sum((1, 2))
        gram = matrices.mT @ matrices
        return torch.stack((total.sqrt(), total.square() / gram.double().square().sum((1, 2))))

    frobenius, pr = torch.cat(_densely(operator, both), 1)
    return frobenius, pr


@torch.no_grad()
def singular_values(operator: Operator) -> Tensor:
    """All singular values of every sample, descending, (N, min(d_out, d_in)) float64, in the operator's precision."""
    return torch.cat(_densely(operator, lambda matrices: _each(torch.linalg.svdvals, matrices).double()))


@torch.no_grad()
def condition_numbers(operator: Operator, largest: Tensor) -> Tensor:
    """κ = σ₁/σ_d of every sample, (N,) float64, by LU factorisation and inverse iteration for σ_d.

    inf where σ_d ≤ d·eps·σ₁ in the precision of the operator, in which J is then singular: always behind a LayerNorm,
    which takes a direction out, and in float32 from κ = 10⁴ at d = 768 on.

    Parameters
    ----------
    operator : Operator, (N, d, d)
    largest : Tensor, (N,)
        σ₁.
    """

    def smallest(matrix: Tensor) -> Tensor:
        lu, pivots, failed = torch.linalg.lu_factor_ex(matrix)
        if failed:
            return torch.zeros(1, dtype=torch.float64)
        return 1 / _golub_kahan(_Inverse(lu[None], pivots[None]))[:, :1].flatten().cpu()

    at_least = operator.shape[1] * _eps(operator) * largest
    # Equal numbers are what a LayerNorm takes out: ‖J 1‖/√d bounds σ_d and often says at once that J is singular.
    equal = torch.full((*operator.shape[::2], 1), operator.shape[2] ** -0.5).to(_like(operator))
    left = (operator.matmul(equal).norm(dim=(1, 2)).to(largest) > at_least).nonzero().flatten()
    sigma = torch.zeros_like(largest)
    if len(left):
        found = _densely(operator[left], lambda matrices: _each(smallest, matrices))
        sigma[left] = torch.cat(found).flatten().to(largest)
    return torch.where(sigma > at_least, largest / sigma, torch.inf)


@dataclass(frozen=True)
class _Inverse(Operator):
    """Inverses from LU factors (N, d, d) and pivots (N, d)."""

    lu: Tensor
    pivots: Tensor

    @property
    def shape(self) -> tuple[int, int, int]:
        n, d, _ = self.lu.shape
        return n, d, d

    def matmul(self, v: Tensor) -> Tensor:
        return torch.linalg.lu_solve(self.lu, self.pivots, v)

    def rmatmul(self, u: Tensor) -> Tensor:
        return torch.linalg.lu_solve(self.lu, self.pivots, u, adjoint=True)

    def dense(self) -> Tensor:
        eye = torch.eye(self.lu.shape[1], dtype=self.lu.dtype, device=self.lu.device)
        return self.matmul(eye.expand_as(self.lu))

    def __getitem__(self, samples: Tensor) -> Self:
        return type(self)(self.lu[samples], self.pivots[samples])


def _golub_kahan(operator: Operator) -> Tensor:
    """σ₁ and σ₂ of every sample, (N, 2) float64.

    With m columns, J V = U B for B (m, m) upper triangular, and Jᵀ U = V Bᵀ + V′ R Eᵀ where E picks the last block. A
    singular triplet (θ, p, q) of B is one of J but for the residual ‖R Eᵀ p‖ =: r, and θ is off by no more than r, and
    than r² over the distance to the values that are not wanted.
    """
    n, d_out, d_in = operator.shape
    like = _like(operator)
    generator = torch.Generator().manual_seed(0)
    draw = torch.randn(max(d_out, d_in), BLOCK, generator=generator, dtype=torch.float64).to(like)
    values = torch.zeros(n, 2, dtype=torch.float64, device=like.device)
    active = torch.arange(n, device=like.device)
    v, u = like.new_empty(n, d_in, 0), like.new_empty(n, d_out, 0)
    b = values.new_empty(n, 0, 0)
    block = torch.linalg.qr(draw[:d_in])[0].expand(n, -1, -1)
    check = 2
    while len(active):
        columns, most = v.shape[2], min(d_out, d_in)
        if columns + BLOCK > min(most, MOST_COLUMNS):
            values[active] = _decomposed(operator)
            break
        v = torch.cat((v, block), 2)
        left, above, corner = _orthogonalise(operator.matmul(block), u, draw[:d_out], 1)
        u = torch.cat((u, left), 2)
        b = torch.cat((torch.nn.functional.pad(b, (0, 0, 0, BLOCK)), torch.cat((above, corner), 1)), 2)
        block, _, rest = _orthogonalise(operator.rmatmul(left), v, draw[:d_in], 2)
        if columns // BLOCK + 1 < check:
            continue
        check = check + max(1, check // 5)
        p, theta, _ = (part.to(b.device) for part in _svd(b))
        residual = (rest @ p[:, -BLOCK:, :2]).flatten(1).norm(dim=1)
        third = theta[:, 2] if theta.shape[1] > 2 else torch.zeros_like(residual)
        error = torch.minimum(residual, residual.square() / (theta[:, 1] - third))
        eps = torch.finfo(like.dtype).eps
        done = error <= (TOLERANCE[like.dtype] * theta[:, 1]).clamp(min=d_in**0.5 * eps * theta[:, 0])
        values[active[done]] = theta[done, :2]
        if done.any():
            keep = (~done).nonzero()[:, 0]
            active, operator = active[keep], operator[keep]
            v, u, b, block = v[keep], u[keep], b[keep], block[keep]
    return values


def _orthogonalise(x: Tensor, basis: Tensor, spare: Tensor, passes: int) -> tuple[Tensor, Tensor, Tensor]:
    """X = basis C + Q R, with Q orthogonal to the basis: Q, C, R; columns with nothing left are drawn from `spare`.

    One pass leaves orthogonality to rounding of x, two to rounding of Q; V needs two, and then U no more than one
    (Simon and Zha 2000). What is drawn needs two of its own.
    """
    scale = x.norm(dim=(1, 2))[:, None] * torch.finfo(x.dtype).eps
    along = basis.mT @ x
    x, r = torch.linalg.qr(x - basis @ along)
    empty = r.diagonal(dim1=1, dim2=2).abs() <= scale
    drawn = bool(empty.any())
    if drawn:
        x, r = x.where(~empty[:, None], spare), r.where(~empty[..., None], 0)
    coefficients, r = along.double(), r.double()
    for _ in range(3 if drawn else passes - 1):
        along = basis.mT @ x
        coefficients = coefficients + along.double() @ r
        x, upper = torch.linalg.qr(x - basis @ along)
        r = upper.double() @ r
    return x, coefficients, r


def _decomposed(operator: Operator) -> Tensor:
    """σ₁ and σ₂, (N, 2) float64, from the matrices themselves; 0 for a σ₂ that a vector does not have."""
    found = singular_values(operator)[:, :2]
    return torch.nn.functional.pad(found, (0, 2 - found.shape[1]))


def _svd(matrices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Singular value decompositions of many small matrices."""
    if matrices.is_cuda or len(matrices) < 2 * torch.get_num_threads():
        return torch.linalg.svd(matrices)
    parts = over_threads(torch.linalg.svd, matrices.chunk(torch.get_num_threads()))
    p, theta, q = (torch.cat(part) for part in zip(*parts, strict=True))
    return p, theta, q


def _densely(operator: Operator, function: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """The function of some samples' matrices (n, d_out, d_in) at a time."""
    n, d_out, d_in = operator.shape
    return [function(operator[at].dense()) for at in _chunks(n, 3 * 8 * d_out * d_in)]


def _each(function: Callable[[Tensor], Tensor], matrices: Tensor) -> Tensor:
    """The function of every matrix, in threads of its own on the CPU: LU of many at once fails there in several."""
    return torch.stack([*map(function, matrices)] if matrices.is_cuda else over_threads(function, matrices))


def _chunks(n: int, bytes_each: int) -> tuple[Tensor, ...]:
    return torch.arange(n).split(max(1, CHUNK_BYTES // bytes_each))


def _like(operator: Operator) -> Tensor:
    """A tensor of the operator's dtype and device."""
    return operator[torch.zeros(1, dtype=torch.long)].dense()


def _eps(operator: Operator) -> float:
    return torch.finfo(_like(operator).dtype).eps
