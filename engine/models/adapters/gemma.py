"""Gemma 2, 3 and 4 (the text part)."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from engine.errors import UserError
from engine.models.adapters.block import AttentionRule, HeadNorm, Heads
from engine.models.adapters.llama import Llama, attention_bias, sliding

NORMS = {
    "attn_norm": "input_layernorm",
    "attn_post": "post_attention_layernorm",
    "mlp_norm": "pre_feedforward_layernorm",
    "mlp_post": "post_feedforward_layernorm",
}
QK_NORMS = {"q_norm": "self_attn.q_norm", "k_norm": "self_attn.k_norm"}


class Gemma2(Llama):
    """Norms on both sides of attention and MLP; scores are scaled by a config value and soft-capped.

    RMSNorm stores w and multiplies by 1 + w, which the library adds in fp32 whatever the dtype of w.
    """

    family = "gemma2"
    norm_paths = NORMS
    rotary_class = "gemma2.modeling_gemma2.Gemma2RotaryEmbedding"

    def biased(self, config: Any) -> Collection[str]:
        return attention_bias(config)

    def gain(self, weight: Tensor) -> Tensor:
        return 1 + weight.double()  # so that it is exact in fp64, and rounds to the library's sum in fp32

    def activation(self, config: Any) -> str:
        return config.hidden_activation

    def scale(self, config: Any, layer: int) -> float:
        return config.query_pre_attn_scalar**-0.5

    def window(self, config: Any, layer: int) -> int | None:
        return sliding(config, layer)

    def softcap(self, config: Any) -> float | None:
        return config.attn_logit_softcapping

    def notices(self, config: Any) -> tuple[str, ...]:
        if (cap := self.softcap(config)) is None:
            return ()
        return (f"Attention scores s are soft-capped to {cap:g}·tanh(s/{cap:g}); W_QK is the product before that.",)


class Gemma3(Gemma2):
    """As Gemma 2, with q/k-norms in place of the soft-cap; sliding and global layers have a rotary table each."""

    family = "gemma3"
    prefixes = ("model.", "model.language_model.", "language_model.model.", "language_model.")
    norm_paths = NORMS | QK_NORMS
    rotary_class = "gemma3.modeling_gemma3.Gemma3RotaryEmbedding"
    qk_norm = "head"

    def causal(self, config: Any) -> bool:
        return not config.use_bidirectional_attention

    def softcap(self, config: Any) -> float | None:
        return None  # the config has the field; the library's attention does not read it


class Gemma4(Llama):
    """RMSNorm multiplies by the stored weight again; values are normalised too; global layers may have W_V = W_K.

    A stored number multiplies the whole output of each block.

    In the released models global layers have wider heads than sliding ones. `block` gives each its own shape, but
    `facts` refuses such a model, as one d_h (and so one null) for all layers would be wrong.
    """

    family = "gemma4"
    prefixes = Gemma3.prefixes
    norm_paths = NORMS | QK_NORMS
    rotary_class = "gemma4.modeling_gemma4.Gemma4TextRotaryEmbedding"
    qk_norm = "head"

    def facts(self, config: Any) -> dict[str, Any]:
        text = config.get_text_config()
        if text.num_kv_shared_layers:
            raise UserError(
                f"From layer {text.num_hidden_layers - text.num_kv_shared_layers} on, this Gemma 4 has no keys and "
                "values of its own but reads those of an earlier layer, so there is no W_QK of one residual stream. "
                "Choose a model without shared layers."
            )
        return super().facts(config)

    def closed_form_refusal(self, config: Any) -> str | None:
        text = config.get_text_config()
        if text.hidden_size_per_layer_input:
            return "Its blocks take an input of their own from each token, beside the residual stream."
        if text.enable_moe_block:
            return "Its blocks choose among experts beside the MLP."
        if text.num_kv_shared_layers:
            return "Its last layers read keys and values of an earlier layer."
        return super().closed_form_refusal(config)

    def causal(self, config: Any) -> bool:
        return config.use_bidirectional_attention != "all"

    def notices(self, config: Any) -> tuple[str, ...]:
        return ("Values are normalised after projection; W_OV is the product without that.",)

    def biased(self, config: Any) -> Collection[str]:
        return attention_bias(config)

    def activation(self, config: Any) -> str:
        return config.hidden_activation

    def scale(self, config: Any, layer: int) -> float:
        return 1.0

    def window(self, config: Any, layer: int) -> int | None:
        window = sliding(config, layer)
        # The library's bidirectional mask includes the token at that distance, its causal one does not.
        return window if window is None or self.causal(config) else window + 1

    def names(self, config: Any, layer: int) -> dict[str, str]:
        names = super().names(config, layer)
        names["scale"] = f"{self.layer_path.format(layer=layer)}.layer_scalar"
        if config.attention_k_eq_v and config.layer_types[layer] == "full_attention":
            del names["v"]
            names.pop("v_bias", None)
        return names

    def heads(self, config: Any, layer: int, tensors: Mapping[str, Tensor]) -> Heads:
        if "v" in tensors:
            return super().heads(config, layer, tensors)
        shared = {"v" + role[1:]: tensor for role, tensor in tensors.items() if role in ("k", "k_bias")}
        return super().heads(config, layer, {**tensors, **shared})

    def attention(self, config: Any, layer: int, tensors: Mapping[str, Tensor]) -> AttentionRule:
        rule = super().attention(config, layer, tensors)
        return replace(rule, v_norm=HeadNorm("rmsnorm", None, self.eps(config), "head"))
