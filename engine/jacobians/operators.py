"""Linear maps, one for each of N samples, applied without being formed: the parts of Jacobians.

Every factor of a closed form (methods §6) is shared by all samples, diagonal, block-diagonal by head, or a projection
less a rank-one term; a Jacobian is a `Chain` and `Sum` of them. All act on column vectors: J[i, j] = ∂y_i/∂x_j.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor


class Operator(ABC):
    """N linear maps from d_in to d_out dimensions."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """(N, d_out, d_in)."""

    @property
    def like(self) -> Tensor:
        """Some tensor of the map's dtype, on its device."""
        part = next(value for value in vars(self).values() if isinstance(value, Tensor | tuple))
        return part if isinstance(part, Tensor) else part[0].like

    @abstractmethod
    def matmul(self, v: Tensor) -> Tensor:
        """J V: (N, d_in, k) → (N, d_out, k)."""

    @abstractmethod
    def rmatmul(self, u: Tensor) -> Tensor:
        """Jᵀ U: (N, d_out, k) → (N, d_in, k)."""

    @abstractmethod
    def dense(self) -> Tensor:
        """J itself, (N, d_out, d_in); may be a view of shared memory, not to be written to."""

    @abstractmethod
    def __getitem__(self, samples: Tensor) -> Self:
        """The maps of some samples: their numbers (n,)."""

    def rough(self) -> "Operator":
        """The same but for factors, and what they are multiplied with, rounded to bfloat16 where that saves time."""
        return self


@dataclass(frozen=True)
class Rounding(Operator):
    """A map that is rounded by rounding its tensors; what it is applied to follows."""

    def rough(self) -> Self:
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **{name: value.bfloat16() for name, value in tensors.items()})


@dataclass(frozen=True)
class Shared(Rounding):
    """One matrix for all samples: `weight` (d_out, d_in)."""

    weight: Tensor
    n: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.n, *self.weight.shape

    def matmul(self, v: Tensor) -> Tensor:
        return self._rows(v, self.weight.T)

    def rmatmul(self, u: Tensor) -> Tensor:
        return self._rows(u, self.weight)

    def dense(self) -> Tensor:
        return self.weight.expand(self.n, -1, -1)

    def __getitem__(self, samples: Tensor) -> Self:
        return replace(self, n=len(samples))

    # Transposed and flattened, so that all samples and columns are one large product instead of N small ones.
    def _rows(self, x: Tensor, right: Tensor) -> Tensor:
        n, _, k = x.shape
        return (x.mT.flatten(0, 1).to(right.dtype) @ right).unflatten(0, (n, k)).mT


@dataclass(frozen=True)
class Dense(Operator):
    """The matrices themselves, (N, d_out, d_in): results of the reference path."""

    matrices: Tensor

    @property
    def shape(self) -> tuple[int, int, int]:
        n, d_out, d_in = self.matrices.shape
        return n, d_out, d_in

    def matmul(self, v: Tensor) -> Tensor:
        return self.matrices @ v

    def rmatmul(self, u: Tensor) -> Tensor:
        return self.matrices.mT @ u

    def dense(self) -> Tensor:
        return self.matrices

    def __getitem__(self, samples: Tensor) -> Self:
        return replace(self, matrices=self.matrices[samples])


@dataclass(frozen=True)
class Diagonal(Rounding):
    """diag(values), `values` (N, d)."""

    values: Tensor

    @property
    def shape(self) -> tuple[int, int, int]:
        n, d = self.values.shape
        return n, d, d

    def matmul(self, v: Tensor) -> Tensor:
        return self.values[:, :, None] * v

    def rmatmul(self, u: Tensor) -> Tensor:
        return self.matmul(u)

    def dense(self) -> Tensor:
        return torch.diag_embed(self.values)

    def __getitem__(self, samples: Tensor) -> Self:
        return replace(self, values=self.values[samples])


@dataclass(frozen=True)
class Identity(Operator):
    """scale · I of size d for n samples, with dtype and device of a tensor."""

    n: int
    d: int
    example: Tensor
    scale: float = 1.0

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.n, self.d, self.d

    def matmul(self, v: Tensor) -> Tensor:
        return v if self.scale == 1 else self.scale * v

    def rmatmul(self, u: Tensor) -> Tensor:
        return self.matmul(u)

    def dense(self) -> Tensor:
        eye = torch.eye(self.d, dtype=self.like.dtype, device=self.like.device)
        return (self.scale * eye).expand(self.n, -1, -1)

    def __getitem__(self, samples: Tensor) -> Self:
        return replace(self, n=len(samples))


@dataclass(frozen=True)
class NormJacobian(Operator):
    """diag(gain) · r · (I − 11ᵀ/d − x̂x̂ᵀ/d), the Jacobian of LayerNorm; RMSNorm's is without 11ᵀ/d (methods §6).

    Attributes
    ----------
    scale : Tensor, (N,)
        r = 1/√(var + ε), or of the mean square.
    unit : Tensor, (N, d)
        x̂ = r·(x − mean), or r·x: before gain and bias.
    gain : Tensor, (d,), or (N, d) where every sample has its own, or None
    centred : bool
        Whether the mean is taken out (LayerNorm).
    """

    scale: Tensor
    unit: Tensor
    gain: Tensor | None
    centred: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        n, d = self.unit.shape
        return n, d, d

    def matmul(self, v: Tensor) -> Tensor:
        projected = self._project(v)
        return projected if self.gain is None else self.gain[..., None] * projected

    def rmatmul(self, u: Tensor) -> Tensor:
        return self._project(u if self.gain is None else self.gain[..., None] * u)

    def dense(self) -> Tensor:
        n, d, _ = self.shape
        return self.matmul(torch.eye(d, dtype=self.unit.dtype, device=self.unit.device).expand(n, d, d))

    def __getitem__(self, samples: Tensor) -> Self:
        gain = self.gain if self.gain is None or self.gain.ndim == 1 else self.gain[samples]
        return replace(self, scale=self.scale[samples], unit=self.unit[samples], gain=gain)

    def _project(self, v: Tensor) -> Tensor:
        rows = v.mT.to(self.unit)
        along = rows @ self.unit[:, :, None] / -v.shape[1]
        rest = torch.baddbmm(rows, along, self.unit[:, None])
        if self.centred:
            rest -= rows.mean(2, keepdim=True)
        return rest.mul_(self.scale[:, None, None]).mT


@dataclass(frozen=True)
class HeadBlocks(Rounding):
    """Block-diagonal over heads: `blocks` (N, H, a, b) maps head h of the input (H·b) to head h of the output (H·a)."""

    blocks: Tensor

    @property
    def shape(self) -> tuple[int, int, int]:
        n, heads, a, b = self.blocks.shape
        return n, heads * a, heads * b

    def matmul(self, v: Tensor) -> Tensor:
        return self._rows(v, self.blocks.mT)

    def rmatmul(self, u: Tensor) -> Tensor:
        return self._rows(u, self.blocks)

    def dense(self) -> Tensor:
        n, heads, a, b = self.blocks.shape
        out = self.blocks.new_zeros(n, heads, a, heads, b)
        every = torch.arange(heads, device=out.device)
        out[:, every, :, every] = self.blocks.transpose(0, 1)
        return out.reshape(n, heads * a, heads * b)

    def __getitem__(self, samples: Tensor) -> Self:
        return replace(self, blocks=self.blocks[samples])

    # Transposed, because the CPU multiplies a few rows several times as fast as a few columns.
    def _rows(self, x: Tensor, right: Tensor) -> Tensor:
        rows = x.mT.to(right.dtype).unflatten(2, (right.shape[1], -1)).transpose(1, 2).contiguous()
        return (rows @ right).transpose(1, 2).flatten(2).mT


@dataclass(frozen=True)
class HeadOuter(Rounding):
    """Rank one in every head: output head h is left_h · (right_hᵀ v of the key/value head that h reads).

    `left` (N, H, a), `right` (N, H, b); the input has n_kv heads of width b, each read by H/n_kv output heads.
    """

    left: Tensor
    right: Tensor
    n_kv: int

    @property
    def shape(self) -> tuple[int, int, int]:
        n, heads, a = self.left.shape
        return n, heads * a, self.n_kv * self.right.shape[2]

    def matmul(self, v: Tensor) -> Tensor:
        right = self.right.unflatten(1, (self.n_kv, -1))[:, None]
        inner = (v.mT.unflatten(2, (self.n_kv, 1, -1)) * right).sum(-1).flatten(2)
        return (inner[..., None] * self.left[:, None]).flatten(2).mT

    def rmatmul(self, u: Tensor) -> Tensor:
        heads = self.left.shape[1]
        inner = (u.mT.unflatten(2, (heads, -1)) * self.left[:, None]).sum(-1, keepdim=True)
        return (inner * self.right[:, None]).unflatten(2, (self.n_kv, -1)).sum(3).flatten(2).mT

    def dense(self) -> Tensor:
        return grouped(self.left[..., None] * self.right[:, :, None], self.n_kv)

    def __getitem__(self, samples: Tensor) -> Self:
        return replace(self, left=self.left[samples], right=self.right[samples])


@dataclass(frozen=True)
class HeadScale(Rounding):
    """Output head h is values_h · v of the key/value head that h reads; `values` (N, H), heads of width `d_head`."""

    values: Tensor
    n_kv: int
    d_head: int

    @property
    def shape(self) -> tuple[int, int, int]:
        n, heads = self.values.shape
        return n, heads * self.d_head, self.n_kv * self.d_head

    def matmul(self, v: Tensor) -> Tensor:
        values = self.values.unflatten(1, (self.n_kv, -1))[:, None, ..., None]
        return (v.mT.unflatten(2, (self.n_kv, 1, -1)) * values).flatten(2).mT

    def rmatmul(self, u: Tensor) -> Tensor:
        values = self.values.unflatten(1, (self.n_kv, -1))[:, None, ..., None]
        return (u.mT.unflatten(2, (self.n_kv, -1, self.d_head)) * values).sum(3).flatten(2).mT

    def dense(self) -> Tensor:
        eye = torch.eye(self.d_head, dtype=self.values.dtype, device=self.values.device)
        return grouped(self.values[..., None, None] * eye, self.n_kv)

    def __getitem__(self, samples: Tensor) -> Self:
        return replace(self, values=self.values[samples])


@dataclass(frozen=True)
class Chain(Operator):
    """The product of `factors`, the leftmost applied last."""

    factors: tuple[Operator, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        n, d_out, _ = self.factors[0].shape
        return n, d_out, self.factors[-1].shape[2]

    def matmul(self, v: Tensor) -> Tensor:
        for factor in reversed(self.factors):
            v = factor.matmul(v)
        return v

    def rmatmul(self, u: Tensor) -> Tensor:
        for factor in self.factors:
            u = factor.rmatmul(u)
        return u

    def dense(self) -> Tensor:
        # Started at the last factor that is not cheap to apply, so that no large product is made twice.
        cheap = (Diagonal, Identity, NormJacobian)
        start = max((i for i, factor in enumerate(self.factors) if not isinstance(factor, cheap)), default=0)
        product = self.factors[start].dense()
        for factor in reversed(self.factors[:start]):
            product = factor.matmul(product)
        for factor in self.factors[start + 1 :]:
            product = factor.rmatmul(product.mT).mT
        return product

    def __getitem__(self, samples: Tensor) -> Self:
        return replace(self, factors=tuple(factor[samples] for factor in self.factors))

    def rough(self) -> "Chain":
        return replace(self, factors=tuple(factor.rough() for factor in self.factors))


@dataclass(frozen=True)
class Sum(Operator):
    """The sum of `terms`."""

    terms: tuple[Operator, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.terms[0].shape

    def matmul(self, v: Tensor) -> Tensor:
        total = self.terms[0].matmul(v)
        for term in self.terms[1:]:
            total = total + term.matmul(v)
        return total

    def rmatmul(self, u: Tensor) -> Tensor:
        total = self.terms[0].rmatmul(u)
        for term in self.terms[1:]:
            total = total + term.rmatmul(u)
        return total

    def dense(self) -> Tensor:
        total = self.terms[0].dense()
        for term in self.terms[1:]:
            total = total + term.dense()
        return total

    def __getitem__(self, samples: Tensor) -> Self:
        return replace(self, terms=tuple(term[samples] for term in self.terms))

    def rough(self) -> "Sum":
        return replace(self, terms=tuple(term.rough() for term in self.terms))


def chain(*factors: Operator | None) -> Operator:
    """The product of the factors that are not None, nested chains flattened."""
    flat: list[Operator] = []
    for factor in factors:
        if factor is not None:
            flat += factor.factors if isinstance(factor, Chain) else (factor,)
    return flat[0] if len(flat) == 1 else Chain(tuple(flat))


def grouped(blocks: Tensor, n_kv: int) -> Tensor:
    """Lay blocks (N, H, a, b), block h against the key/value head that h reads, out as (N, H·a, n_kv·b)."""
    n, heads, a, b = blocks.shape
    group = heads // n_kv
    out = blocks.new_zeros(n, n_kv, group * a, n_kv, b)
    every = torch.arange(n_kv, device=out.device)
    out[:, every, :, every] = blocks.reshape(n, n_kv, group * a, b).transpose(0, 1)
    return out.reshape(n, heads * a, n_kv * b)
