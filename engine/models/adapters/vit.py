"""ViT."""

from collections.abc import Collection
from math import prod
from typing import Any

from engine.models.adapters.base import Adapter


class ViT(Adapter):
    """Bidirectional over image patches and one class token; no vocabulary."""

    family = "vit"
    prefixes = ("vit.",)
    renames = (
        ("layers.", "encoder.layer."),
        ("attention.q_proj", "attention.attention.query"),
        ("attention.k_proj", "attention.attention.key"),
        ("attention.v_proj", "attention.attention.value"),
        ("attention.o_proj", "attention.output.dense"),
        ("mlp.fc1", "intermediate.dense"),
        ("mlp.fc2", "output.dense"),
    )
    linears = {
        "q": "attention.q_proj",
        "k": "attention.k_proj",
        "v": "attention.v_proj",
        "o": "attention.o_proj",
        "in": "mlp.fc1",
        "out": "mlp.fc2",
    }
    norm = "layernorm"
    norm_paths = {"attn_norm": "layernorm_before", "mlp_norm": "layernorm_after"}
    final_norm = "layernorm"

    def biased(self, config: Any) -> Collection[str]:
        return self.linears if config.qkv_bias else ("o", "in", "out")

    def causal(self, config: Any) -> bool:
        return False

    def context(self, config: Any) -> int:
        image, patch = (
            side if isinstance(side, list | tuple) else (side, side) for side in (config.image_size, config.patch_size)
        )
        return prod(pixels // size for pixels, size in zip(image, patch, strict=True)) + 1
