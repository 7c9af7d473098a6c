"""Gemma 2, 3 and 4 (the text part)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from engine.errors import UserError
from engine.models.adapters.block import Facts, Heads, Norm
from engine.models.adapters.llama import Llama


class Gemma2(Llama):
    """RMSNorm stores w and multiplies by 1 + w, added in fp32; scores are scaled by a config value and soft-capped."""

    family = "gemma2"
    rotary_class = "gemma2.modeling_gemma2.Gemma2RotaryEmbedding"

    def attn_norm(self, config: Any, tensors: Mapping[str, Tensor]) -> Norm | None:
        norm = super().attn_norm(config, tensors)
        return norm and replace(norm, gain=1 + tensors["gain"].float())

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
    rotary_class = "gemma3.modeling_gemma3.Gemma3RotaryEmbedding"
    qk_norm = True

    def causal(self, config: Any) -> bool:
        return not config.use_bidirectional_attention

    def softcap(self, config: Any) -> float | None:
        return None  # the config has the field; the library's attention does not read it


class Gemma4(Llama):
    """RMSNorm multiplies by the stored weight again; values are normalised too; global layers may have W_V = W_K.

    In the released models global layers have wider heads than sliding ones. `block` gives each its own shape, but
    `facts` refuses such a model, as one d_h (and so one null) for all layers would be wrong.
    """

    family = "gemma4"
    prefixes = Gemma3.prefixes
    rotary_class = "gemma4.modeling_gemma4.Gemma4TextRotaryEmbedding"
    qk_norm = True

    def facts(self, config: Any) -> Facts:
        text = config.get_text_config()
        if text.num_kv_shared_layers:
            raise UserError(
                f"From layer {text.num_hidden_layers - text.num_kv_shared_layers} on, this Gemma 4 has no keys and "
                "values of its own but reads those of an earlier layer, so there is no W_QK of one residual stream. "
                "Choose a model without shared layers."
            )
        return super().facts(config)

    def causal(self, config: Any) -> bool:
        return config.use_bidirectional_attention != "all"

    def notices(self, config: Any) -> tuple[str, ...]:
        return ("Values are normalised after projection; W_OV is the product without that.",)

    def names(self, config: Any, layer: int) -> dict[str, str]:
        names = super().names(config, layer)
        if config.attention_k_eq_v and config.layer_types[layer] == "full_attention":
            del names["v"]
        return names

    def heads(self, config: Any, layer: int, tensors: Mapping[str, Tensor]) -> Heads:
        return super().heads(config, layer, {"v": tensors["k"], **tensors})
