"""Models with softmax heads in some of their layers: the others mix tokens by recurrence or convolution."""

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from engine.models.adapters.block import Rotary
from engine.models.adapters.llama import Llama, attention_bias
from engine.models.adapters.olmo import Olmo2

FEED_FORWARD = {
    "in": "feed_forward.up_proj",
    "gate": "feed_forward.gate_proj",
    "out": "feed_forward.down_proj",
}
ATTENTION = {role: path for role, path in Llama.linears.items() if role in "qkvo"}


class Hybrid(Llama):
    """As Llama in the layers of full attention, which alone have heads.

    Attributes
    ----------
    other : str
        By what the other layers mix tokens.
    """

    other: ClassVar[str] = "a Mamba mixer"
    closed_form = False

    def attends(self, config: Any, layer: int) -> bool:
        return config.layer_types[layer] == "full_attention"

    def closed_form_refusal(self, config: Any) -> str | None:
        return f"Some of its layers mix tokens by {self.other} in place of softmax attention."


class Jamba(Hybrid):
    """No positions at all; experts in some layers."""

    family = "jamba"
    linears = ATTENTION | FEED_FORWARD
    norm_paths = {"attn_norm": "input_layernorm", "mlp_norm": "pre_ff_layernorm"}
    final_norm = "final_layernorm"
    rotary_class = None

    def biased(self, config: Any) -> Collection[str]:
        return ()


class Bamba(Hybrid):
    """Partial rotary in the layers with heads."""

    family = "bamba"
    linears = ATTENTION | FEED_FORWARD
    norm_paths = Jamba.norm_paths
    final_norm = "final_layernorm"
    rotary_class = "bamba.modeling_bamba.BambaRotaryEmbedding"


class FalconH1(Bamba):
    """Each block runs a Mamba mixer beside its heads; fixed numbers multiply what passes between its parts."""

    family = "falcon_h1"
    rotary_class = "falcon_h1.modeling_falcon_h1.FalconH1RotaryEmbedding"

    def attends(self, config: Any, layer: int) -> bool:
        return True

    def closed_form_refusal(self, config: Any) -> str | None:
        return "Each of its blocks runs a Mamba mixer beside attention."

    def notices(self, config: Any) -> tuple[str, ...]:
        return (
            "Fixed numbers multiply what enters attention, its keys and its output; W_QK and W_OV are the products of "
            "the stored matrices without them.",
        )


class GraniteMoeHybrid(Hybrid):
    """As Granite in the layers with heads: the config says what multiplies scores, and whether positions are rotary."""

    family = "granitemoehybrid"
    linears = ATTENTION | {"in": "shared_mlp.input_linear", "out": "shared_mlp.output_linear"}

    def biased(self, config: Any) -> Collection[str]:
        return attention_bias(config)

    def scale(self, config: Any, layer: int) -> float:
        return config.attention_multiplier

    def rotates(self, config: Any) -> bool:
        return config.position_embedding_type == "rope"

    def rotary(self, config: Any, layer: int) -> Rotary | None:
        return super().rotary(config, layer) if self.rotates(config) else None


class NemotronH(Hybrid):
    """Each block is one mixer alone: Mamba, softmax heads, an MLP, or experts; no positions."""

    family = "nemotron_h"
    other = "a Mamba mixer, or not at all,"
    prefixes = ("model.", "backbone.")
    linears: ClassVar[Mapping[str, str]] = {
        "q": "mixer.q_proj",
        "k": "mixer.k_proj",
        "v": "mixer.v_proj",
        "o": "mixer.o_proj",
        "in": "mixer.up_proj",
        "out": "mixer.down_proj",
    }
    norm_paths: ClassVar[Mapping[str, str]] = {"attn_norm": "norm", "mlp_norm": "norm"}
    final_norm = "norm_f"
    rotary_class = None

    def biased(self, config: Any) -> Collection[str]:
        return ()

    def eps(self, config: Any) -> float:
        return config.layer_norm_epsilon


class Lfm2(Hybrid):
    """Norms on queries and keys; the layers without heads are short convolutions."""

    family = "lfm2"
    other = "a short convolution"
    linears = ATTENTION | {
        "o": "self_attn.out_proj",
        "gate": "feed_forward.w1",
        "in": "feed_forward.w3",
        "out": "feed_forward.w2",
    }
    norm_paths = {
        "attn_norm": "operator_norm",
        "mlp_norm": "ffn_norm",
        "q_norm": "self_attn.q_layernorm",
        "k_norm": "self_attn.k_layernorm",
    }
    final_norm = "embedding_norm"
    rotary_class = "lfm2.modeling_lfm2.Lfm2RotaryEmbedding"
    qk_norm = "head"

    def biased(self, config: Any) -> Collection[str]:
        return ()

    def eps(self, config: Any) -> float:
        return config.norm_eps


class Lfm2Moe(Lfm2):
    """As LFM2, with experts in most layers."""

    family = "lfm2_moe"
    rotary_class = "lfm2_moe.modeling_lfm2_moe.Lfm2MoeRotaryEmbedding"


class OlmoHybrid(Hybrid, Olmo2):
    """As OLMo 2 in the layers with heads; the others are gated linear attention, with their norms before them."""

    family = "olmo_hybrid"
    other = "gated linear attention"
    rotary_class = "olmo_hybrid.modeling_olmo_hybrid.OlmoHybridRotaryEmbedding"

    def rotates(self, config: Any) -> bool:
        return config.rope_parameters is not None

    def rotary(self, config: Any, layer: int) -> Rotary | None:
        return super().rotary(config, layer) if self.rotates(config) else None


class MiniMax(Hybrid):
    """The residual stream is the norm's output, scaled by fixed numbers; experts in each layer."""

    family = "minimax"
    other = "linear (lightning) attention"
    rotary_class = "minimax.modeling_minimax.MiniMaxRotaryEmbedding"

    def biased(self, config: Any) -> Collection[str]:
        return ()
