"""What a transformer block looks like to the rest of the engine, whatever the architecture.

Conventions (methods §0): a weight acts on column vectors, y = W x; query head h reads key/value head h // (H // H_kv).
"""

from dataclasses import dataclass
from typing import Literal, TypedDict

import torch
from torch import Tensor

NormKind = Literal["layernorm", "rmsnorm"]


@dataclass(frozen=True)
class Heads:
    """The four attention matrices of every head of one block, in column convention and in the storage dtype.

    Attributes
    ----------
    w_q : Tensor, (H, d_h, d)
    w_k, w_v : Tensor, (H_kv, d_h, d)
    w_o : Tensor, (H, d, d_h)
    """

    w_q: Tensor
    w_k: Tensor
    w_v: Tensor
    w_o: Tensor

    def kv_of(self, head: int) -> int:
        """The key/value head that query head `head` reads."""
        return head // (len(self.w_q) // len(self.w_k))


@dataclass(frozen=True)
class Norm:
    """A norm over the residual width: n(x) = gain ∘ x̂ + bias, x̂ centred for LayerNorm only.

    `gain` (d,) is what multiplies x̂ (Gemma's stored w is returned as 1 + w, in fp32); None where nothing is learned.
    """

    kind: NormKind
    gain: Tensor | None
    bias: Tensor | None
    eps: float


@dataclass(frozen=True)
class Rotary:
    """The rotary position table of one block.

    Attributes
    ----------
    inv_freq : Tensor, (r/2,) float64
        Angles per position, by the library's own scaling rule; the r leading dimensions rotate in pairs (i, i + r/2).
        Rules that depend on the length of the text (``dynamic``, ``longrope``) give those of the original context.
    d_head : int
    attention_scaling : float
        The library multiplies both rotated q and rotated k by it (YaRN); it scales scores and is not part of R.
    """

    inv_freq: Tensor
    d_head: int
    attention_scaling: float = 1.0

    def rotation(self, delta: int) -> Tensor:
        """R_Δ, orthogonal, (d_h, d_h) float64: a query at position i scores a key at j by (W_Q x)ᵀ R_{j−i} (W_K y).

        So W_Qᵀ R_Δ W_K (methods §2) has Δ = key position − query position: a key n tokens back is Δ = −n.
        """
        half = len(self.inv_freq)
        cos, sin = torch.cos(delta * self.inv_freq), torch.sin(delta * self.inv_freq)
        first, second = torch.arange(half), torch.arange(half, 2 * half)
        rotation = torch.eye(self.d_head, dtype=torch.float64)
        rotation[first, first], rotation[first, second] = cos, -sin
        rotation[second, first], rotation[second, second] = sin, cos
        return rotation


@dataclass(frozen=True)
class Block:
    """One transformer block. `attn_norm` is what x passes before attention; None where nothing does (post-norm)."""

    layer: int
    heads: Heads
    attn_norm: Norm | None
    rotary: Rotary | None
    qk_norm: bool
    softcap: float | None


class Facts(TypedDict):
    """The part of `ModelInfo` that the config alone decides."""

    family: str
    causal: bool
    n_layers: int
    d_model: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    vocab_size: int
    context: int
    norm: NormKind
    rotary: bool
    qk_norm: bool
    notices: tuple[str, ...]
