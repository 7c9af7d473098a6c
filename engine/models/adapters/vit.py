"""ViT."""

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
    )
    attention = "layers.{layer}.attention"
    norm = "layernorm"
    norm_path = "layers.{layer}.layernorm_before"

    def causal(self, config: Any) -> bool:
        return False

    def context(self, config: Any) -> int:
        image, patch = (
            side if isinstance(side, list | tuple) else (side, side) for side in (config.image_size, config.patch_size)
        )
        return prod(pixels // size for pixels, size in zip(image, patch, strict=True)) + 1
