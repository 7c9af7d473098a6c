"""Gradients of each sample's loss: of which weights, all of them from one backward pass, kept out of memory."""

ATTENTION_OUTPUT = "attention output"
LAYER = "{layer}"


def count(weight: str, n_layers: int) -> int:
    """How many weights a name stands for: one in each layer, or a single one."""
    return n_layers if weight == ATTENTION_OUTPUT or LAYER in weight else 1
