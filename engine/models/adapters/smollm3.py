"""Families in which some layers have no rotary positions: SmolLM3 and EXAONE 4."""

from typing import Any

from engine.models.adapters.block import Rotary
from engine.models.adapters.llama import Llama, sliding


def without_positions(layers: list[int]) -> tuple[str, ...]:
    """What to say about layers whose queries and keys are not rotated."""
    if not layers:
        return ()
    listed = ", ".join(map(str, layers[:3])) + (" …" if len(layers) > 3 else "")
    return (f"{len(layers)} layers ({listed}) have no rotary positions: their W_QK is the same at every distance.",)


class SmolLM3(Llama):
    """As Llama; every fourth layer has no rotary positions, and some may have a sliding window."""

    family = "smollm3"
    rotary_class = "smollm3.modeling_smollm3.SmolLM3RotaryEmbedding"

    def window(self, config: Any, layer: int) -> int | None:
        return sliding(config, layer) if config.use_sliding_window else None

    def rotary(self, config: Any, layer: int) -> Rotary | None:
        return super().rotary(config, layer) if config.no_rope_layers[layer] else None

    def notices(self, config: Any) -> tuple[str, ...]:
        return without_positions([layer for layer, rotated in enumerate(config.no_rope_layers) if not rotated])


class Exaone4(Llama):
    """Norms after each sublayer and on queries and keys; hybrid models have rotary positions only in sliding layers."""

    family = "exaone4"
    norm_paths = {
        "attn_post": "post_attention_layernorm",
        "mlp_post": "post_feedforward_layernorm",
        "q_norm": "self_attn.q_norm",
        "k_norm": "self_attn.k_norm",
    }
    rotary_class = "exaone4.modeling_exaone4.Exaone4RotaryEmbedding"
    qk_norm = "head"

    def biased(self, config: Any) -> tuple[str, ...]:
        return ()

    def window(self, config: Any, layer: int) -> int | None:
        return sliding(config, layer)

    def rotary(self, config: Any, layer: int) -> Rotary | None:
        rotated = config.sliding_window is None or sliding(config, layer) is not None
        return super().rotary(config, layer) if rotated else None

    def notices(self, config: Any) -> tuple[str, ...]:
        layers = range(config.num_hidden_layers) if config.sliding_window is not None else ()
        return without_positions([layer for layer in layers if sliding(config, layer) is None])
