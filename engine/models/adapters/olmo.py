"""OLMo 1, 2 and 3."""

from collections.abc import Collection
from typing import Any

from engine.models.adapters.llama import Llama, attention_bias, sliding


class Olmo(Llama):
    """LayerNorm with nothing learned; queries, keys and values may be clipped."""

    family = "olmo"
    norm = "layernorm"
    rotary_class = "olmo.modeling_olmo.OlmoRotaryEmbedding"

    def biased(self, config: Any) -> Collection[str]:
        return attention_bias(config)

    def eps(self, config: Any) -> float:
        return 1e-5  # fixed in the library; the config has no field for it

    def learned(self, config: Any) -> bool:
        return False

    def notices(self, config: Any) -> tuple[str, ...]:
        if config.clip_qkv is None:
            return ()
        return (f"Queries, keys and values are clipped at ±{config.clip_qkv:g}; the matrices show them before that.",)

    def closed_form_refusal(self, config: Any) -> str | None:
        if config.clip_qkv is not None:
            return f"Its queries, keys and values are clipped at ±{config.clip_qkv:g}."
        return super().closed_form_refusal(config)


class Olmo2(Llama):
    """Norms stand after attention and after the MLP; RMSNorm over all queries together and all keys together."""

    family = "olmo2"
    norm_paths = {
        "attn_post": "post_attention_layernorm",
        "mlp_post": "post_feedforward_layernorm",
        "q_norm": "self_attn.q_norm",
        "k_norm": "self_attn.k_norm",
    }
    rotary_class = "olmo2.modeling_olmo2.Olmo2RotaryEmbedding"
    qk_norm = "all"

    def biased(self, config: Any) -> Collection[str]:
        return attention_bias(config)


class Olmo3(Olmo2):
    """As OLMo 2, with sliding-window layers that have a rotary table of their own."""

    family = "olmo3"
    rotary_class = "olmo3.modeling_olmo3.Olmo3RotaryEmbedding"

    def window(self, config: Any, layer: int) -> int | None:
        return sliding(config, layer)
