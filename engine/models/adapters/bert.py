"""BERT and RoBERTa."""

from typing import Any

from engine.models.adapters.base import Adapter


class Bert(Adapter):
    """Bidirectional; learned positions; the norms stand after the residual sums."""

    family = "bert"
    prefixes = ("bert.",)
    renames = (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta"))
    layer_path = "encoder.layer.{layer}"
    linears = {
        "q": "attention.self.query",
        "k": "attention.self.key",
        "v": "attention.self.value",
        "o": "attention.output.dense",
        "in": "intermediate.dense",
        "out": "output.dense",
    }
    norm = "layernorm"
    norm_paths = {"attn_sum": "attention.output.LayerNorm", "mlp_sum": "output.LayerNorm"}

    def causal(self, config: Any) -> bool:
        return config.is_decoder


class Roberta(Bert):
    """As BERT; its position ids start after the padding id."""

    family = "roberta"
    prefixes = ("roberta.",)

    def context(self, config: Any) -> int:
        return config.max_position_embeddings - config.pad_token_id - 1
