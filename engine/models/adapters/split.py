"""Split projections as checkpoints store them into heads."""

from collections.abc import Mapping

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


def check_shape(role: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    """Refuse a tensor whose shape is not the config's: a reshape would scramble its heads without a sound."""
    if tuple(tensor.shape) != shape:
        raise UserError(
            f"The checkpoint's {role} projection has shape {tuple(tensor.shape)}, but its config implies {shape}; "
            "config.json and the weights do not belong together."
        )
