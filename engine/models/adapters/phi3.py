"""Families with gate and input of the MLP in one linear: Phi-3 and 4, GLM and GLM-4."""

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from engine.models.adapters.block import Heads, Mlp
from engine.models.adapters.llama import Llama, attention_bias
from engine.models.adapters.split import check_shape, split_stacked


class FusedGate(Llama):
    """As Llama; the first half of the rows of the MLP's first linear is the gate."""

    linears = {
        "q": "self_attn.q_proj",
        "k": "self_attn.k_proj",
        "v": "self_attn.v_proj",
        "o": "self_attn.o_proj",
        "gate_up": "mlp.gate_up_proj",
        "out": "mlp.down_proj",
    }

    def mlp(self, config: Any, tensors: Mapping[str, Tensor]) -> Mlp:
        check_shape("gate_up", tensors["gate_up"], (2 * config.intermediate_size, config.hidden_size))
        halves = {
            role + suffix: half
            for suffix in ("", "_bias")
            if "gate_up" + suffix in tensors
            for role, half in zip(("gate", "in"), tensors["gate_up" + suffix].chunk(2), strict=True)
        }
        return super().mlp(config, {**tensors, **halves})


class Phi3(FusedGate):
    """Queries, keys and values are one linear too, all queries first; partial rotary; no biases."""

    family = "phi3"
    linears = {
        "qkv": "self_attn.qkv_proj",
        **{role: path for role, path in FusedGate.linears.items() if role not in ("q", "k", "v")},
    }
    rotary_class = "phi3.modeling_phi3.Phi3RotaryEmbedding"

    def biased(self, config: Any) -> Collection[str]:
        return ()

    def window(self, config: Any, layer: int) -> int | None:
        return config.sliding_window

    def heads(self, config: Any, layer: int, tensors: Mapping[str, Tensor]) -> Heads:
        return split_stacked(tensors, *self.shape(config, layer), config.hidden_size)


class Glm(FusedGate):
    """Partial rotary that turns neighbours; biases on q, k, v only."""

    family = "glm"
    rotary_class = "glm.modeling_glm.GlmRotaryEmbedding"
    interleaved = True

    def biased(self, config: Any) -> Collection[str]:
        return tuple(role for role in attention_bias(config) if role != "o")


class Glm4(Glm):
    """As GLM, with norms on both sides of attention and MLP."""

    family = "glm4"
    norm_paths = {
        "attn_norm": "input_layernorm",
        "attn_post": "post_self_attn_layernorm",
        "mlp_norm": "post_attention_layernorm",
        "mlp_post": "post_mlp_layernorm",
    }
    rotary_class = "glm4.modeling_glm4.Glm4RotaryEmbedding"
