"""Per-sample gradients of chosen weights: one backward pass for all of them, stored out of memory."""

ATTENTION_OUTPUT = "attention output"
LAYER = "{layer}"


def count(weight: str, n_layers: int) -> int:
    """Number of weights that a name stands for: one per layer, or a single one."""
    return n_layers if weight == ATTENTION_OUTPUT or LAYER in weight else 1
