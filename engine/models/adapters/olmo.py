"""OLMo 1, 2 and 3."""

from typing import Any

from engine.models.adapters.llama import Llama


class Olmo(Llama):
    """LayerNorm with nothing learned; queries, keys and values may be clipped."""

    family = "olmo"
    norm = "layernorm"
    rotary_class = "olmo.modeling_olmo.OlmoRotaryEmbedding"

    def eps(self, config: Any) -> float:
        return 1e-5  # fixed in the library; the config has no field for it

    def names(self, config: Any, layer: int) -> dict[str, str]:
        names = super().names(config, layer)
        return {role: names[role] for role in "qkvo"}

    def notices(self, config: Any) -> tuple[str, ...]:
        if config.clip_qkv is None:
            return ()
        return (f"Queries, keys and values are clipped at ±{config.clip_qkv:g}; the matrices show them before that.",)


class Olmo2(Llama):
    """Norms stand after attention and after the MLP; RMSNorm over all queries together and all keys together."""

    family = "olmo2"
    norm_path = None
    rotary_class = "olmo2.modeling_olmo2.Olmo2RotaryEmbedding"
    qk_norm = True


class Olmo3(Olmo2):
    """As OLMo 2, with sliding-window layers that have a rotary table of their own."""

    family = "olmo3"
    rotary_class = "olmo3.modeling_olmo3.Olmo3RotaryEmbedding"
