"""Falcon: the first release (RW), 7B with one key and value for all heads, and 40B with groups."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from engine.models.adapters.base import Adapter
from engine.models.adapters.block import AttentionRule, Heads, Rotary
from engine.models.adapters.bloom import NOTICE, alibi_slopes
from engine.models.adapters.split import split_grouped


class Falcon(Adapter):
    """Attention and MLP side by side, behind one norm or two, or in turn; rotary positions or ALiBi."""

    family = "falcon"
    prefixes = ("transformer.",)
    layer_path = "h.{layer}"
    linears = {
        "qkv": "self_attention.query_key_value",
        "o": "self_attention.dense",
        "in": "mlp.dense_h_to_4h",
        "out": "mlp.dense_4h_to_h",
    }
    norm = "layernorm"
    final_norm = "ln_f"
    rotary_class = "falcon.modeling_falcon.FalconRotaryEmbedding"

    def rotates(self, config: Any) -> bool:
        return not config.alibi

    def mend(self, module: nn.Module) -> None:
        """Keep ALiBi from being added twice: the library puts it into the mask and passes it to eager attention too."""

        def once(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            alibi, mask = kwargs.get("alibi"), kwargs.get("attention_mask")
            if alibi is not None and mask is not None and mask.shape[1] > 1:  # a mask for each head: it holds ALiBi
                kwargs = kwargs | {"alibi": torch.zeros_like(alibi)}
            return args, kwargs

        for part in module.modules():
            if type(part).__name__ == "FalconAttention":
                part.register_forward_pre_hook(once, with_kwargs=True)

    def shape(self, config: Any, layer: int) -> tuple[int, int, int]:
        n_heads = config.num_attention_heads
        older = 1 if config.multi_query else n_heads
        return n_heads, config.num_kv_heads if config.new_decoder_architecture else older, self.d_head(config)

    def biased(self, config: Any) -> Collection[str]:
        return self.linears if config.bias else ()

    def parallel(self, config: Any) -> bool:
        return config.new_decoder_architecture or config.parallel_attn

    def norms(self, config: Any) -> Mapping[str, str]:
        if not config.parallel_attn:
            return {"attn_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
        two = config.num_ln_in_parallel_attn or (2 if config.new_decoder_architecture else 1)
        if two == 2:
            return {"attn_norm": "ln_attn", "mlp_norm": "ln_mlp"}
        return {"attn_norm": "input_layernorm", "mlp_norm": "input_layernorm"}

    def eps(self, config: Any) -> float:
        return config.layer_norm_epsilon

    def activation(self, config: Any) -> str:
        return config.activation

    def rotary(self, config: Any, layer: int) -> Rotary | None:
        return None if config.alibi else super().rotary(config, layer)

    def attention(self, config: Any, layer: int, tensors: Mapping[str, Tensor]) -> AttentionRule:
        rule = super().attention(config, layer, tensors)
        # The library scales the sum, not the product alone.
        return replace(rule, slopes=rule.scale * alibi_slopes(config.num_attention_heads)) if config.alibi else rule

    def notices(self, config: Any) -> tuple[str, ...]:
        return (NOTICE,) if config.alibi else ()

    def heads(self, config: Any, layer: int, tensors: Mapping[str, Tensor]) -> Heads:
        return split_grouped(tensors, *self.shape(config, layer), config.hidden_size)
