"""GPT-NeoX (Pythia)."""

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from engine.models.adapters.base import Adapter
from engine.models.adapters.block import Heads
from engine.models.adapters.split import split_grouped


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
        return split_grouped(tensors, *self.shape(config, layer), config.hidden_size)
