"""StarCoder2."""

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from engine.models.adapters.llama import Llama


class Starcoder2(Llama):
    """As Llama, with LayerNorm, an MLP without a gate, biases everywhere, and a sliding window."""

    family = "starcoder2"
    linears: ClassVar[Mapping[str, str]] = {
        **{role: path for role, path in Llama.linears.items() if role in "qkvo"},
        "in": "mlp.c_fc",
        "out": "mlp.c_proj",
    }
    norm = "layernorm"
    rotary_class = "starcoder2.modeling_starcoder2.Starcoder2RotaryEmbedding"

    def biased(self, config: Any) -> Collection[str]:
        return self.linears if config.use_bias else ()

    def eps(self, config: Any) -> float:
        return config.norm_epsilon

    def window(self, config: Any, layer: int) -> int | None:
        return config.sliding_window
