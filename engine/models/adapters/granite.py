"""Granite."""

from typing import Any

from engine.models.adapters.llama import Llama


class Granite(Llama):
    """As Llama; the config gives what scores are multiplied by, and what each sublayer's output is."""

    family = "granite"
    rotary_class = "granite.modeling_granite.GraniteRotaryEmbedding"

    def scale(self, config: Any, layer: int) -> float:
        return config.attention_multiplier

    def sublayer_scale(self, config: Any) -> float:
        return config.residual_multiplier

    def notices(self, config: Any) -> tuple[str, ...]:
        if (scale := self.sublayer_scale(config)) == 1:
            return ()
        return (f"Each sublayer's output is multiplied by {scale:g} before the sum; W_OV is the product without that.",)
