"""The loss of each sequence, for causal and masked models: one definition for every analysis that measures it.

A causal model predicts each token from those before it. In front of a masked model 15 % of a sequence's tokens are
hidden as BERT's training does it, and only those are predicted. Which ones is drawn from the seed and the sequence's
own number, so it does not depend on how sequences are batched.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from engine.errors import UserError

IGNORED = -100
MASK_RATE = 0.15


@dataclass(frozen=True)
class Batch:
    """Sequences as the library's model takes them, and what it is to predict at each position.

    `inputs` are its keyword arguments; `targets` (B, T) holds the id that the logits of the same position predict, or
    −100 where nothing is predicted.
    """

    inputs: dict[str, Tensor]
    targets: Tensor


class Objective:
    """What a model was trained to predict.

    Parameters
    ----------
    causal : bool
    pad : int or None
        The id that stands at padded positions; any will do.
    tokenizer : PreTrainedTokenizerBase, optional
        Masked models need it, for the id of the mask and for the special tokens, which are never hidden.

    Raises
    ------
    UserError
        If the model is a masked one and there is no mask token.
    """

    def __init__(
        self, causal: bool, pad: int | None, tokenizer: PreTrainedTokenizerBase | None = None, seed: int = 0
    ) -> None:
        self._causal, self._pad, self._seed, self._mask = causal, pad or 0, seed, 0
        self._special: list[int] = []
        if causal:
            return
        if tokenizer is None or tokenizer.mask_token_id is None:
            raise UserError(
                "This model reads in both directions and its tokenizer has no mask token, so it has no loss to take. "
                "Choose a causal or a masked language model."
            )
        self._mask, self._special, self._words = tokenizer.mask_token_id, tokenizer.all_special_ids, len(tokenizer)

    def batch(self, tokens: NDArray[np.int64], numbers: Sequence[int], device: str = "cpu") -> Batch:
        """The sequences `numbers` of `tokens` (N, T), in which −1 pads, no longer than the longest of them."""
        rows = tokens[list(numbers)]
        rows = rows[:, : max(int((rows >= 0).sum(1).max()), 1)]
        real = rows >= 0
        if self._causal:
            shown = rows
            targets = np.full_like(rows, IGNORED)
            targets[:, :-1] = np.where(real[:, 1:], rows[:, 1:], IGNORED)
        else:
            hidden = [self._hide(row, number) for row, number in zip(rows, numbers, strict=True)]
            shown, targets = (np.stack(part) for part in zip(*hidden, strict=True))
        inputs = {"input_ids": np.where(real, shown, self._pad), "attention_mask": real.astype(np.int64)}
        return Batch(
            {name: torch.from_numpy(values).to(device) for name, values in inputs.items()},
            torch.from_numpy(targets).to(device),
        )

    def _hide(self, row: NDArray[np.int64], number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """BERT's masking: of the chosen tokens 80 % become the mask, 10 % a random token, 10 % stay (Devlin 2019)."""
        rng = np.random.default_rng([self._seed, number, 1])
        draws, kind = rng.random(len(row)), rng.random(len(row))
        words = np.flatnonzero((row >= 0) & ~np.isin(row, self._special))
        chosen = np.zeros(len(row), dtype=bool)
        # A share of each sequence, at least one token, so that every sequence has a loss.
        chosen[words[draws[words].argsort()[: max(1, round(MASK_RATE * len(words)))]]] = True
        shown = np.where(chosen & (kind < 0.8), self._mask, row)
        shown = np.where(chosen & (kind >= 0.9), rng.integers(self._words, size=len(row)), shown)
        return shown, np.where(chosen, row, IGNORED)


def sequence_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean loss of each sequence over its predicted tokens, in nats, (B,); NaN where nothing is predicted.

    Parameters
    ----------
    logits : Tensor (B, T, V)
    targets : Tensor (B, T)
        As `Batch.targets`.
    """
    wide = logits if logits.dtype == torch.float64 else logits.float()
    each = functional.cross_entropy(wide.flatten(0, 1), targets.flatten(), reduction="none", ignore_index=IGNORED)
    return each.view_as(targets).sum(1) / (targets != IGNORED).sum(1)


def vocabulary_logits(output: Any, module: Any) -> Tensor | None:
    """The logits (B, T, V) over the vocabulary in the library's output; None where the model's head is another one.

    They are what the output calls logits (``prediction_logits`` in BERT's pre-training) and as wide as the output
    embeddings or, where the library names none, the vocabulary.
    """
    head = module.get_output_embeddings()
    weight = getattr(head, "weight", None)
    width = module.config.get_text_config().vocab_size if weight is None else len(weight)
    return next(
        (
            values
            for name, values in output.items()
            if "logits" in name and isinstance(values, Tensor) and values.ndim == 3 and values.shape[2] == width
        ),
        None,
    )


def logits_of(output: Any, module: Any) -> Tensor:
    """The logits over the vocabulary in the library's output.

    Raises
    ------
    UserError
        If the model has no language-model head.
    """
    logits = vocabulary_logits(output, module)
    if logits is None:
        raise UserError(
            "This checkpoint has no language-model head, so its text has no loss. Choose a causal or a masked "
            "language model."
        )
    return logits
