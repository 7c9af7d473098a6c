"""Cohere's Command models: attention and MLP side by side behind one LayerNorm without a bias."""

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from engine.models.adapters.block import HeadNorm, Rotary
from engine.models.adapters.llama import Llama, attention_bias, sliding
from engine.models.adapters.smollm3 import without_positions


class Cohere(Llama):
    """Rotary positions turn neighbours; LayerNorm on queries and keys, with gains for each head, if asked for."""

    family = "cohere"
    norm = "layernorm"
    norm_paths = {"attn_norm": "input_layernorm", "mlp_norm": "input_layernorm"}
    qk_norm = "head"
    rotary_class = "cohere.modeling_cohere.CohereRotaryEmbedding"
    interleaved = True

    def biased(self, config: Any) -> Collection[str]:
        return attention_bias(config)

    def norm_biased(self, config: Any) -> bool:
        return False

    def parallel(self, config: Any) -> bool:
        return True

    def norms(self, config: Any) -> Mapping[str, str]:
        if not getattr(config, "use_qk_norm", False):
            return self.norm_paths
        return {**self.norm_paths, "q_norm": "self_attn.q_norm", "k_norm": "self_attn.k_norm"}

    def head_norm(self, config: Any, role: str, tensors: Mapping[str, Tensor]) -> HeadNorm | None:
        if role not in tensors:
            return None
        rows = tensors[role]  # one for each head, in the library's order of the rows
        gain = rows.unflatten(1, (-1, 2)).mT.flatten()
        return HeadNorm("layernorm", gain, self.eps(config), "head")


class Cohere2(Cohere):
    """As Cohere; most layers have a sliding window, and only those have rotary positions."""

    family = "cohere2"
    rotary_class = "cohere2.modeling_cohere2.Cohere2RotaryEmbedding"

    def window(self, config: Any, layer: int) -> int | None:
        return sliding(config, layer)

    def rotary(self, config: Any, layer: int) -> Rotary | None:
        return None if sliding(config, layer) is None else super().rotary(config, layer)

    def notices(self, config: Any) -> tuple[str, ...]:
        layers = range(config.num_hidden_layers)
        return without_positions([layer for layer in layers if sliding(config, layer) is None])
