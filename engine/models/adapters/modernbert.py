"""ModernBERT, encoder and decoder."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from engine.models.adapters.block import Block, Heads, Parts
from engine.models.adapters.llama import sliding
from engine.models.adapters.phi3 import FusedGate
from engine.models.adapters.split import split_stacked


class ModernBertDecoder(FusedGate):
    """LayerNorm, none before the first attention; most layers see a window, and have a rotary table of their own."""

    family = "modernbert-decoder"
    prefixes = ("model.",)
    linears = {
        "q": "attn.q_proj",
        "k": "attn.k_proj",
        "v": "attn.v_proj",
        "o": "attn.Wo",
        "gate_up": "mlp.Wi",
        "out": "mlp.Wo",
    }
    norm = "layernorm"
    norm_paths = {"attn_norm": "attn_norm", "mlp_norm": "mlp_norm"}
    final_norm = "final_norm"
    rotary_class = "modernbert_decoder.modeling_modernbert_decoder.ModernBertDecoderRotaryEmbedding"

    def biased(self, config: Any) -> Collection[str]:
        attention, mlp = (role for role in self.linears if role in "qkvo" or role == "qkv"), ("gate_up", "out")
        return (*(attention if config.attention_bias else ()), *(mlp if config.mlp_bias else ()))

    def norm_biased(self, config: Any) -> bool:
        return config.norm_bias

    def eps(self, config: Any) -> float:
        return config.norm_eps

    def activation(self, config: Any) -> str:
        return config.hidden_activation

    def window(self, config: Any, layer: int) -> int | None:
        return sliding(config, layer)

    def names(self, config: Any, layer: int) -> dict[str, str]:
        names = super().names(config, layer)
        return {role: name for role, name in names.items() if layer or not role.startswith("attn_norm")}

    def block(self, config: Any, layer: int, get: Callable[[str], Tensor], parts: Parts = "heads") -> Block:
        block = super().block(config, layer, get, parts)
        return block if layer else replace(block, attn_norm=None)


class ModernBert(ModernBertDecoder):
    """Bidirectional, with one fused projection."""

    family = "modernbert"
    linears = {"qkv": "attn.Wqkv", "o": "attn.Wo", "gate_up": "mlp.Wi", "out": "mlp.Wo"}
    rotary_class = "modernbert.modeling_modernbert.ModernBertRotaryEmbedding"

    def causal(self, config: Any) -> bool:
        return False

    def window(self, config: Any, layer: int) -> int | None:
        half = sliding(config, layer)
        return (
            None if half is None else half + 1
        )  # the library's bidirectional mask includes the token at that distance

    def heads(self, config: Any, layer: int, tensors: Mapping[str, Tensor]) -> Heads:
        return split_stacked(tensors, *self.shape(config, layer), config.hidden_size)
