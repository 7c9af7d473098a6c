"""What is known of a model without its weights: from its config, and from what its architecture does with a text."""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.errors import UserError
from engine.models.adapters import Adapter
from engine.models.config import Architecture
from engine.models.info import Fact, HeadShape
from engine.models.rehearsal import Rehearsal


def facts(architecture: Architecture, adapter: Adapter | None, rehearsal: Rehearsal | None) -> dict[str, Any]:
    """The fields of `ModelInfo` that the architecture alone decides.

    Raises
    ------
    UserError
        If the config describes something that names and shapes cannot represent.
    """
    known = adapter.facts(architecture.config) if adapter else facts_without_adapter(architecture)
    if rehearsal is None:
        return known
    if rehearsal.causal is not None:
        known["causal"] = rehearsal.causal
    if adapter is None:
        known["n_layers"] = len(rehearsal.blocks) or known["n_layers"]
        known["d_model"] = rehearsal.width or known["d_model"]
        known["n_heads"] = max(rehearsal.heads, default=0) or known["n_heads"]
        known["head_shapes"] = _shapes(rehearsal.heads, known)
        known["notices"] += (
            f"Blocks of {architecture.model.__name__} read something that an earlier block left beside the residual "
            "stream; Jacobians hold it fixed.",
        ) * rehearsal.beside
    if rehearsal.positions:
        known["context"] = min(known["context"] or rehearsal.positions, rehearsal.positions)
    if "CausalLM" in architecture.model.__name__ and not known["causal"]:
        known["notices"] += (
            f"In this {architecture.model.__name__} a token reads those after it, so it is measured like a masked "
            "model. A model that predicts the next token has is_decoder set in its config.json.",
        )
    return known


def _shapes(heads: Sequence[int], known: Mapping[str, Any]) -> tuple[HeadShape | None, ...]:
    """The heads of each layer as far as they were seen; empty where all layers show as many."""
    if len(set(heads)) < 2 or len(heads) != known["n_layers"]:
        return ()
    widths = {name: known[name] for name in ("n_kv_heads", "d_head")}
    return tuple(HeadShape(n_heads=count, **widths) if count else None for count in heads)


def facts_without_adapter(architecture: Architecture) -> dict[str, Any]:
    """What a config says under the library's usual names; zero where it says nothing."""
    config = architecture.config.get_text_config()

    def number(name: str) -> int:
        value = getattr(config, name, None)
        return max(value, 0) if isinstance(value, int) else 0

    heads = number("num_attention_heads")
    return {
        "family": "unsupported",
        "causal": "CausalLM" in architecture.model.__name__,
        "n_layers": number("num_hidden_layers"),
        "d_model": number("hidden_size"),
        "n_heads": heads,
        "n_kv_heads": number("num_key_value_heads") or heads,
        "d_head": number("head_dim") or (number("hidden_size") // heads if heads else 0),
        "vocab_size": number("vocab_size"),
        "context": number("max_position_embeddings"),
        "norm": "none",
        "rotary": False,
        "qk_norm": False,
        "notices": (),
    }


def lacks(
    architecture: Architecture,
    adapter: Adapter | None,
    rehearsal: Rehearsal | None,
    causal: bool,
    mask: bool,
) -> dict[Fact, str]:
    """The facts that an analysis could need and this model does not have, and why, each in one sentence.

    `mask` says whether its tokenizer has a mask token.
    """
    name = architecture.model.__name__
    lacking: dict[Fact, str] = {}
    if adapter is None:
        lacking["heads"] = f"Eigenscope has no adapter for {name}, so it cannot find the matrices of its heads."
    if rehearsal is None:
        return lacking
    if rehearsal.refusal:
        return lacking | {"text": rehearsal.refusal}
    if rehearsal.no_blocks:
        lacking["blocks"] = rehearsal.no_blocks
    if rehearsal.no_stream:
        lacking["stream"] = rehearsal.no_stream
    if not rehearsal.heads:
        lacking["attention"] = rehearsal.no_blocks
    elif not any(rehearsal.heads):
        lacking["attention"] = f"The layers of {name} do not show the weights of a softmax attention."
    if not rehearsal.vocabulary:
        lacking["loss"] = f"{name} has no language-model head, which gives a number for each entry of the vocabulary."
    elif not causal and not mask:
        lacking["loss"] = (
            f"{name} reads in both directions and has no tokenizer with a mask token, so no token can be predicted."
        )
    return lacking


def require_one_stack(architecture: Architecture, skeleton: Any) -> None:
    """Refuse a model that is an encoder and a decoder.

    Raises
    ------
    UserError
    """
    base = getattr(skeleton, "base_model", skeleton)
    stacks = hasattr(base, "encoder") and hasattr(base, "decoder")
    if stacks and getattr(architecture.config, "is_encoder_decoder", False):
        raise UserError(
            f"{architecture.model.__name__} is an encoder and a decoder, two stacks of blocks of which one reads the "
            "other, and Eigenscope looks at one stack. Choose an encoder or a decoder that stands alone."
        )
