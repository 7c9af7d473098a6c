"""Llama and the families that share its block: Mistral, Qwen2, Qwen3."""

from typing import Any, ClassVar

from engine.models.adapters.base import Adapter
from engine.models.adapters.block import NormKind


class Llama(Adapter):
    """RMSNorm before attention, grouped key/value heads, rotary positions; d_h may differ from d/H."""

    family = "llama"
    prefixes: ClassVar[tuple[str, ...]] = ("model.",)
    norm: ClassVar[NormKind] = "rmsnorm"
    rotary_class = "llama.modeling_llama.LlamaRotaryEmbedding"

    def d_head(self, config: Any) -> int:
        return getattr(config, "head_dim", None) or super().d_head(config)


class Mistral(Llama):
    """As Llama, with a sliding window."""

    family = "mistral"
    rotary_class = "mistral.modeling_mistral.MistralRotaryEmbedding"


class Qwen2(Llama):
    """As Llama, with biases on q, k, v."""

    family = "qwen2"
    rotary_class = "qwen2.modeling_qwen2.Qwen2RotaryEmbedding"


class Qwen3(Llama):
    """As Llama, with an RMSNorm on each query and key."""

    family = "qwen3"
    rotary_class = "qwen3.modeling_qwen3.Qwen3RotaryEmbedding"
    qk_norm = True
