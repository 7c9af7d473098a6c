"""Qwen3-Next and Qwen3.5 (the text part)."""

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from engine.models.adapters.block import Heads
from engine.models.adapters.hybrid import Hybrid
from engine.models.adapters.llama import Qwen3, attention_bias
from engine.models.adapters.split import check_shape, split_linears


class Qwen3Next(Hybrid):
    """Most layers have gated linear attention; the others have softmax heads with a gate on their outputs.

    One linear holds, head by head, queries and gates. RMSNorm multiplies by 1 + w.
    """

    family = "qwen3_next"
    other = "gated linear attention"
    norm_paths = Qwen3.norm_paths
    rotary_class = "qwen3_next.modeling_qwen3_next.Qwen3NextRotaryEmbedding"
    qk_norm = "head"

    def notices(self, config: Any) -> tuple[str, ...]:
        return (
            "A sigmoid gate of the token that attends multiplies the output of every head before W_O; W_OV is the "
            "product without it.",
        )

    def biased(self, config: Any) -> Collection[str]:
        return attention_bias(config)

    def gain(self, weight: Tensor) -> Tensor:
        return 1 + weight.double()

    def heads(self, config: Any, layer: int, tensors: Mapping[str, Tensor]) -> Heads:
        (n_heads, n_kv_heads, d_head), d = self.shape(config, layer), config.hidden_size
        check_shape("q and gate", tensors["q"], (2 * n_heads * d_head, d))
        queries = {
            role: tensors[role].unflatten(0, (n_heads, 2, d_head))[:, 0].flatten(0, 1)
            for role in ("q", "q_bias")
            if role in tensors
        }
        return split_linears({**tensors, **queries}, n_heads, n_kv_heads, d_head, d)


class Qwen3_5(Qwen3Next):
    """As Qwen3-Next, dense or with experts, alone or as the text part of a multimodal model."""

    family = "qwen3_5"
    prefixes = ("model.", "model.language_model.", "language_model.model.", "language_model.")
    rotary_class = "qwen3_5.modeling_qwen3_5.Qwen3_5TextRotaryEmbedding"
