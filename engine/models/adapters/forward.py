"""What a `Block` says that its layer computes, on one text in fp64: for checking an adapter against the library."""

import torch
from torch import Tensor
from torch.nn import functional
from transformers.activations import ACT2FN

from engine.models.adapters.block import Block, HeadNorm, Mlp, Norm, Rotary


def attention_output(block: Block, x: Tensor) -> Tensor:
    """What attention makes of x (T, d): the output projection's, (T, d), the norm before it included."""
    heads, rule = block.heads, block.attention
    assert rule is not None
    x = _normed(block.attn_norm, x)
    q = _rotated(block.rotary, _projected(heads.w_q, heads.b_q, rule.q_norm, x))
    k = _rotated(block.rotary, _projected(heads.w_k, heads.b_k, rule.k_norm, x))
    v = _projected(heads.w_v, heads.b_v, rule.v_norm, x)
    k, v = (part.repeat_interleave(len(q) // len(part), 0) for part in (k, v))
    order = torch.arange(len(x))
    ahead = order - order[:, None]
    scores = rule.scale * q @ k.mT
    if rule.slopes is not None:
        scores = scores + rule.slopes[:, None, None] * ahead
    if rule.softcap is not None:
        scores = rule.softcap * torch.tanh(scores / rule.softcap)
    unseen = (ahead > 0) & rule.causal
    if rule.window is not None:
        unseen = unseen | (ahead.abs() >= rule.window)
    weights = scores.masked_fill(unseen, -torch.inf).softmax(-1)
    out = torch.einsum("hij,hje,hde->id", weights, v, heads.w_o)
    return out if heads.b_o is None else out + heads.b_o


def block_output(block: Block, x: Tensor) -> Tensor:
    """What the whole block makes of x (T, d)."""
    assert block.mlp is not None
    after = after_attention(block, x)
    m = _mlp(block.mlp, _normed(block.mlp_norm, x if block.parallel else after))
    m = block.sublayer_scale * _normed(block.mlp_post, m)
    return block.residual_scale * _normed(block.mlp_sum, after + m)


def after_attention(block: Block, x: Tensor) -> Tensor:
    """The residual stream after attention has been added to x (T, d)."""
    added = block.sublayer_scale * _normed(block.attn_post, attention_output(block, x))
    return _normed(block.attn_sum, x + added)


def _normed(norm: Norm | None, x: Tensor) -> Tensor:
    if norm is None:
        return x
    y = _standardised(norm, x)
    y = y if norm.gain is None else y * norm.gain
    return y if norm.bias is None else y + norm.bias


def _standardised(norm: Norm | HeadNorm, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True) if norm.kind == "layernorm" else x
    return centred * (centred.square().mean(-1, keepdim=True) + norm.eps).rsqrt()


def _projected(weight: Tensor, bias: Tensor | None, norm: HeadNorm | None, x: Tensor) -> Tensor:
    """Queries, keys or values (heads, T, d_h) before rotation."""
    y = torch.einsum("hed,td->the", weight, x)
    y = y if bias is None else y + bias
    if norm is not None:
        unit = _standardised(norm, y) if norm.over == "head" else _standardised(norm, y.flatten(1)).view_as(y)
        y = unit if norm.gain is None else unit * norm.gain.view(-1, y.shape[-1])
        y = y if norm.bias is None else y + norm.bias
    return y.transpose(0, 1)


def _rotated(rotary: Rotary | None, y: Tensor) -> Tensor:
    if rotary is None:
        return y
    half = len(rotary.inv_freq)
    angle = torch.arange(y.shape[1])[:, None] * rotary.inv_freq
    first, second, rest = y[..., :half], y[..., half : 2 * half], y[..., 2 * half :]
    turned = (first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin(), rest)
    return torch.cat(turned, -1) * rotary.attention_scaling


def _mlp(mlp: Mlp, x: Tensor) -> Tensor:
    act, inside = ACT2FN[mlp.activation], functional.linear(x, mlp.w_in, mlp.b_in)
    gated = act(inside) if mlp.w_gate is None else act(functional.linear(x, mlp.w_gate, mlp.b_gate)) * inside
    return functional.linear(gated, mlp.w_out, mlp.b_out)
