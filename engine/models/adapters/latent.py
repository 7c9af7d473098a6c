"""Multi-head latent attention: DeepSeek V2 and V3, GLM-4 MoE Lite, MiniCPM3, Youtu."""

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from engine.errors import UserError
from engine.models.adapters.block import Heads, Parts, Rotary
from engine.models.adapters.llama import Llama
from engine.models.adapters.split import check_shape, halve_pairs


class Latent(Llama):
    """Queries, keys and values are made from narrow latents with norms of their own; the MLP may choose among experts.

    A score is that of a latent part plus that of a rotary part, whose key all heads share. Heads here hold both where
    keys of both parts are as wide as values, and else the latent part, which then is: one width is that of a head.
    """

    family = "latent"
    linears = {"o": "self_attn.o_proj"}
    mlp_path = "mlp"
    rotary_class = "glm4_moe_lite.modeling_glm4_moe_lite.Glm4MoeLiteRotaryEmbedding"

    def closed_form_refusal(self, config: Any) -> str | None:
        return "Its queries, keys and values pass latents with norms of their own."

    def notices(self, config: Any) -> tuple[str, ...]:
        latent = (
            "Queries, keys and values are made from normalised latents; W_QK and W_OV are the products without "
            "that: it multiplies each token's by a positive number."
        )
        if self.whole(config):
            return (latent,)
        return (
            latent,
            f"W_QK is the latent part of the scores; a rotary part of width {config.qk_rope_head_dim} adds to it.",
        )

    def whole(self, config: Any) -> bool:
        """Whether the heads hold both parts of the scores."""
        return config.v_head_dim == config.qk_nope_head_dim + config.qk_rope_head_dim

    def shape(self, config: Any, layer: int) -> tuple[int, int, int]:
        if not self.whole(config) and config.v_head_dim != config.qk_nope_head_dim:
            raise UserError(
                f"Values of this model are {config.v_head_dim} wide, and its keys {config.qk_nope_head_dim} and, with "
                f"their rotary part, {config.qk_nope_head_dim + config.qk_rope_head_dim}; no null is for heads of two "
                "widths. Choose another model."
            )
        return config.num_attention_heads, config.num_attention_heads, config.v_head_dim

    def biased(self, config: Any) -> Collection[str]:
        return ()

    def rotates(self, config: Any) -> bool:
        return self.whole(config)

    def rotary(self, config: Any, layer: int) -> Rotary | None:
        return super().rotary(config, layer) if self.whole(config) else None

    def names(self, config: Any, layer: int) -> dict[str, str]:
        paths = {"kv_a": "kv_a_proj_with_mqa", "kv_a_norm": "kv_a_layernorm", "kv_b": "kv_b_proj"}
        if config.q_lora_rank is None:
            paths["q"] = "q_proj"
        else:
            paths |= {"q_a": "q_a_proj", "q_a_norm": "q_a_layernorm", "q_b": "q_b_proj"}
        block = self.layer_path.format(layer=layer)
        own = {role: f"{block}.self_attn.{path}.weight" for role, path in paths.items()}
        return super().names(config, layer) | own

    def roles(self, config: Any, layer: int, parts: Parts) -> dict[str, str]:
        return {role: name for role, name in self.names(config, layer).items() if role != "mlp_norm"}

    def heads(self, config: Any, layer: int, tensors: Mapping[str, Tensor]) -> Heads:
        n, d, r = config.num_attention_heads, config.hidden_size, config.kv_lora_rank
        nope, rope, v = config.qk_nope_head_dim, config.qk_rope_head_dim, config.v_head_dim
        for role, shape in {
            "kv_a": (r + rope, d),
            "kv_b": (n * (nope + v), r),
            "o": (d, n * v),
        }.items():
            check_shape(role, tensors[role], shape)
        latent, turned = _wide(tensors["kv_a"]).split([r, rope])
        w_k, w_v = _through(tensors["kv_b"], tensors["kv_a_norm"], latent).unflatten(0, (n, -1)).split([nope, v], 1)
        queries = tensors["q"] if "q" in tensors else _through(tensors["q_b"], tensors["q_a_norm"], tensors["q_a"])
        check_shape("q", queries, (n * (nope + rope), d))
        w_q, q_turned = queries.unflatten(0, (n, -1)).split([nope, rope], 1)
        if self.whole(config):
            w_q, w_k = torch.cat((q_turned, w_q), 1), torch.cat((turned.expand(n, -1, -1), w_k), 1)
        heads = Heads(w_q, w_k, w_v, tensors["o"].unflatten(1, (n, v)).transpose(0, 1))
        neighbours = self.whole(config) and getattr(config, "rope_interleave", False)
        return halve_pairs(heads, rope) if neighbours else heads


def _wide(weight: Tensor) -> Tensor:
    """At least fp32: a product of two matrices in the storage dtype would be rounded once more."""
    return weight if weight.dtype == torch.float64 else weight.float()


def _through(outer: Tensor, gain: Tensor, inner: Tensor) -> Tensor:
    """W_outer diag(gain) W_inner: one linear map through a latent, its norm's scaling left out."""
    return (_wide(outer) * _wide(gain)) @ _wide(inner)
