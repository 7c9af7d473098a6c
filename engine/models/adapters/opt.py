"""OPT."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from engine.models.adapters.base import Adapter
from engine.models.adapters.block import Norm


class OPT(Adapter):
    """Learned positions; norm before attention, except where the config puts it after (350m)."""

    family = "opt"
    prefixes = ("model.decoder.", "decoder.")
    projections = ("q_proj", "k_proj", "v_proj", "out_proj")
    norm = "layernorm"
    norm_path = "layers.{layer}.self_attn_layer_norm"

    def eps(self, config: Any) -> float:
        return 1e-5  # torch's default, which the library leaves

    def names(self, config: Any, layer: int) -> dict[str, str]:
        names = super().names(config, layer)
        if config.do_layer_norm_before and config.layer_norm_elementwise_affine:
            return names
        return {role: names[role] for role in "qkvo"}

    def attn_norm(self, config: Any, tensors: Mapping[str, Tensor]) -> Norm | None:
        return super().attn_norm(config, tensors) if config.do_layer_norm_before else None
