"""GPT-BigCode (StarCoder 1)."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from engine.models.adapters.base import Adapter
from engine.models.adapters.block import Heads, Mlp
from engine.models.adapters.gpt2 import GPT2
from engine.models.adapters.split import split_grouped, split_stacked


class GPTBigCode(GPT2):
    """As GPT-2 with linears that are not transposed; all heads share one key and value, or rows run head by head."""

    family = "gpt_bigcode"

    def shape(self, config: Any, layer: int) -> tuple[int, int, int]:
        n_heads = config.num_attention_heads
        return n_heads, 1 if config.multi_query else n_heads, self.d_head(config)

    def scale(self, config: Any, layer: int) -> float:
        return self.d_head(config) ** -0.5 if config.scale_attn_weights else 1.0

    def heads(self, config: Any, layer: int, tensors: Mapping[str, Tensor]) -> Heads:
        split = split_stacked if config.multi_query else split_grouped
        return split(tensors, *self.shape(config, layer), config.hidden_size)

    def mlp(self, config: Any, tensors: Mapping[str, Tensor]) -> Mlp:
        return Adapter.mlp(self, config, tensors)
