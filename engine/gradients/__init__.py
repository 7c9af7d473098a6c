"""Per-sample gradients of chosen weights: one backward pass for all of them, stored out of memory."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.models.info import ModelInfo

ATTENTION_OUTPUT = "attention output"
LAYER = "{layer}"


def layers_of(weight: str, info: "ModelInfo") -> tuple[int, ...]:
    """The layers whose weights a name stands for, in order; that of a single weight counts as layer 0."""
    if weight == ATTENTION_OUTPUT and info.headed_layers:
        return info.headed_layers
    return tuple(range(info.n_layers)) if weight == ATTENTION_OUTPUT or LAYER in weight else (0,)
