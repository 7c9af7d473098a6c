"""StableLM and Nemotron: Llama's block with LayerNorm."""

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from engine.models.adapters.block import HeadNorm
from engine.models.adapters.llama import Llama


class StableLm(Llama):
    """Partial rotary; attention and MLP may stand side by side behind one norm; heads may have norms of their own."""

    family = "stablelm"
    norm = "layernorm"
    qk_norm = "head"
    rotary_class = "stablelm.modeling_stablelm.StableLmRotaryEmbedding"

    def biased(self, config: Any) -> Collection[str]:
        return ("q", "k", "v") if config.use_qkv_bias else ()

    def parallel(self, config: Any) -> bool:
        return config.use_parallel_residual

    def norms(self, config: Any) -> Mapping[str, str]:
        behind = "input_layernorm" if config.use_parallel_residual else "post_attention_layernorm"
        norms = {"attn_norm": "input_layernorm", "mlp_norm": behind}
        if config.qk_layernorm:
            norms |= {"q_norm": "self_attn.q_layernorm", "k_norm": "self_attn.k_layernorm"}
        return norms

    def names(self, config: Any, layer: int) -> dict[str, str]:
        names = super().names(config, layer)
        n_heads, n_kv_heads, _ = self.shape(config, layer)
        for role, count in (("q_norm", n_heads), ("k_norm", n_kv_heads)) if config.qk_layernorm else ():
            del names[f"{role}_bias"]
            path = names.pop(role).removesuffix(".weight")
            names |= {f"{role}{head}": f"{path}.norms.{head}.weight" for head in range(count)}
        return names

    def head_norm(self, config: Any, role: str, tensors: Mapping[str, Tensor]) -> HeadNorm | None:
        if not config.qk_layernorm:
            return None
        gains = [tensors[name] for name in tensors if name.removeprefix(role).isdecimal()]
        return HeadNorm("layernorm", torch.cat(gains), self.eps(config), "head")


class Nemotron(Llama):
    """Partial rotary; no gate; LayerNorm stores w and multiplies by 1 + w."""

    family = "nemotron"
    norm = "layernorm"
    linears = {role: path for role, path in Llama.linears.items() if role != "gate"}
    rotary_class = "nemotron.modeling_nemotron.NemotronRotaryEmbedding"

    def eps(self, config: Any) -> float:
        return config.norm_eps

    def biased(self, config: Any) -> Collection[str]:
        return ("q", "k", "v", "o") * config.attention_bias + ("in", "out") * config.mlp_bias

    def gain(self, weight: Tensor) -> Tensor:
        return 1 + weight.double()
