"""What a transformer block looks like to the rest of the engine, whatever the architecture.

Conventions (methods §0): a weight acts on column vectors, y = W x; query head h reads key/value head h // (H // H_kv).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

NormKind = Literal["layernorm", "rmsnorm"]
# How much of a block is read: the matrices of its heads with the norm before them, or everything.
Parts = Literal["heads", "all"]


@dataclass(frozen=True)
class Heads:
    """The four attention matrices of every head of one block, in column convention and in the storage dtype.

    Attributes
    ----------
    w_q : Tensor, (H, d_h, d)
    w_k, w_v : Tensor, (H_kv, d_h, d)
    w_o : Tensor, (H, d, d_h)
    b_q : Tensor, (H, d_h), or None
    b_k, b_v : Tensor, (H_kv, d_h), or None
    b_o : Tensor, (d,), or None
        Biases: None where the architecture has none, or where only the matrices were read.
    """

    w_q: Tensor
    w_k: Tensor
    w_v: Tensor
    w_o: Tensor
    b_q: Tensor | None = None
    b_k: Tensor | None = None
    b_v: Tensor | None = None
    b_o: Tensor | None = None


@dataclass(frozen=True)
class Norm:
    """A norm over the residual width: n(x) = gain ∘ x̂ + bias, x̂ centred for LayerNorm only.

    `gain` (d,) is what multiplies x̂ (Gemma's stored w is returned as 1 + w, in fp64); None where nothing is learned.
    """

    kind: NormKind
    gain: Tensor | None
    bias: Tensor | None
    eps: float


@dataclass(frozen=True)
class Borrowed:
    """Where a layer's keys and values come from that are not its own: an earlier layer's residual stream.

    `layer` made them, and `norm` is what its stream passes before W_K and W_V.
    """

    layer: int
    norm: Norm


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
class HeadNorm:
    """A norm on queries, keys or values, after the projection and its bias, before rotation.

    Attributes
    ----------
    kind : ``layernorm`` or ``rmsnorm``
    gain : Tensor or None
        (d_h,), or (heads·d_h,), head by head, which it always is if `over` is ``all``. As `Norm.gain`, what multiplies.
    eps : float
    over : ``head`` or ``all``
        Whether each head is normalised alone or all heads of the layer as one vector (OLMo 2 and 3).
    bias : Tensor or None, (d_h,)
        What is added after the gain (Persimmon).
    """

    kind: NormKind
    gain: Tensor | None
    eps: float
    over: Literal["head", "all"]
    bias: Tensor | None = None


@dataclass(frozen=True)
class AttentionRule:
    """How queries, keys and values become the heads' outputs: softmax over keys of cap(scale · q·k).

    Attributes
    ----------
    scale : float
        What multiplies q·k, everything included (also the layer's own factor of GPT-2, and OPT's on the query); the
        rotary table's `attention_scaling` comes on top.
    softcap : float or None
        c of c·tanh(score/c), applied to the scaled score.
    q_norm, k_norm, v_norm : HeadNorm or None
    window : int or None
        A query at i sees no key at j with |i − j| ≥ window.
    causal : bool
        A query at i sees no key at j > i.
    slopes : Tensor or None, (H,)
        ALiBi: slope · (j − i) is added to the score of a query at i and a key at j, after `scale`.
    """

    scale: float
    softcap: float | None
    q_norm: HeadNorm | None
    k_norm: HeadNorm | None
    v_norm: HeadNorm | None
    window: int | None
    causal: bool
    slopes: Tensor | None = None


@dataclass(frozen=True)
class Mlp:
    """The MLP of one block, plain: w_out φ(w_in x + b_in) + b_out.

    Gated, if there is a `w_gate`: w_out (φ(w_gate x + b_gate) ∘ (w_in x + b_in)) + b_out.

    Attributes
    ----------
    w_in : Tensor, (f, d)
    b_in : Tensor, (f,), or None
    w_gate : Tensor, (f, d), or None
        None for a plain MLP.
    b_gate : Tensor, (f,), or None
    w_out : Tensor, (d, f)
    b_out : Tensor, (d,), or None
    activation : str
        Name of φ in ``transformers.activations.ACT2FN``.
    """

    w_in: Tensor
    b_in: Tensor | None
    w_gate: Tensor | None
    b_gate: Tensor | None
    w_out: Tensor
    b_out: Tensor | None
    activation: str


@dataclass(frozen=True)
class Block:
    """One transformer block.

    With a = s·attn_post(attention(attn_norm(x))), m(z) = s·mlp_post(mlp(mlp_norm(z))), s = sublayer_scale and absent
    norms left out, the block is x₁ = attn_sum(x + a), y = residual_scale · mlp_sum(x₁ + m(x₁)). If `parallel`, there
    are no sum-norms and y = residual_scale · (x + a + m(x)).

    Attributes
    ----------
    layer : int
    heads : Heads
    attn_norm : Norm or None
        What x passes before attention; None where nothing does (post-norm blocks).
    rotary : Rotary or None
    qk_norm : bool
    softcap : float or None
    borrowed : Borrowed or None
        Set where W_K and W_V are an earlier layer's: W_QK and W_OV then join two residual streams.
    attention, mlp : AttentionRule and Mlp, or None
        None, as are all that follow and the heads' biases, where only the heads were read.
    attn_post, mlp_norm, mlp_post : Norm or None
    attn_sum, mlp_sum : Norm or None
        Norms after the residual addition (BERT).
    parallel : bool
        Whether attention and MLP read the same x (GPT-NeoX).
    residual_scale : float
        What the architecture multiplies the block's whole output by, the skip included (Gemma 4).
    sublayer_scale : float
        What it multiplies each sublayer's output by before the sum (Granite).
    """

    layer: int
    heads: Heads
    attn_norm: Norm | None
    rotary: Rotary | None
    qk_norm: bool
    softcap: float | None
    borrowed: Borrowed | None = None
    attention: AttentionRule | None = None
    mlp: Mlp | None = None
    attn_post: Norm | None = None
    attn_sum: Norm | None = None
    mlp_norm: Norm | None = None
    mlp_post: Norm | None = None
    mlp_sum: Norm | None = None
    parallel: bool = False
    residual_scale: float = 1.0
    sublayer_scale: float = 1.0
