"""BLOOM and MPT, whose positions are ALiBi's: a slope for each head times the distance, added to the scores."""

from collections.abc import Collection, Mapping
from math import ceil, floor, log2
from typing import Any

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from engine.models.adapters.base import Adapter
from engine.models.adapters.block import Heads
from engine.models.adapters.split import split_grouped, split_stacked

NOTICE = (
    "Positions are a slope for each head times the distance (ALiBi), added to the scores; W_QK is the product "
    "without that."
)


class BloomGelu(nn.Module):
    """The library's own GELU of BLOOM, in which √(2/π) has eight digits."""

    def forward(self, z: Tensor) -> Tensor:
        return z * (1 + torch.tanh(0.79788456 * z * (1 + 0.044715 * z * z))) / 2


ACT2FN["bloom_gelu"] = BloomGelu


def alibi_slopes(n_heads: int) -> Tensor:
    """Slopes 2^(−8i/n) of n heads; if n is no power of two, of the one below it, then every other one of twice that."""
    power = 2 ** floor(log2(n_heads))
    first = torch.arange(1, power + 1, dtype=torch.float64) / power
    rest = (2 * torch.arange(n_heads - power, dtype=torch.float64) + 1) / (2 * power)
    return 2.0 ** (-8 * torch.cat((first, rest)))


class Bloom(Adapter):
    """One fused projection whose rows run head by head; biases everywhere."""

    family = "bloom"
    prefixes = ("transformer.",)
    layer_path = "h.{layer}"
    linears = {
        "qkv": "self_attention.query_key_value",
        "o": "self_attention.dense",
        "in": "mlp.dense_h_to_4h",
        "out": "mlp.dense_4h_to_h",
    }
    norm = "layernorm"
    norm_paths = {"attn_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
    final_norm = "ln_f"

    def closed_form_refusal(self, config: Any) -> str | None:
        if config.apply_residual_connection_post_layernorm:
            return "Its sublayers add to the norm of the residual stream instead of the stream."
        return super().closed_form_refusal(config)

    def context(self, config: Any) -> int:
        return getattr(config, "seq_length", 0)  # nothing bounds it but the texts of its training

    def eps(self, config: Any) -> float:
        return config.layer_norm_epsilon

    def activation(self, config: Any) -> str:
        return "bloom_gelu"

    def slopes(self, config: Any) -> Tensor | None:
        return alibi_slopes(config.num_attention_heads)

    def notices(self, config: Any) -> tuple[str, ...]:
        return (NOTICE,)

    def heads(self, config: Any, layer: int, tensors: Mapping[str, Tensor]) -> Heads:
        return split_grouped(tensors, *self.shape(config, layer), config.hidden_size)


class Mpt(Adapter):
    """One fused projection, all queries first; no biases, in the norms neither; projections may be clipped."""

    family = "mpt"
    prefixes = ("transformer.",)
    layer_path = "blocks.{layer}"
    linears = {"qkv": "attn.Wqkv", "o": "attn.out_proj", "in": "ffn.up_proj", "out": "ffn.down_proj"}
    norm = "layernorm"
    norm_paths = {"attn_norm": "norm_1", "mlp_norm": "norm_2"}
    final_norm = "norm_f"

    def closed_form_refusal(self, config: Any) -> str | None:
        if clip := config.attn_config.clip_qkv:
            return f"Its queries, keys and values are clipped at ±{clip:g}."
        return super().closed_form_refusal(config)

    def biased(self, config: Any) -> Collection[str]:
        return ()

    def norm_biased(self, config: Any) -> bool:
        return False

    def context(self, config: Any) -> int:
        return config.max_seq_len

    def eps(self, config: Any) -> float:
        return config.layer_norm_epsilon

    def activation(self, config: Any) -> str:
        return "gelu"

    def scale(self, config: Any, layer: int) -> float:
        return config.attn_config.softmax_scale or super().scale(config, layer)

    def slopes(self, config: Any) -> Tensor | None:
        n_heads = config.num_attention_heads
        power = 2 ** ceil(log2(n_heads))
        slopes = 2.0 ** (-config.attn_config.alibi_bias_max * torch.arange(1, power + 1, dtype=torch.float64) / power)
        return slopes if power == n_heads else torch.cat((slopes[1::2], slopes[::2]))[:n_heads]

    def notices(self, config: Any) -> tuple[str, ...]:
        if not (clip := config.attn_config.clip_qkv):
            return (NOTICE,)
        return (NOTICE, f"Queries, keys and values are clipped at ±{clip:g}; the matrices show them before that.")

    def heads(self, config: Any, layer: int, tensors: Mapping[str, Tensor]) -> Heads:
        return split_stacked(tensors, *self.shape(config, layer), config.hidden_size)
