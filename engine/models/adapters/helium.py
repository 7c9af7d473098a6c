"""Llama's block with rotary positions that turn neighbours: Helium and ERNIE 4.5."""

from collections.abc import Collection
from typing import Any

from engine.models.adapters.llama import Llama


class Helium(Llama):
    """No biases on the output projection, whatever the config says of attention."""

    family = "helium"
    rotary_class = "helium.modeling_helium.HeliumRotaryEmbedding"
    interleaved = True

    def biased(self, config: Any) -> Collection[str]:
        return ("q", "k", "v") * config.attention_bias + ("in", "gate", "out") * config.mlp_bias


class Ernie(Llama):
    """Biases everywhere or nowhere."""

    family = "ernie4_5"
    rotary_class = "ernie4_5.modeling_ernie4_5.Ernie4_5RotaryEmbedding"
    interleaved = True

    def biased(self, config: Any) -> Collection[str]:
        return self.linears if config.use_bias else ()
