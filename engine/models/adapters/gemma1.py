"""Gemma 1."""

from collections.abc import Collection
from typing import Any

from torch import Tensor

from engine.models.adapters.llama import Llama, attention_bias


class Gemma(Llama):
    """As Llama; RMSNorm stores w and multiplies by 1 + w, which the library adds in fp32 whatever the dtype of w."""

    family = "gemma"
    rotary_class = "gemma.modeling_gemma.GemmaRotaryEmbedding"

    def causal(self, config: Any) -> bool:
        return not getattr(config, "use_bidirectional_attention", False)

    def biased(self, config: Any) -> Collection[str]:
        return attention_bias(config)

    def gain(self, weight: Tensor) -> Tensor:
        return 1 + weight.double()
