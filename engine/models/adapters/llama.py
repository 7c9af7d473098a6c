"""Llama and the families that share its block: Mistral, Qwen2, Qwen3."""

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from engine.models.adapters.base import Adapter
from engine.models.adapters.block import NormKind


class Llama(Adapter):
    """RMSNorm before attention, grouped key/value heads, rotary positions, a gated MLP; d_h may differ from d/H."""

    family = "llama"
    prefixes: ClassVar[tuple[str, ...]] = ("model.",)
    linears: ClassVar[Mapping[str, str]] = {
        "q": "self_attn.q_proj",
        "k": "self_attn.k_proj",
        "v": "self_attn.v_proj",
        "o": "self_attn.o_proj",
        "in": "mlp.up_proj",
        "gate": "mlp.gate_proj",
        "out": "mlp.down_proj",
    }
    norm: ClassVar[NormKind] = "rmsnorm"
    norm_paths: ClassVar[Mapping[str, str]] = {"attn_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
    final_norm = "norm"
    rotary_class: ClassVar[str | None] = "llama.modeling_llama.LlamaRotaryEmbedding"

    def d_head(self, config: Any) -> int:
        return getattr(config, "head_dim", None) or super().d_head(config)

    def biased(self, config: Any) -> Collection[str]:
        return ("q", "k", "v", "o") * config.attention_bias + ("in", "gate", "out") * config.mlp_bias


class Mistral(Llama):
    """As Llama, with a sliding window and no biases."""

    family = "mistral"
    rotary_class = "mistral.modeling_mistral.MistralRotaryEmbedding"

    def biased(self, config: Any) -> Collection[str]:
        return ()

    def window(self, config: Any, layer: int) -> int | None:
        return config.sliding_window


class Qwen2(Llama):
    """As Llama, with biases on q, k, v and, in some layers, a sliding window."""

    family = "qwen2"
    rotary_class = "qwen2.modeling_qwen2.Qwen2RotaryEmbedding"

    def biased(self, config: Any) -> Collection[str]:
        return ("q", "k", "v")

    def window(self, config: Any, layer: int) -> int | None:
        return sliding(config, layer)


class Qwen3(Qwen2):
    """As Qwen2, with an RMSNorm on each query and key."""

    family = "qwen3"
    norm_paths = {**Llama.norm_paths, "q_norm": "self_attn.q_norm", "k_norm": "self_attn.k_norm"}
    rotary_class = "qwen3.modeling_qwen3.Qwen3RotaryEmbedding"
    qk_norm = "head"

    def biased(self, config: Any) -> Collection[str]:
        return attention_bias(config)


def attention_bias(config: Any) -> Collection[str]:
    """The biases of a block whose MLP never has any."""
    return ("q", "k", "v", "o") if config.attention_bias else ()


def sliding(config: Any, layer: int) -> int | None:
    """The window of a layer in a model that mixes sliding and full attention."""
    return config.sliding_window if config.layer_types[layer] == "sliding_attention" else None
