"""Mean Jacobians of many samples in a number of large products that does not grow with them (methods §6).

A Jacobian is first written as a core plus U Vᵀ with a column for every norm: the rank-one part of each norm is taken
out, what stands left and right of it applied to its two vectors. The sum of U Vᵀ over samples is one product. In the
core, norms are numbers times what all samples share, so that it is a sum of chains with no factor that depends on the
sample (the number does), with one (its sum takes its place) or with two: an MLP's diagonal and attention's heads.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor

from engine.jacobians.attention import Context
from engine.jacobians.closed import Component, component_operators
from engine.jacobians.operators import (
    Chain,
    Diagonal,
    HeadBlocks,
    HeadOuter,
    HeadScale,
    Identity,
    NormJacobian,
    Operator,
    Shared,
    Sum,
    chain,
    grouped,
)
from engine.jacobians.state import ResidualState
from engine.models.adapters import Block

# The factors of as many samples at a time as fit into this, and the largest intermediate array.
CHUNK_BYTES = 2**28


@dataclass(frozen=True)
class JacobianSum:
    """Σ J over `count` samples, (d, d) float64; sums over other samples are added with ``+``."""

    total: Tensor
    count: int

    def __add__(self, other: "JacobianSum") -> "JacobianSum":
        return JacobianSum(self.total + other.total, self.count + other.count)

    @property
    def mean(self) -> Tensor:
        """(d, d) float64."""
        return self.total / self.count


def mean_jacobian(block: Block, state: ResidualState, component: Component, context: Context) -> Tensor:
    """Mean of one component's Jacobians over the samples, (d, d) float64."""
    return sum_jacobians(block, state, (component,), context)[component].mean


@torch.no_grad()
def sum_jacobians(
    block: Block, state: ResidualState, components: Collection[Component], context: Context
) -> dict[Component, JacobianSum]:
    """Sums of Jacobians over the samples, exactly, in chunks of samples.

    Products are made in the dtype of `state.hidden`; sums of chunks and what is returned are float64.

    Parameters
    ----------
    block : Block
        With all its parts.
    state : ResidualState
    components : collection of str
    context : {"in_context", "isolated"}
    """
    size = max(1, int(CHUNK_BYTES / _sample_bytes(block, state, context)))
    sums: dict[Component, JacobianSum] = {}
    for start in range(0, len(state), size):
        for component, part in sum_operators(
            component_operators(block, state[start : start + size], context), components
        ).items():
            sums[component] = sums[component] + part if component in sums else part
    return sums


def sum_operators(
    operators: Mapping[Component, Operator], components: Collection[Component]
) -> dict[Component, JacobianSum]:
    """`sum_operator` of each component; the block is its residual and I, so that of these two only one is made."""
    sums = {
        name: sum_operator(operators[name]) for name in components if name != "block" or "residual" not in components
    }
    if "block" in components and "residual" in components:
        residual = sums["residual"]
        eye = torch.eye(len(residual.total), dtype=torch.float64, device=residual.total.device)
        sums["block"] = JacobianSum(residual.total + residual.count * eye, residual.count)
    return sums


def sum_operator(operator: Operator) -> JacobianSum:
    """The sum of the operator's N matrices, without making them."""
    core, outer = _split(operator)
    n, d_out, d_in = operator.shape
    terms = [_sum_chain(weight, factors, n) for weight, factors in _chains(core)]
    if outer is not None:
        terms.append(torch.tensordot(*outer, dims=([0, 2], [0, 2])))
    total = terms[0].new_zeros(d_out, d_in, dtype=torch.float64)
    for term in terms:
        total += term
    return JacobianSum(total, n)


def _split(operator: Operator) -> tuple[Operator, tuple[Tensor, Tensor] | None]:
    """J = core + U Vᵀ: the core, in which norms have no rank-one part, and U (N, d_out, k), V (N, d_in, k)."""
    if isinstance(operator, NormJacobian):
        left = -operator.scale[:, None] * operator.unit / operator.unit.shape[1]
        left = left if operator.gain is None else operator.gain * left
        nothing = torch.zeros_like(operator.unit[:1]).expand_as(operator.unit)
        return replace(operator, unit=nothing), (left[..., None], operator.unit[..., None])
    if isinstance(operator, Sum):
        parts = [_split(term) for term in operator.terms]
        return Sum(tuple(core for core, _ in parts)), _side_by_side([outer for _, outer in parts])
    if isinstance(operator, Chain):
        # A B = A₀ B₀ + (A₀ U_B) V_Bᵀ + U_A (Bᵀ V_A)ᵀ, from the last factor to the first.
        whole = operator.factors[-1]
        core, outer = _split(whole)
        for factor in reversed(operator.factors[:-1]):
            first, more = _split(factor)
            outer = _side_by_side(
                [
                    None if outer is None else (first.matmul(outer[0]), outer[1]),
                    None if more is None else (more[0], whole.rmatmul(more[1])),
                ]
            )
            whole, core = chain(factor, whole), chain(first, core)
        return core, outer
    return operator, None


def _side_by_side(outers: list[tuple[Tensor, Tensor] | None]) -> tuple[Tensor, Tensor] | None:
    present = [outer for outer in outers if outer is not None]
    return (torch.cat([u for u, _ in present], 2), torch.cat([v for _, v in present], 2)) if present else None


Weighted = tuple[Tensor | float, tuple[Operator, ...]]


def _chains(core: Operator) -> list[Weighted]:
    """The core as a sum of chains: a number for each sample (or for all), and factors.

    Factors that are the same for all samples are given for one.
    """
    if isinstance(core, Sum):
        return [weighted for term in core.terms for weighted in _chains(term)]
    if isinstance(core, Chain):
        joined: list[Weighted] = []
        for parts in product(*(_chains(factor) for factor in core.factors)):
            weight: Tensor | float = 1.0
            for part, _ in parts:
                weight = part * weight
            joined.append((weight, tuple(factor for _, factors in parts for factor in factors)))
        return joined
    if isinstance(core, NormJacobian):
        unity = core.scale.new_ones(1)
        return [(core.scale, (replace(core, scale=unity, unit=core.unit[:1]),))]
    if isinstance(core, Shared | Identity):
        return [(1.0, (replace(core, n=1),))]
    if isinstance(core, HeadScale) and bool((core.values == core.values[:1]).all()):
        return [(1.0, (replace(core, values=core.values[:1]),))]
    return [(1.0, (core,))]


def _sum_chain(weight: Tensor | float, factors: tuple[Operator, ...], n: int) -> Tensor:
    """Σ weight · product of the factors over n samples, (d_out, d_in)."""
    varying = [i for i, factor in enumerate(factors) if factor.shape[0] != 1]
    if not varying:
        total = n * weight if isinstance(weight, float) else weight.sum(dtype=torch.float64)
        return total * _multiply(factors)
    first, last = varying[0], varying[-1]
    left, right = factors[first], factors[last]
    summed: Operator
    if first == last:
        summed = _sum_factor(left, weight)
    elif len(varying) == 2 and isinstance(left, Diagonal) and isinstance(right, HeadBlocks | HeadOuter | HeadScale):
        between = factors[first + 1 : last]
        middle = _multiply(between) if between else torch.eye(left.shape[2]).to(left.values)
        scaled = weight * left.values if isinstance(weight, float) else weight[:, None] * left.values
        summed = Shared(_sum_pair(scaled, middle, right), 1)
    else:
        summed = Shared(_sum_columns(weight, factors[first : last + 1], n), 1)
    return _multiply((*factors[:first], summed, *factors[last + 1 :]))


def _multiply(factors: tuple[Operator, ...]) -> Tensor:
    """The product of factors of one sample each, in the order that costs least."""
    matrices: list[Tensor] = []
    waiting: list[Operator] = []  # factors right of the last matrix
    for factor in reversed(factors):
        if isinstance(factor, Shared):
            columns = factor.weight.T[None]
            while waiting:
                columns = waiting.pop().rmatmul(columns)
            matrices.insert(0, columns[0].T)
        elif matrices:
            matrices[0] = factor.matmul(matrices[0][None])[0]
        else:
            waiting.append(factor)
    if waiting:
        return chain(*reversed(waiting)).dense()[0]
    return matrices[0] if len(matrices) == 1 else torch.linalg.multi_dot(matrices)


def _sum_factor(factor: Operator, weight: Tensor | float) -> Operator:
    """Σ weight · factor, given for one sample."""

    def total(x: Tensor) -> Tensor:
        if isinstance(weight, float):
            return weight * x.sum(0, dtype=torch.float64).to(x)[None]
        return (weight @ x.flatten(1)).view(1, *x.shape[1:])

    match factor:
        case Diagonal(values):
            return Diagonal(total(values))
        case HeadBlocks(blocks):
            return HeadBlocks(total(blocks))
        case HeadScale(values, n_kv, d_head):
            return HeadScale(total(values), n_kv, d_head)
        case HeadOuter(left, right, n_kv):
            left = weight * left if isinstance(weight, float) else weight[:, None, None] * left
            return Shared(grouped(torch.einsum("nha,nhb->hab", left, right)[None], n_kv)[0], 1)
        case _:
            return Shared(total(factor.dense())[0], 1)


def _sum_pair(diagonal: Tensor, middle: Tensor, heads: HeadBlocks | HeadOuter | HeadScale) -> Tensor:
    """Σ diag(diagonal_s) · middle · heads_s for diagonal (N, f) and middle (f, H·a): (f, H_kv·b)."""
    (n, _, columns), f = heads.shape, len(middle)
    match heads:
        case HeadScale(values, n_kv, _):
            by_head = middle.view(f, values.shape[1], -1) * (diagonal.T @ values)[..., None]
            return by_head.view(f, n_kv, values.shape[1] // n_kv, -1).sum(2).flatten(1)
        case HeadOuter(left, right, n_kv):
            count, width = left.shape[1], left.shape[2]
            outers = [
                (diagonal * (left[:, h] @ middle[:, h * width : (h + 1) * width].T)).T @ right[:, h]
                for h in range(count)
            ]
            return torch.stack(outers, 1).view(f, n_kv, count // n_kv, -1).sum(2).flatten(1)
    count, a, b = heads.blocks.shape[1:]
    out = middle.new_empty(f, columns)
    # Both ways take 2·N·f·a·b operations a head; what they then add up by element is f·a·b against N·f·b.
    contract = a < n
    size = max(1, CHUNK_BYTES // (b * (a if contract else n) * middle.element_size()))
    for start in range(0, f, size):
        at = slice(start, start + size)
        for h in range(count):
            mine, blocks = middle[at, h * a : (h + 1) * a], heads.blocks[:, h]
            if contract:
                weighted = (diagonal[:, at].T @ blocks.flatten(1)).view(-1, a, b)
                summed = (mine[:, None] @ weighted)[:, 0]
            else:
                summed = torch.einsum("nf,nfb->fb", diagonal[:, at], mine @ blocks)
            out[at, h * b : (h + 1) * b] = summed
    return out


def _sum_columns(weight: Tensor | float, factors: tuple[Operator, ...], n: int) -> Tensor:
    """Σ weight · product of the factors, whatever they are, by some columns of all samples at a time."""
    operator = chain(*(Shared(factor.dense()[0], n) if factor.shape[0] == 1 else factor for factor in factors))
    like = next(factor for factor in factors if factor.shape[0] != 1)[torch.zeros(1, dtype=torch.long)].dense()
    eye = torch.eye(operator.shape[2]).to(like)
    widest = max(max(factor.shape[1:]) for factor in factors)
    size = max(1, CHUNK_BYTES // (n * widest * like.element_size()))
    sums = []
    for columns in eye.split(size, 1):
        images = operator.matmul(columns.expand(n, -1, -1))
        sums.append(weight * images.sum(0) if isinstance(weight, float) else torch.einsum("n,nij->ij", weight, images))
    return torch.cat(sums, 1)


def _sample_bytes(block: Block, state: ResidualState, context: Context) -> float:
    """What the factors of one sample take, with a copy of each in the making."""
    n_heads, d_head, d = block.heads.w_q.shape
    f = 0 if block.mlp is None else len(block.mlp.w_in)
    cores = 4 * n_heads * d_head**2 if context == "in_context" else 0
    return (8 * f + 24 * d + cores) * state.hidden.element_size()
