"""Phi-1, 1.5 and 2, and Persimmon: LayerNorm, partial rotary, an MLP without a gate."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from engine.models.adapters.base import Adapter
from engine.models.adapters.block import HeadNorm, Heads
from engine.models.adapters.split import split_grouped


class Phi(Adapter):
    """Attention and MLP side by side behind one norm; biases everywhere; LayerNorm on queries and keys if asked for."""

    family = "phi"
    prefixes = ("model.",)
    linears = {
        "q": "self_attn.q_proj",
        "k": "self_attn.k_proj",
        "v": "self_attn.v_proj",
        "o": "self_attn.dense",
        "in": "mlp.fc1",
        "out": "mlp.fc2",
    }
    norm = "layernorm"
    norm_paths = {"attn_norm": "input_layernorm", "mlp_norm": "input_layernorm"}
    qk_norm = "head"
    final_norm = "final_layernorm"
    rotary_class = "phi.modeling_phi.PhiRotaryEmbedding"

    def parallel(self, config: Any) -> bool:
        return True

    def norms(self, config: Any) -> Mapping[str, str]:
        if not config.qk_layernorm:
            return self.norm_paths
        return {**self.norm_paths, "q_norm": "self_attn.q_layernorm", "k_norm": "self_attn.k_layernorm"}

    def head_norm(self, config: Any, role: str, tensors: Mapping[str, Tensor]) -> HeadNorm | None:
        if role not in tensors:
            return None
        return HeadNorm("layernorm", tensors[role], self.eps(config), "head", tensors[f"{role}_bias"])


class Persimmon(Phi):
    """One sublayer after the other; one fused projection whose rows run head by head, as in GPT-NeoX."""

    family = "persimmon"
    linears = {
        "qkv": "self_attn.query_key_value",
        "o": "self_attn.dense",
        "in": "mlp.dense_h_to_4h",
        "out": "mlp.dense_4h_to_h",
    }
    norm_paths = {"attn_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
    rotary_class = "persimmon.modeling_persimmon.PersimmonRotaryEmbedding"

    def parallel(self, config: Any) -> bool:
        return False

    def heads(self, config: Any, layer: int, tensors: Mapping[str, Tensor]) -> Heads:
        return split_grouped(tensors, *self.shape(config, layer), config.hidden_size)
