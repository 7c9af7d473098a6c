"""Attention at one token of each sample, and its Jacobian (methods eq. 6.4).

With q, k, v as they enter the scores (normed and rotated), p the token's softmax row, o = Σ p_τ v_τ and g_τ the slope
of the soft-cap (1 without one), the heads' outputs change by

    δo = s Σ_τ p_τ g_τ (v_τ − o) k_τᵀ δq + s p_t g_t (v_t − o) qᵀ δk_t + p_t δv_t,

the second and third term because the chosen token t is also a key and a value to itself. Rotation, and norms over one
head, are absorbed into these maps; norms over all heads stay factors of their own.
"""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from engine.jacobians.norms import linearise, linearise_norm, normalise
from engine.jacobians.operators import HeadBlocks, HeadOuter, HeadScale, NormJacobian, Operator, Shared, Sum, chain
from engine.jacobians.state import ResidualState
from engine.models.adapters.block import AttentionRule, Block, HeadNorm, Rotary

Context = Literal["in_context", "isolated"]

# Memory for hidden states, keys, values and weighted values of the samples that are treated at a time; on the CPU, they
# should fit into its cache.
CHUNK_BYTES = 2**27
CACHE_BYTES = 2**24


def linearise_attention(
    block: Block, rule: AttentionRule, state: ResidualState, context: Context
) -> tuple[Tensor, Operator]:
    """Output of the attention sublayer at the chosen tokens, (N, d), and its Jacobian, the norm before it included.

    In context, the other tokens' keys and values are those of `state.hidden`; isolated, the token is alone at position
    0, so that its softmax row is 1 and only W_O W_V is left.
    """
    heads, n = block.heads, len(state)
    x, norm = linearise_norm(block.attn_norm, state.chosen)
    (n_heads, d_head, d), n_kv = heads.w_q.shape, len(heads.w_k)
    w_q, w_k, w_v = (weight.reshape(-1, d).to(x) for weight in (heads.w_q, heads.w_k, heads.w_v))
    w_o = heads.w_o.transpose(0, 1).reshape(d, -1).to(x)

    value, value_norm = _project(x, w_v, heads.b_v, rule.v_norm, n_kv)
    terms: list[Operator] = []
    if context == "isolated":
        weight = x.new_ones(n, n_heads)
        out = value.repeat_interleave(n_heads // n_kv, 1)
    else:
        query, query_norm = _project(x, w_q, heads.b_q, rule.q_norm, n_heads)
        _, key_norm = _project(x, w_k, heads.b_k, rule.k_norm, n_kv)
        scale = rule.scale
        if block.rotary is not None:
            scale *= block.rotary.attention_scaling**2
            query = _rotate(query, state.positions, block.rotary)
        query = scale * query
        held = state.hidden[0].numel() * (2 + (2 * n_kv + n_heads) * d_head / d) * x.element_size()
        size = max(1, int((CHUNK_BYTES if x.is_cuda else CACHE_BYTES) / held))
        shape = (n, n_heads, d_head)
        whole = [x.new_empty(each) for each in (shape, (*shape, d_head), shape, shape[:2])]
        for start in range(0, n, size):
            at = slice(start, start + size)
            parts = _softmax_row(block, rule, scale, state[at], query[at], w_k, w_v)
            for total, part in zip(whole, parts, strict=True):
                total[at] = part
        out, by_query, by_key, weight = whole
        if block.rotary is not None:
            by_query = _rotate(by_query.flatten(1, 2), -state.positions, block.rotary).view_as(by_query)
            query = _rotate(query, -state.positions, block.rotary)
        if query_norm is not None and len(query_norm.unit) > n:
            by_query, query_norm = _absorb(query_norm, by_query), None
        if key_norm is not None and len(key_norm.unit) > n:
            query, key_norm = _absorb(key_norm, query.view(n, n_kv, -1, d_head)).reshape(query.shape), None
        terms = [
            chain(HeadBlocks(by_query), query_norm, Shared(w_q, n)),
            chain(HeadOuter(by_key, query, n_kv), key_norm, Shared(w_k, n)),
        ]
    by_value: Operator = HeadScale(weight, n_kv, d_head)
    if value_norm is not None:
        scaled = weight.view(n, n_kv, -1, 1, 1) * torch.eye(d_head, dtype=x.dtype, device=x.device)
        by_value = HeadBlocks(_absorb(value_norm, scaled.flatten(2, 3)))
    terms.append(chain(by_value, Shared(w_v, n)))
    inner = Sum(tuple(terms)) if len(terms) > 1 else terms[0]
    out = out.flatten(1) @ w_o.T
    return out if heads.b_o is None else out + heads.b_o.to(x), chain(Shared(w_o, n), inner, norm)


def _project(
    x: Tensor, weight: Tensor, bias: Tensor | None, norm: HeadNorm | None, n_heads: int
) -> tuple[Tensor, NormJacobian | None]:
    """Queries, keys or values (..., n_heads, d_h) before rotation, and the Jacobian of their norm.

    The Jacobian's samples are those of x for a norm over all heads, else those of x times the heads.
    """
    y = functional.linear(x, weight, None if bias is None else bias.flatten().to(x))
    split = y.unflatten(-1, (n_heads, -1))
    if norm is None:
        return split, None
    rows = y.flatten(0, -2) if norm.over == "all" else split.flatten(0, -2)
    if norm.over == "head" and norm.gain is not None and norm.gain.numel() > rows.shape[-1]:
        each = norm.gain.view(n_heads, -1).repeat(len(rows) // n_heads, 1)  # every row is one head of one sample
        norm = replace(norm, gain=each)
    normed, jacobian = linearise(norm, rows)
    normed = normed.view_as(split)
    return normed if norm.bias is None else normed + norm.bias.to(normed), jacobian


def _softmax_row(
    block: Block, rule: AttentionRule, scale: float, state: ResidualState, query: Tensor, w_k: Tensor, w_v: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For scaled queries (n, H, d_h): o, s Σ p g (v − o) kᵀ (n, H, d_h, d_h), p_t g_t (v_t − o), and p_t (n, H)."""
    n, tokens, _ = state.hidden.shape
    n_heads, d_head = query.shape[1:]
    n_kv = len(block.heads.w_k)
    x = normalise(block.attn_norm, state.hidden)
    key, _ = _project(x, w_k, block.heads.b_k, rule.k_norm, n_kv)
    value, _ = _project(x, w_v, block.heads.b_v, rule.v_norm, n_kv)
    del x
    order = torch.arange(tokens, device=key.device)
    if block.rotary is not None:
        key = _rotate(key, order, block.rotary)
    key, value = key.transpose(1, 2), value.transpose(1, 2)  # (n, H_kv, T, d_h)
    score = query.view(n, n_kv, -1, d_head) @ key.mT  # (n, H_kv, H/H_kv, T)

    slope = None
    if rule.slopes is not None:
        ahead = order - state.positions[:, None]
        score = score + rule.slopes.to(score).view(n_kv, -1, 1) * ahead[:, None, None]
    if rule.softcap is not None:
        capped = torch.tanh(score / rule.softcap)
        score, slope = rule.softcap * capped, 1 - capped.square()
    row = _visible(rule, state, order)[:, None, None]
    weight = score.masked_fill(~row, -torch.inf).softmax(-1)
    out = weight @ value
    slopes = weight if slope is None else weight * slope
    # Values are centred first: what all of them share would otherwise be left as rounding.
    centred = (value[:, :, None] - out[:, :, :, None]).mul_(slopes[..., None])  # (n, H_kv, H/H_kv, T, d_h)
    by_query = centred.transpose(2, 3).flatten(3).mT @ (scale * key)  # (n, H_kv, H/H_kv · d_h, d_h)
    at = state.positions.view(n, 1, 1, 1)
    by_key = centred.gather(3, at[..., None].expand(*centred.shape[:3], 1, d_head))
    return (
        out.flatten(1, 2),
        by_query.reshape(n, n_heads, d_head, d_head),
        by_key.reshape(n, n_heads, d_head),
        weight.gather(3, at.expand(*weight.shape[:3], 1)).reshape(n, n_heads),
    )


def _visible(rule: AttentionRule, state: ResidualState, order: Tensor) -> Tensor:
    """Which keys the chosen tokens see, (n, T)."""
    at = state.positions[:, None]
    seen = order < state.lengths[:, None]
    if rule.causal:
        seen = seen & (order <= at)
    if rule.window is not None:
        seen = seen & ((order - at).abs() < rule.window)
    return seen


def _rotate(x: Tensor, positions: Tensor, rotary: Rotary) -> Tensor:
    """R_position x for x (..., heads, d_h); `positions` are those of the dimensions before the heads."""
    angle = (positions[..., None, None] * rotary.inv_freq.to(x.device)).expand(*positions.shape, 1, -1)
    cos, sin = angle.cos().to(x), angle.sin().to(x)
    half = cos.shape[-1]
    first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return torch.cat((cos * first - sin * second, sin * first + cos * second, rest), -1)


def _absorb(norm: NormJacobian, rows: Tensor) -> Tensor:
    """Rows (N, heads, m, d_h) times the Jacobian of the norm of each sample's head."""
    return norm.rmatmul(rows.flatten(0, 1).mT).mT.reshape(rows.shape)
