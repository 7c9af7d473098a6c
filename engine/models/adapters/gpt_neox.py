"""GPT-NeoX (Pythia)."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from engine.models.adapters.base import Adapter, check_shape, split_linears
from engine.models.adapters.block import Heads


class GPTNeoX(Adapter):
    """Partial rotary; one fused projection whose rows run head by head: q, k, v of head 0, then of head 1, …"""

    family = "gpt_neox"
    prefixes = ("gpt_neox.",)
    norm = "layernorm"
    rotary_class = "gpt_neox.modeling_gpt_neox.GPTNeoXRotaryEmbedding"

    def names(self, config: Any, layer: int) -> dict[str, str]:
        return {
            "qkv": f"layers.{layer}.attention.query_key_value.weight",
            "o": f"layers.{layer}.attention.dense.weight",
            "gain": f"layers.{layer}.input_layernorm.weight",
            "bias": f"layers.{layer}.input_layernorm.bias",
        }

    def heads(self, config: Any, layer: int, tensors: Mapping[str, Tensor]) -> Heads:
        (n_heads, _, d_head), d = self.shape(config, layer), config.hidden_size
        check_shape("q, k, v", tensors["qkv"], (3 * d, d))
        q, k, v = (part.reshape(d, d) for part in tensors["qkv"].reshape(n_heads, 3, d_head, d).unbind(1))
        return split_linears({"q": q, "k": k, "v": v, "o": tensors["o"]}, n_heads, n_heads, d_head, d)
