"""GPT-J and CodeGen: attention and MLP side by side behind one norm, and rotary positions that turn neighbours."""

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from engine.models.adapters.base import Adapter
from engine.models.adapters.block import Heads, Rotary
from engine.models.adapters.split import check_shape, split_linears

# CodeGen's fused projection keeps the slices of the four chips that it was trained on.
CHIPS = 4


class GPTJ(Adapter):
    """Only some leading dimensions of a head rotate; attention has no biases."""

    family = "gptj"
    prefixes = ("transformer.",)
    layer_path = "h.{layer}"
    linears = {
        "q": "attn.q_proj",
        "k": "attn.k_proj",
        "v": "attn.v_proj",
        "o": "attn.out_proj",
        "in": "mlp.fc_in",
        "out": "mlp.fc_out",
    }
    norm = "layernorm"
    norm_paths = {"attn_norm": "ln_1", "mlp_norm": "ln_1"}
    final_norm = "ln_f"
    interleaved = True

    def biased(self, config: Any) -> Collection[str]:
        return ("in", "out")

    def rotates(self, config: Any) -> bool:
        return True

    def parallel(self, config: Any) -> bool:
        return True

    def eps(self, config: Any) -> float:
        return config.layer_norm_epsilon

    def activation(self, config: Any) -> str:
        return config.activation_function

    def rotary(self, config: Any, layer: int) -> Rotary | None:
        # Without a rotary_dim the library turns whole heads by angles made for the width of the model.
        width = config.rotary_dim or config.hidden_size
        inv_freq = 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
        d_head = self.shape(config, layer)[2]
        return Rotary(inv_freq[: d_head // 2], d_head)


class CodeGen(GPTJ):
    """As GPT-J, with one fused projection: for each of four slices of the heads, its queries, its values, its keys."""

    family = "codegen"
    linears = {"qkv": "attn.qkv_proj", "o": "attn.out_proj", "in": "mlp.fc_in", "out": "mlp.fc_out"}

    def heads(self, config: Any, layer: int, tensors: Mapping[str, Tensor]) -> Heads:
        d = config.hidden_size
        check_shape("q, k, v", tensors["qkv"], (3 * d, d))
        slices = tensors["qkv"].unflatten(0, (CHIPS, 3, -1))
        parts = {role: slices[:, i].flatten(0, 1) for i, role in enumerate("qvk")}
        return split_linears(parts | {"o": tensors["o"]}, *self.shape(config, layer), d)
