"""Encoders that differ from BERT in names and in where their norms stand."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from engine.errors import UserError
from engine.models.adapters.base import Adapter
from engine.models.adapters.bert import Bert, Roberta
from engine.models.adapters.block import Heads
from engine.models.adapters.split import split_grouped


class XlmRoberta(Roberta):
    """RoBERTa on another vocabulary."""

    family = "xlm-roberta"


class Electra(Bert):
    """BERT's block behind an embedding that may be narrower; discriminators and generators alike."""

    family = "electra"
    prefixes = ("electra.",)


class MegatronBert(Bert):
    """Norms before attention and MLP, as in GPT-2."""

    family = "megatron-bert"
    norm_paths = {"attn_norm": "attention.ln", "mlp_norm": "ln"}
    final_norm = "ln"


class RobertaPreLayerNorm(Roberta):
    """RoBERTa with norms before attention and MLP."""

    family = "roberta-prelayernorm"
    prefixes = ("roberta_prelayernorm.",)
    norm_paths = {"attn_norm": "attention.LayerNorm", "mlp_norm": "intermediate.LayerNorm"}


class XlmRobertaXl(Roberta):
    """RoBERTa with norms before attention and MLP, under other names."""

    family = "xlm-roberta-xl"
    norm_paths = {"attn_norm": "attention.self_attn_layer_norm", "mlp_norm": "LayerNorm"}
    final_norm = "LayerNorm"


class DistilBert(Adapter):
    """BERT's block under other names."""

    family = "distilbert"
    prefixes = ("distilbert.",)
    layer_path = "transformer.layer.{layer}"
    linears = {
        "q": "attention.q_lin",
        "k": "attention.k_lin",
        "v": "attention.v_lin",
        "o": "attention.out_lin",
        "in": "ffn.lin1",
        "out": "ffn.lin2",
    }
    norm = "layernorm"
    norm_paths = {"attn_sum": "sa_layer_norm", "mlp_sum": "output_layer_norm"}

    def causal(self, config: Any) -> bool:
        return False

    def eps(self, config: Any) -> float:
        return 1e-12  # fixed in the library

    def activation(self, config: Any) -> str:
        return config.activation


class Albert(Bert):
    """BERT's block, one for all layers of a group."""

    family = "albert"
    prefixes = ("albert.",)
    layer_path = "encoder.albert_layer_groups.{layer}"
    linears = {
        "q": "albert_layers.0.attention.query",
        "k": "albert_layers.0.attention.key",
        "v": "albert_layers.0.attention.value",
        "o": "albert_layers.0.attention.dense",
        "in": "albert_layers.0.ffn",
        "out": "albert_layers.0.ffn_output",
    }
    norm_paths = {
        "attn_sum": "albert_layers.0.attention.LayerNorm",
        "mlp_sum": "albert_layers.0.full_layer_layer_norm",
    }

    def facts(self, config: Any) -> dict[str, Any]:
        if config.inner_group_num > 1:
            raise UserError(
                f"Each layer of this ALBERT is {config.inner_group_num} blocks in a row, so its layers are no blocks. "
                "Choose one with an inner_group_num of 1, as all released models have."
            )
        return super().facts(config)

    def causal(self, config: Any) -> bool:
        return False

    def names(self, config: Any, layer: int) -> dict[str, str]:
        return super().names(config, layer * config.num_hidden_groups // config.num_hidden_layers)

    def notices(self, config: Any) -> tuple[str, ...]:
        if config.num_hidden_groups == config.num_hidden_layers:
            return ()
        groups = "one block" if config.num_hidden_groups == 1 else f"{config.num_hidden_groups} blocks"
        return (f"All {config.num_hidden_layers} layers share the weights of {groups}.",)


class DebertaV2(Bert):
    """BERT's block; scores have further terms, of the tokens' contents with their distance."""

    family = "deberta-v2"
    prefixes = ("deberta.",)
    linears = {
        **Bert.linears,
        "q": "attention.self.query_proj",
        "k": "attention.self.key_proj",
        "v": "attention.self.value_proj",
    }

    def causal(self, config: Any) -> bool:
        return False

    def closed_form_refusal(self, config: Any) -> str | None:
        return "Its scores depend on relative positions through projections of their own."

    def notices(self, config: Any) -> tuple[str, ...]:
        return ("Scores have further terms, of contents with distances; W_QK is that of the contents alone.",)


class Deberta(DebertaV2):
    """As version 2, with one fused projection whose rows run head by head."""

    family = "deberta"
    linears = {
        "qkv": "attention.self.in_proj",
        **{role: path for role, path in Bert.linears.items() if role not in ("q", "k", "v")},
    }

    def biased(self, config: Any) -> tuple[str, ...]:
        return ("o", "in", "out")  # those of q and v are parameters of their own, and there is none of k

    def heads(self, config: Any, layer: int, tensors: Mapping[str, Tensor]) -> Heads:
        return split_grouped(tensors, *self.shape(config, layer), config.hidden_size)
