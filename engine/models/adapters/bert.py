"""BERT and RoBERTa."""

from typing import Any

from engine.models.adapters.base import Adapter


class Bert(Adapter):
    """Bidirectional; learned positions; the norm stands after the residual sum."""

    family = "bert"
    prefixes = ("bert.",)
    renames = (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta"))
    attention = "encoder.layer.{layer}.attention"
    projections = ("self.query", "self.key", "self.value", "output.dense")
    norm = "layernorm"
    norm_path = None

    def causal(self, config: Any) -> bool:
        return config.is_decoder


class Roberta(Bert):
    """As BERT; its position ids start after the padding id."""

    family = "roberta"
    prefixes = ("roberta.",)

    def context(self, config: Any) -> int:
        return config.max_position_embeddings - config.pad_token_id - 1
