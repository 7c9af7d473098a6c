"""GPT-NeoX (Pythia)."""

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from engine.models.adapters.base import Adapter
from engine.models.adapters.block import Heads
from engine.models.adapters.split import check_shape, split_linears


class GPTNeoX(Adapter):
    """Partial rotary; one fused projection whose rows run head by head: q, k, v of head 0, then of head 1, …"""

    family = "gpt_neox"
    prefixes = ("gpt_neox.",)
    linears = {
        "qkv": "attention.query_key_value",
        "o": "attention.dense",
        "in": "mlp.dense_h_to_4h",
        "out": "mlp.dense_4h_to_h",
    }
    norm = "layernorm"
    norm_paths = {"attn_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
    final_norm = "final_layer_norm"
    rotary_class = "gpt_neox.modeling_gpt_neox.GPTNeoXRotaryEmbedding"

    def biased(self, config: Any) -> Collection[str]:
        return self.linears if config.attention_bias else ("in", "out")

    def parallel(self, config: Any) -> bool:
        return config.use_parallel_residual

    def heads(self, config: Any, layer: int, tensors: Mapping[str, Tensor]) -> Heads:
        (n_heads, _, d_head), d = self.shape(config, layer), config.hidden_size
        check_shape("q, k, v", tensors["qkv"], (3 * d, d))
        parts = dict(zip("qkv", tensors["qkv"].reshape(n_heads, 3, d_head, d).unbind(1), strict=True))
        parts = {role: part.reshape(d, d) for role, part in parts.items()} | {"o": tensors["o"]}
        if "qkv_bias" in tensors:
            biases = tensors["qkv_bias"].reshape(n_heads, 3, d_head).unbind(1)
            parts |= {f"{role}_bias": bias for role, bias in zip("qkv", biases, strict=True)}
            parts["o_bias"] = tensors["o_bias"]
        return split_linears(parts, n_heads, n_heads, d_head, d)
