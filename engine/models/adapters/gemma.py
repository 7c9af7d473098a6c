"""Gemma 2, 3, 3n and 4 (the text part)."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

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

    A stored number multiplies the whole output of each block. Global layers have wider heads than sliding ones, and the
    last layers may read the keys and values that the last earlier layer of their kind has made.
    """

    family = "gemma4"
    prefixes = Gemma3.prefixes
    norm_paths = NORMS | QK_NORMS
    rotary_class = "gemma4.modeling_gemma4.Gemma4TextRotaryEmbedding"
    qk_norm = "head"

    def closed_form_refusal(self, config: Any) -> str | None:
        text = config.get_text_config()
        if text.hidden_size_per_layer_input:
            return "Its blocks take an input of their own from each token, which is held fixed."
        if text.enable_moe_block:
            return "Its blocks choose among experts beside the MLP."
        if text.num_kv_shared_layers:
            return "Its last layers read keys and values of an earlier layer, which are held fixed."
        return super().closed_form_refusal(config)

    def causal(self, config: Any) -> bool:
        return config.use_bidirectional_attention != "all"

    def kv_source(self, config: Any, layer: int) -> int:
        return shared_source(config, layer)

    def notices(self, config: Any) -> tuple[str, ...]:
        return ("Values are normalised after projection; W_OV is the product without that.", *sharing_notices(config))

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


class Gemma3n(Gemma4):
    """As Gemma 4 with one width of heads; each layer carries several versions of the residual stream (AltUp).

    Attention and the MLP read one of them, the active one, after it is predicted from all.
    """

    family = "gemma3n"
    closed_form = False
    one_stream = False
    rotary_class = "gemma3n.modeling_gemma3n.Gemma3nRotaryEmbedding"

    def closed_form_refusal(self, config: Any) -> str | None:
        streams = config.get_text_config().altup_num_inputs
        return f"Its blocks carry {streams} versions of the residual stream and mix them (AltUp)."

    def causal(self, config: Any) -> bool:
        return True

    def notices(self, config: Any) -> tuple[str, ...]:
        return (
            f"Each block mixes {config.altup_num_inputs} versions of the residual stream (AltUp); what is shown is the "
            "active one, which attention and MLP read.",
            *super().notices(config),
        )

    def names(self, config: Any, layer: int) -> dict[str, str]:
        return Llama.names(self, config, layer)


def shared_source(config: Any, layer: int) -> int:
    """The layer whose keys and values this one reads: the last of its kind before the layers that share."""
    first = config.num_hidden_layers - config.num_kv_shared_layers
    if layer < first:
        return layer
    return max(at for at in range(first) if config.layer_types[at] == config.layer_types[layer])


def sharing_notices(config: Any) -> tuple[str, ...]:
    """What is said of shared keys and values, and of inputs that tokens give to each layer."""
    notices = []
    if config.num_kv_shared_layers:
        first = config.num_hidden_layers - config.num_kv_shared_layers
        notices.append(
            f"From layer {first} on, keys and values are those of an earlier layer: W_QK and W_OV join the residual "
            "stream of both layers, and Jacobians hold these keys and values fixed."
        )
    if config.hidden_size_per_layer_input:
        notices.append("Each layer takes an input of its own from the token, which Jacobians hold fixed.")
    return tuple(notices)
