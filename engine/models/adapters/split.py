"""Split projections as checkpoints store them into heads."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from engine.errors import UserError
from engine.models.adapters.block import Heads


def split_linears(tensors: Mapping[str, Tensor], n_heads: int, n_kv_heads: int, d_head: int, d: int) -> Heads:
    """Split ``nn.Linear`` weights q, k, v (heads·d_h, d) and o (d, H·d_h), all stored as W of y = W x, into heads.

    Biases, where there are, are under the same names with ``_bias``.
    """
    expected = {
        "q": (n_heads * d_head, d),
        "k": (n_kv_heads * d_head, d),
        "v": (n_kv_heads * d_head, d),
        "o": (d, n_heads * d_head),
    }
    for role, shape in expected.items():
        check_shape(role, tensors[role], shape)

    def bias(role: str) -> Tensor | None:
        return tensors[role].reshape(-1, d_head) if role in tensors else None

    return Heads(
        w_q=tensors["q"].reshape(n_heads, d_head, d),
        w_k=tensors["k"].reshape(n_kv_heads, d_head, d),
        w_v=tensors["v"].reshape(n_kv_heads, d_head, d),
        w_o=tensors["o"].reshape(d, n_heads, d_head).transpose(0, 1),
        b_q=bias("q_bias"),
        b_k=bias("k_bias"),
        b_v=bias("v_bias"),
        b_o=tensors.get("o_bias"),
    )


def split_stacked(tensors: Mapping[str, Tensor], n_heads: int, n_kv_heads: int, d_head: int, d: int) -> Heads:
    """Split one linear ``qkv`` whose rows are those of all queries, then of all keys, then of all values."""
    rows = [heads * d_head for heads in (n_heads, n_kv_heads, n_kv_heads)]
    check_shape("q, k, v", tensors["qkv"], (sum(rows), d))
    parts = dict(tensors)
    for suffix in ("", "_bias"):
        if (fused := parts.pop(f"qkv{suffix}", None)) is not None:
            parts |= {f"{role}{suffix}": part for role, part in zip("qkv", fused.split(rows), strict=True)}
    return split_linears(parts, n_heads, n_kv_heads, d_head, d)


def split_grouped(tensors: Mapping[str, Tensor], n_heads: int, n_kv_heads: int, d_head: int, d: int) -> Heads:
    """Split one linear ``qkv`` whose rows run by key/value head: the queries that read it, its key, its value."""
    check_shape("q, k, v", tensors["qkv"], ((n_heads + 2 * n_kv_heads) * d_head, d))
    parts = dict(tensors)
    for suffix in ("", "_bias"):
        if (fused := parts.pop(f"qkv{suffix}", None)) is not None:
            groups = fused.unflatten(0, (n_kv_heads, -1, d_head)).split([n_heads // n_kv_heads, 1, 1], 1)
            parts |= {f"{role}{suffix}": part.flatten(0, 2) for role, part in zip("qkv", groups, strict=True)}
    return split_linears(parts, n_heads, n_kv_heads, d_head, d)


def check_shape(role: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    """Refuse a tensor whose shape is not the config's: a reshape would scramble its heads without a sound."""
    if tuple(tensor.shape) != shape:
        raise UserError(
            f"The checkpoint's {role} projection has shape {tuple(tensor.shape)}, but its config implies {shape}; "
            "config.json and the weights do not belong together."
        )


def halve_pairs(heads: Heads, turned: int) -> Heads:
    """Reorder the `turned` leading rows of every W_Q and W_K from pairs (2i, 2i + 1) to pairs (i, i + turned/2).

    Queries and keys are reordered alike, so that no score changes.
    """
    d_head = heads.w_q.shape[1]
    order = torch.cat((torch.arange(0, turned, 2), torch.arange(1, turned, 2), torch.arange(turned, d_head)))

    def reordered(rows: Tensor) -> Tensor:
        return rows[:, order.to(rows.device)]

    return replace(
        heads,
        w_q=reordered(heads.w_q),
        w_k=reordered(heads.w_k),
        b_q=None if heads.b_q is None else reordered(heads.b_q),
        b_k=None if heads.b_k is None else reordered(heads.b_k),
    )
