"""GPT-Neo."""

from collections.abc import Collection
from typing import Any

from engine.models.adapters.base import Adapter


class GPTNeo(Adapter):
    """Learned positions; scores are not scaled; every other layer sees a window of tokens only."""

    family = "gpt_neo"
    prefixes = ("transformer.",)
    layer_path = "h.{layer}"
    linears = {
        "q": "attn.attention.q_proj",
        "k": "attn.attention.k_proj",
        "v": "attn.attention.v_proj",
        "o": "attn.attention.out_proj",
        "in": "mlp.c_fc",
        "out": "mlp.c_proj",
    }
    norm = "layernorm"
    norm_paths = {"attn_norm": "ln_1", "mlp_norm": "ln_2"}
    final_norm = "ln_f"

    def biased(self, config: Any) -> Collection[str]:
        return ("o", "in", "out")

    def eps(self, config: Any) -> float:
        return config.layer_norm_epsilon

    def activation(self, config: Any) -> str:
        return config.activation_function

    def scale(self, config: Any, layer: int) -> float:
        return 1.0

    def window(self, config: Any, layer: int) -> int | None:
        return config.window_size if config.attention_layers[layer] == "local" else None
