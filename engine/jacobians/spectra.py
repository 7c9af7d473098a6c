"""Singular values and norms of many samples' Jacobians at once, formed only where that pays (methods §6)."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, Self, get_args

import torch
from torch import Tensor

from engine.jacobians.operators import Operator
from engine.spectra.threads import over_threads

Statistic = Literal["rho", "delta", "frobenius", "pr", "kappa"]
STATISTICS: tuple[Statistic, ...] = get_args(Statistic)

# Bases, or matrices, of as many samples at a time as fit into this.
CHUNK_BYTES = 2**28
# On the CPU, bases of as many as fit into its cache, but of enough to make large products.
CACHE_BYTES = 2**24
AT_LEAST = 64
# Starting vectors: with one, a pair of equal singular values would be taken for a single one.
BLOCK = 2
# Columns of the basis after which a sample's matrix is decomposed as it is, and in which most are done.
MOST_COLUMNS = 128
EXPECTED_COLUMNS = 48
# Bound on the relative error of σ₁ and σ₂ at which a sample is done; most are ten times nearer.
TOLERANCE = {torch.float32: 5e-5, torch.float64: 1e-10}
# The same for the guess in bfloat16, beyond which its rounding is felt, and the width from which it is worth while.
ROUGH_TOLERANCE = 1e-3
ROUGH_FROM = 512


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
    for every sample, so that its values do not depend on who else is there. Where bfloat16 products are fast, they
    find better starting vectors first; convergence is tested on the operator itself all the same.
    """
    n, d_out, d_in = operator.shape
    like = _like(operator)
    start = torch.linalg.qr(_draw(d_in).to(like))[0]
    rough = (
        operator.rough() if like.dtype == torch.float32 and d_in >= ROUGH_FROM and _fast_bfloat16(like) else operator
    )
    parts = []
    for at in _chunks(n, EXPECTED_COLUMNS * like.element_size() * (d_out + d_in), like):
        part, block, third = operator[at], start.expand(len(at), -1, -1), None
        if rough is not operator:
            guess = _golub_kahan(rough[at], block, ROUGH_TOLERANCE, EXPECTED_COLUMNS)
            block, third = torch.linalg.qr(guess.right)[0], guess.values[:, 2]
        found = _golub_kahan(part, block, TOLERANCE[like.dtype], MOST_COLUMNS, third)
        left = (~found.converged).nonzero().flatten()
        if len(left):
            found.values[left, :2] = _decomposed(part[left])
        parts.append(found.values[:, :2])
    return torch.cat(parts)


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
        inverse = _Inverse(lu[None], pivots[None])
        return 1 / top_singular_values(inverse)[:, :1].flatten().cpu()

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


@dataclass(frozen=True)
class _Top:
    """What the bidiagonalisation found of each sample.

    Attributes
    ----------
    values : Tensor, (N, 3) float64
        σ₁ and σ₂, and a lower bound of σ₃.
    right : Tensor, (N, d_in, 2)
        Right singular vectors of the first two.
    converged : Tensor, (N,) bool
        Where the number of columns was enough.
    """

    values: Tensor
    right: Tensor
    converged: Tensor


def _golub_kahan(operator: Operator, block: Tensor, tolerance: float, most: int, third: Tensor | None = None) -> _Top:
    """σ₁ and σ₂ of every sample from starting vectors `block` (N, d_in, 2), in a basis of at most `most` columns.

    With m columns, J V = U B for B (m, m) upper triangular, and Jᵀ U = V Bᵀ + V′ R Eᵀ where E picks the last block.
    Singular triplets (θᵢ, pᵢ, qᵢ) of B are those of J but for residuals R Eᵀ pᵢ. With r the Frobenius norm of those of
    the first two, θ₁ and θ₂ are off by no more than r/√2, and than r²/2(θ₂ − σ₃) (Parlett 1998, theorem 11.7.1, for
    the symmetric matrix of J and Jᵀ). For σ₃ stands θ₃, or `third` (N,) where that is larger.
    """
    n, d_out, d_in = operator.shape
    u, v = (block.new_empty(n, 2 * EXPECTED_COLUMNS, d) for d in (d_out, d_in))
    b = torch.zeros(n, 0, 0, dtype=torch.float64, device=block.device)
    spare = _draw(max(d_out, d_in)).to(block)
    top = _Top(b.new_zeros(n, 3), block.new_zeros(n, d_in, BLOCK), torch.zeros(n, dtype=torch.bool, device=b.device))
    third = b.new_zeros(n) if third is None else third
    active = torch.arange(n, device=block.device)
    columns, most, check = 0, min(most, d_out, d_in), 2
    while columns + BLOCK <= most and len(active):
        before, columns = columns, columns + BLOCK
        if columns > v.shape[1]:
            u, v = (torch.cat((basis, torch.empty_like(basis)), 1) for basis in (u, v))
        v[:, before:columns] = block.mT
        left, above, corner = _orthogonalise(operator.matmul(block), u[:, :before].mT, spare[:d_out], 1)
        u[:, before:columns] = left.mT
        b = torch.cat((torch.nn.functional.pad(b, (0, 0, 0, BLOCK)), torch.cat((above, corner), 1)), 2)
        block, _, rest = _orthogonalise(operator.rmatmul(left), v[:, :columns].mT, spare[:d_in], 2)
        last = columns + BLOCK > most
        if columns // BLOCK + 1 < check and not last:
            continue
        check = check + max(1, check // 5)
        # Eigenvalues of B Bᵀ come at half the price, and singular values then decide.
        square, p = _small(torch.linalg.eigh, b @ b.mT)
        likely = _within(tolerance, square.clamp(min=0).sqrt().flip(1), p.flip(2), rest, third, block)
        kept = (likely | last).nonzero()[:, 0]
        if not len(kept):
            continue
        p, theta, q = _small(torch.linalg.svd, b[kept])
        done = _within(tolerance, theta, p, rest[kept], third[kept], block)
        top.converged[active[kept]] = done
        top.values[active[kept], : min(3, columns)] = theta[:, :3]
        top.right[active[kept]] = v[kept, :columns].mT @ q.mT[:, :, :BLOCK].to(v)
        going = ~(likely | last)
        going[kept[~done]] = not last
        keep = going.nonzero()[:, 0]
        active, operator, third = active[keep], operator[keep], third[keep]
        v, u, b, block = v[keep], u[keep], b[keep], block[keep]
    return top


def _within(tolerance: float, theta: Tensor, p: Tensor, rest: Tensor, third: Tensor, like: Tensor) -> Tensor:
    """Whether the bounds of `_golub_kahan` on θ₁ and θ₂ are as small as they should be, (N,) bool."""
    residual = (rest @ p[:, -BLOCK:, :2]).flatten(1).norm(dim=1) / 2**0.5
    gap = theta[:, 1] - (third if theta.shape[1] < 3 else theta[:, 2].maximum(third))
    error = residual.where(gap <= residual, residual.square() / gap)
    rounding = like.shape[1] ** 0.5 * torch.finfo(like.dtype).eps * theta[:, 0]
    return error <= (tolerance * theta[:, 1]).maximum(rounding)


def _orthogonalise(x: Tensor, basis: Tensor, spare: Tensor, passes: int) -> tuple[Tensor, Tensor, Tensor]:
    """X = basis C + Q R, with Q orthogonal to the basis: Q, C, R; columns with nothing left are drawn from `spare`.

    One pass leaves orthogonality to rounding of x, two to rounding of Q; V needs two, and then U no more than one
    (Simon and Zha 2000). What is drawn needs two of its own.
    """
    scale = x.norm(dim=(1, 2))[:, None] * torch.finfo(x.dtype).eps
    along = basis.mT @ x
    x, r = torch.linalg.qr(_less(x, basis, along))
    empty = r.diagonal(dim1=1, dim2=2).abs() <= scale
    drawn = bool(empty.any())
    if drawn:
        x, r = x.where(~empty[:, None], spare), r.where(~empty[..., None], 0)
    coefficients, r = along.double(), r.double()
    for _ in range(3 if drawn else passes - 1):
        along = basis.mT @ x
        coefficients = coefficients + along.double() @ r
        x, upper = torch.linalg.qr(_less(x, basis, along))
        r = upper.double() @ r
    return x, coefficients, r


def _less(x: Tensor, basis: Tensor, along: Tensor) -> Tensor:
    """X − basis C, as a product of rows: several times faster on the CPU than that of columns."""
    return (x.mT - along.mT @ basis.mT).mT


def _decomposed(operator: Operator) -> Tensor:
    """σ₁ and σ₂, (N, 2) float64, from the matrices themselves; 0 for a σ₂ that a vector does not have."""
    found = singular_values(operator)[:, :2]
    return torch.nn.functional.pad(found, (0, 2 - found.shape[1]))


def _small(function: Callable[[Tensor], Sequence[Tensor]], matrices: Tensor) -> list[Tensor]:
    """Decompositions of many small matrices."""
    if matrices.is_cuda or len(matrices) < 2 * torch.get_num_threads():
        return list(function(matrices))
    parts = over_threads(function, matrices.chunk(torch.get_num_threads()))
    return [torch.cat(part) for part in zip(*parts, strict=True)]


def _densely(operator: Operator, function: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """The function of some samples' matrices (n, d_out, d_in) at a time."""
    n, d_out, d_in = operator.shape
    return [function(operator[at].dense()) for at in _chunks(n, 3 * 8 * d_out * d_in)]


def _each(function: Callable[[Tensor], Tensor], matrices: Tensor) -> Tensor:
    """The function of every matrix, in threads of its own on the CPU: LU of many at once fails there in several."""
    return torch.stack([*map(function, matrices)] if matrices.is_cuda else over_threads(function, matrices))


def _chunks(n: int, bytes_each: int, like: Tensor | None = None) -> tuple[Tensor, ...]:
    """Numbers of the samples of each chunk: for bases, given a tensor of their kind, or for matrices."""
    size = CHUNK_BYTES // bytes_each
    if like is not None and not like.is_cuda:
        size = min(size, max(AT_LEAST, CACHE_BYTES // bytes_each))
    return torch.arange(n).split(max(1, size))


def _draw(d: int) -> Tensor:
    """Starting vectors, or those that stand in where nothing is left: (d, BLOCK) float64."""
    return torch.randn(d, BLOCK, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@cache
def _fast_bfloat16_on_cpu() -> bool:
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def _fast_bfloat16(like: Tensor) -> bool:
    """Whether the device multiplies bfloat16 matrices at least twice as fast as float32 ones."""
    return torch.cuda.is_bf16_supported() if like.is_cuda else _fast_bfloat16_on_cpu()


def _like(operator: Operator) -> Tensor:
    """A tensor of the operator's dtype and device."""
    return operator[torch.zeros(1, dtype=torch.long)].dense()


def _eps(operator: Operator) -> float:
    return torch.finfo(_like(operator).dtype).eps
