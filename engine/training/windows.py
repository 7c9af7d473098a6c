"""The text as a training run sees it: split, windows, masks. All of it is drawn from the seed and the step alone."""

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from engine.errors import UserError

Tokens = NDArray[np.int64]


def unigram_entropy(tokens: Tokens) -> float:
    """Entropy −Σ p ln p (nats) of the token frequencies p of `tokens` (n,)."""
    counts = np.unique(tokens, return_counts=True)[1]
    p = counts / counts.sum()
    return float(-(p * np.log(p)).sum())


class Windows:
    """The text as windows of `length` tokens; each epoch cuts it anew (its own offset) and shuffles anew.

    `least` is how many windows the text must hold: training needs two, for the offset.
    """

    def __init__(self, stream: Tokens, length: int, ends: tuple[list[int], list[int]], *, least: int = 2) -> None:
        self.before, self.after = (np.array(part, dtype=np.int64) for part in ends)
        self.length = length - len(self.before) - len(self.after)
        if self.length < 1 or len(stream) < least * self.length:
            raise UserError(
                f"The text has {len(stream)} tokens in this part, too few for windows of {length}; "
                "use more text or shorter windows."
            )
        self.stream = stream
        self.count = len(stream) // self.length - 1  # one less than fits: room for the offset

    def _cut(self, starts: Tokens) -> Tokens:
        """Windows (len(starts), length) that begin at `starts`, framed by the special tokens."""
        body = self.stream[starts[:, None] + np.arange(self.length)]
        ends = [np.broadcast_to(part, (len(starts), len(part))) for part in (self.before, self.after)]
        return np.concatenate([ends[0], body, ends[1]], axis=1)

    def batch(self, step: int, size: int, seed: int) -> Tokens:
        """The batch (size, length) of `step`: a function of step and seed only."""
        positions = np.arange(step * size, (step + 1) * size)
        starts = np.empty(size, dtype=np.int64)
        for epoch in np.unique(positions // self.count):
            rng = np.random.default_rng([seed, int(epoch)])
            offset, order = rng.integers(self.length + 1), rng.permutation(self.count)
            here = positions // self.count == epoch
            starts[here] = offset + order[positions[here] % self.count] * self.length
        return self._cut(starts)

    def all(self) -> Tokens:
        """Every window of the text, end to end (n, length)."""
        return self._cut(np.arange(len(self.stream) // self.length) * self.length)


def mask(
    windows: Tokens, tokenizer: PreTrainedTokenizerBase, rate: float, seed: int, step: int
) -> tuple[Tokens, Tokens]:
    """BERT's masking: of the chosen tokens 80 % become [MASK], 10 % random, 10 % stay; the rest is labelled −100."""
    rng = np.random.default_rng([seed, step, 1])
    chosen = (rng.random(windows.shape) < rate) & ~np.isin(windows, tokenizer.all_special_ids)
    kind = rng.random(windows.shape)
    inputs = np.where(chosen & (kind < 0.8), tokenizer.mask_token_id, windows)
    anything = rng.integers(len(tokenizer), size=windows.shape)
    inputs = np.where(chosen & (kind >= 0.8) & (kind < 0.9), anything, inputs)
    return inputs, np.where(chosen, windows, -100)
