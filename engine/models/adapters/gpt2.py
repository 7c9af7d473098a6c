"""GPT-2."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from engine.models.adapters.base import Adapter, check_shape, split_linears
from engine.models.adapters.block import Heads


class GPT2(Adapter):
    """Learned positions; one fused q, k, v projection; every projection stored transposed (``Conv1D``: y = x W + b)."""

    family = "gpt2"
    prefixes = ("transformer.",)
    norm = "layernorm"

    def eps(self, config: Any) -> float:
        return config.layer_norm_epsilon

    def names(self, config: Any, layer: int) -> dict[str, str]:
        return {
            "qkv": f"h.{layer}.attn.c_attn.weight",
            "o": f"h.{layer}.attn.c_proj.weight",
            "gain": f"h.{layer}.ln_1.weight",
            "bias": f"h.{layer}.ln_1.bias",
        }

    def heads(self, config: Any, layer: int, tensors: Mapping[str, Tensor]) -> Heads:
        (n_heads, _, d_head), d = self.shape(config, layer), config.hidden_size
        check_shape("q, k, v", tensors["qkv"], (d, 3 * d))
        q, k, v = tensors["qkv"].T.chunk(3)
        return split_linears({"q": q, "k": k, "v": v, "o": tensors["o"].T}, n_heads, n_heads, d_head, d)
