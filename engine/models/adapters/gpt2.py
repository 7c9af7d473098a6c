"""GPT-2."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from engine.models.adapters.base import Adapter
from engine.models.adapters.block import Heads, Mlp
from engine.models.adapters.split import split_stacked


class GPT2(Adapter):
    """Learned positions; one fused q, k, v projection; every projection stored transposed (``Conv1D``: y = x W + b)."""

    family = "gpt2"
    prefixes = ("transformer.",)
    layer_path = "h.{layer}"
    linears = {"qkv": "attn.c_attn", "o": "attn.c_proj", "in": "mlp.c_fc", "out": "mlp.c_proj"}
    norm = "layernorm"
    norm_paths = {"attn_norm": "ln_1", "mlp_norm": "ln_2"}
    final_norm = "ln_f"

    def eps(self, config: Any) -> float:
        return config.layer_norm_epsilon

    def activation(self, config: Any) -> str:
        return config.activation_function

    def scale(self, config: Any, layer: int) -> float:
        scale = super().scale(config, layer) if config.scale_attn_weights else 1.0
        return scale / (layer + 1) if config.scale_attn_by_inverse_layer_idx else scale

    def heads(self, config: Any, layer: int, tensors: Mapping[str, Tensor]) -> Heads:
        turned = {**tensors, "qkv": tensors["qkv"].T, "o": tensors["o"].T}
        return split_stacked(turned, *self.shape(config, layer), config.hidden_size)

    def mlp(self, config: Any, tensors: Mapping[str, Tensor]) -> Mlp:
        return super().mlp(config, {**tensors, "in": tensors["in"].T, "out": tensors["out"].T})
