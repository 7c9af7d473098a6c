"""What a case of the battery is, and the small configs that cases are made of."""

from dataclasses import dataclass
from typing import Any

import transformers as hf

SMALL = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 50,
    "max_position_embeddings": 64,
}
GQA = SMALL | {"num_attention_heads": 6, "num_key_value_heads": 2, "intermediate_size": 32, "pad_token_id": 0}
THETA = {"rope_theta": 100.0}
PIXELS: dict[str, Any] = {"image_size": [8, 12], "patch_size": 4}


@dataclass(frozen=True)
class Case:
    """A config, and where the library's module keeps things: written down here apart from the adapters."""

    config: hf.PreTrainedConfig
    layers: str = "layers"
    attention: str = "self_attn"
    biases: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    scales_query: bool = False
    layout: str = "pre"  # where norms stand, as test_sites draws it
    mlp: str = "plain"  # or gated, or fused: gate and input in one linear


def rope(kind: str, **more: Any) -> dict[str, Any]:
    return dict(rope_type=kind, factor=4.0, **THETA, **more)


SLIDING = ["sliding_attention", "full_attention"]
