"""Singular values and norms of many samples' Jacobians at once, formed only where that pays (methods §6)."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from typing import Literal, Self, get_args

import torch
from torch import Tensor

from engine.jacobians.krylov import BLOCK, davidson, draw, golub_kahan, lanczos
from engine.jacobians.operators import Dense, Operator
from engine.spectra.threads import over_threads

Statistic = Literal["rho", "delta", "frobenius", "pr", "kappa"]
STATISTICS: tuple[Statistic, ...] = get_args(Statistic)

# Memory for the bases, or matrices, of the samples that are treated at a time.
CHUNK_BYTES = 2**28
# On the CPU, the bases should fit into its cache, but belong to enough samples to make large products.
CACHE_BYTES = 2**24
AT_LEAST = 128
# Columns of the basis after which a sample's matrix is decomposed as it is, and in which most are done.
MOST_COLUMNS = 128
EXPECTED_COLUMNS = 48
# Bound on the relative error of σ₁ and σ₂ at which a sample is done: less than a tenth of the width of a line in a box
# plot, and twenty times what most are off by in float32.
TOLERANCE = {torch.float32: 5e-5, torch.float64: 1e-10}
# Columns in which a guess is made in bfloat16 and those in which it then becomes exact, and the width from which it is
# worth while.
ROUGH_COLUMNS = 64
REFINING_COLUMNS = 20
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
    statistics: dict[Statistic, Tensor] = {}
    if {"rho", "delta", "kappa"} & set(names):
        top = top_singular_values(operator)
        statistics |= {"rho": top[:, 0], "delta": top[:, 1] / top[:, 0]}
    if {"frobenius", "pr"} & set(names):
        # What needs the matrices shares them: they cost more to form than anything here costs with them.
        parts = []
        for at in _dense_chunks(operator):
            formed = Dense(operator[at].dense())
            part = norms(formed)
            parts.append((*part, condition_numbers(formed, statistics["rho"][at])) if "kappa" in names else part)
        statistics |= zip(("frobenius", "pr", "kappa"), map(torch.cat, zip(*parts, strict=True)), strict=False)
    elif "kappa" in names:
        statistics["kappa"] = condition_numbers(operator, statistics["rho"])
    return {name: statistics[name] for name in names}


@torch.no_grad()
def top_singular_values(operator: Operator) -> Tensor:
    """The two largest singular values of every sample, (N, 2) float64, from products with J and Jᵀ.

    All samples of a chunk take a step together, and those that have converged leave. The starting vectors are the same
    for every sample, so that its values do not depend on the other samples. Where bfloat16 products are fast, they
    find approximate vectors first, whose errors are then measured with the operator itself.
    """
    n, d_out, d_in = operator.shape
    like, tolerance = operator.like, TOLERANCE[operator.like.dtype]
    start = torch.linalg.qr(draw(d_in).to(like))[0].T
    roughly = like.dtype == torch.float32 and d_in >= ROUGH_FROM and _fast_bfloat16(like)
    rough = operator.rough() if roughly else operator
    bytes_each = EXPECTED_COLUMNS * like.element_size() * (d_out + d_in)

    def largest(at: Tensor) -> Tensor:
        part, block = operator[at], start.expand(len(at), -1, -1)
        if rough is operator:
            top = golub_kahan(part, block, tolerance, MOST_COLUMNS)
        else:
            guess = lanczos(rough[at], block, ROUGH_COLUMNS)
            top = davidson(part, guess, tolerance, REFINING_COLUMNS)
            left = (~top.converged).nonzero()[:, 0]
            if len(left):
                block = torch.linalg.qr(guess.right[left, :BLOCK].mT)[0].mT
                again = golub_kahan(part[left], block, tolerance, MOST_COLUMNS, guess.values[left, 2])
                top.values[left], top.converged[left] = again.values, again.converged
        left = (~top.converged).nonzero()[:, 0]
        if len(left):
            top.values[left, :2] = _decomposed(part[left])
        return top.values[:, :2]

    # Where there are enough samples, each thread has some of its own, so that none waits for another.
    threads = 1 if like.is_cuda or n < AT_LEAST * torch.get_num_threads() else torch.get_num_threads()
    chunks = _chunks(n, bytes_each, like if rough is operator else None, threads)
    return torch.cat([*(over_threads(largest, chunks) if threads > 1 else map(largest, chunks))])


@torch.no_grad()
def norms(operator: Operator) -> tuple[Tensor, Tensor]:
    """‖J‖_F and the participation ratio ‖J‖_F⁴/‖JᵀJ‖_F² of every sample, (N,) float64."""

    def both(matrices: Tensor) -> Tensor:
        pair = (matrices, matrices.mT @ matrices)
        size, of_square = (torch.linalg.vector_norm(part, dim=(1, 2), dtype=torch.float64) for part in pair)
        return torch.stack((size, (size.square() / of_square).square()))

    frobenius, pr = torch.cat(_densely(operator, both), 1)
    return frobenius, pr


@torch.no_grad()
def singular_values(operator: Operator) -> Tensor:
    """All singular values of every sample, descending, (N, min(d_out, d_in)) float64, in the operator's precision."""
    return torch.cat(_densely(operator, lambda matrices: _each(torch.linalg.svdvals, matrices).double()))


def resolved(operator: Operator) -> float:
    """The largest κ that the operator's precision can tell from ∞: 1/(d·eps)."""
    return 1 / (operator.shape[1] * torch.finfo(operator.like.dtype).eps)


@torch.no_grad()
def condition_numbers(operator: Operator, largest: Tensor) -> Tensor:
    """κ = σ₁/σ_d of every sample, (N,) float64, by LU factorisation and inverse iteration for σ_d.

    inf where the precision of the operator does not tell σ_d from 0, which is σ_d ≤ d·eps·σ₁ (`resolved`): in float32
    from κ = 10⁴ at d = 768 on. Whether J is singular is another question (`singular_by_structure`).

    Parameters
    ----------
    operator : Operator, (N, d, d)
    largest : Tensor, (N,)
        σ₁.
    """

    def smallest(matrix: Tensor) -> Tensor:
        size = matrix.abs().max()
        lu, pivots, failed = torch.linalg.lu_factor_ex(matrix / size)
        if failed or not lu.isfinite().all():
            return torch.zeros(1, dtype=torch.float64)
        # A pivot of rounding alone would overflow when it is squared, and says no more than the smallest that counts.
        pivot = lu.diagonal()
        least = torch.finfo(lu.dtype).eps
        pivot.copy_(torch.where(pivot.abs() < least, torch.copysign(pivot.new_tensor(least), pivot), pivot))
        inverse = _Inverse(lu[None], pivots[None])
        if not inverse.matmul(lu.new_ones(1, len(lu), 1)).isfinite().all():
            return torch.zeros(1, dtype=torch.float64)
        return (size / top_singular_values(inverse)[:, :1].flatten()).cpu()

    at_least = largest / resolved(operator)
    # Equal numbers are what a LayerNorm takes out: ‖J 1‖/√d bounds σ_d and often says at once that J is singular.
    equal = torch.full((*operator.shape[::2], 1), operator.shape[2] ** -0.5).to(operator.like)
    left = (operator.matmul(equal).norm(dim=(1, 2)).to(largest) > at_least).nonzero().flatten()
    sigma = torch.zeros_like(largest)
    if len(left):
        inverted = _densely(operator[left], lambda matrices: _each(smallest, matrices))
        sigma[left] = torch.cat(inverted).flatten().to(largest)
    return torch.where((sigma > at_least) & sigma.isfinite(), largest / sigma, torch.inf)


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


def _decomposed(operator: Operator) -> Tensor:
    """σ₁ and σ₂, (N, 2) float64, from the matrices themselves; 0 for a σ₂ that a vector does not have."""
    leading = singular_values(operator)[:, :2]
    return torch.nn.functional.pad(leading, (0, 2 - leading.shape[1]))


def _densely(operator: Operator, function: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """The function of some samples' matrices (n, d_out, d_in) at a time."""
    return [function(operator[at].dense()) for at in _dense_chunks(operator)]


def _dense_chunks(operator: Operator) -> tuple[Tensor, ...]:
    """Numbers of the samples whose matrices are formed at a time."""
    n, d_out, d_in = operator.shape
    return _chunks(n, 3 * 8 * d_out * d_in)


def _each(function: Callable[[Tensor], Tensor], matrices: Tensor) -> Tensor:
    """The function of every matrix, in threads of its own on the CPU: LU of many at once fails there in several."""
    return torch.stack([*map(function, matrices)] if matrices.is_cuda else over_threads(function, matrices))


def _chunks(n: int, bytes_each: int, like: Tensor | None = None, threads: int = 1) -> tuple[Tensor, ...]:
    """Numbers of the samples of each chunk: for bases, given a tensor of their kind, or for matrices."""
    size = min(CHUNK_BYTES // (threads * bytes_each), -(-n // threads))
    if like is not None and not like.is_cuda:
        size = min(size, max(AT_LEAST, CACHE_BYTES // bytes_each))
    return torch.arange(n).split(max(1, size))


@cache
def _fast_bfloat16_on_cpu() -> bool:
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def _fast_bfloat16(like: Tensor) -> bool:
    """Whether the device multiplies bfloat16 matrices at least twice as fast as float32 ones."""
    return torch.cuda.is_bf16_supported() if like.is_cuda else _fast_bfloat16_on_cpu()
