"""OPT."""

from collections.abc import Collection, Mapping
from typing import Any

from engine.models.adapters.base import Adapter


class OPT(Adapter):
    """Learned positions; norms before attention and MLP, or after their sums where the config says so (350m)."""

    family = "opt"
    prefixes = ("model.decoder.", "decoder.")
    linears = {
        "q": "self_attn.q_proj",
        "k": "self_attn.k_proj",
        "v": "self_attn.v_proj",
        "o": "self_attn.out_proj",
        "in": "fc1",
        "out": "fc2",
    }
    norm = "layernorm"
    final_norm = "final_layer_norm"

    def eps(self, config: Any) -> float:
        return 1e-5  # torch's default, which the library leaves

    def activation(self, config: Any) -> str:
        return config.activation_function

    def biased(self, config: Any) -> Collection[str]:
        return self.linears if config.enable_bias else ()

    def norms(self, config: Any) -> Mapping[str, str]:
        place = "norm" if config.do_layer_norm_before else "sum"
        return {f"attn_{place}": "self_attn_layer_norm", f"mlp_{place}": "final_layer_norm"}

    def learned(self, config: Any) -> bool:
        return config.layer_norm_elementwise_affine
