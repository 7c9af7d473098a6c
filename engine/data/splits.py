"""The training part of a text and the part that is held out: one division for training and for measuring."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from engine.data.documents import Chosen, TextBlocks
from engine.errors import UserError

Split = Literal["all", "train", "test"]
HELD_OUT = 0.05
"""Share of the documents that is never trained on, by default."""


def subject(split: Split) -> str:
    """How a sentence about a split begins."""
    return {"all": "The text", "train": "The training part of the text", "test": "The held-out part of the text"}[split]


def divide(n: int, held_out: float = HELD_OUT, seed: int = 0) -> tuple[list[int], list[int]]:
    """Indices of the training documents and of the held-out ones (the last of a seeded shuffle; at least one each)."""
    if n < 2:
        raise UserError("Training needs at least two documents, one of them to hold out; the text has fewer.")
    order = np.random.default_rng(seed).permutation(n).tolist()
    cut = min(max(1, round(n * held_out)), n - 1)
    return order[:-cut], order[-cut:]


def part(documents: Sequence[str], split: Split) -> Sequence[str]:
    """The documents of one split: those that `divide` puts there, or one running text's own first or last part."""
    if split == "all":
        return documents
    if len(documents) == 1:
        (text,) = documents
        at = _cut(text)
        return [text[:at] if split == "train" else text[at:]]
    if isinstance(documents, TextBlocks):
        at = round(len(documents) * (1 - HELD_OUT))
        return documents[:at] if split == "train" else documents[at:]
    return Chosen(documents, divide(len(documents))[split == "test"])


def _cut(text: str) -> int:
    """Where the held-out end of a text begins: at the paragraph, else the line, else the word nearest to its share."""
    target, reach = round(len(text) * (1 - HELD_OUT)), round(len(text) * HELD_OUT / 2)
    for mark in ("\n\n", "\n", " "):
        before = text.rfind(mark, target - reach, target)
        after = text.find(mark, target, target + reach)
        borders = [at + len(mark) for at in (before, after) if at >= 0]
        if borders:
            return min(borders, key=lambda at: abs(at - target))
    return target
