"""From a text to sentences: Punkt learnt on the text itself, so that nothing is downloaded (methods §6)."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from engine.data.splits import Split, subject
from engine.data.texts import load_documents
from engine.data.tokens import PAD, frame
from engine.errors import UserError
from engine.request import DataSpec

# Punkt learns abbreviations, collocations and sentence starters; half a million characters show the common ones.
_LEARN_CHARACTERS = 2**19
# Shorter ones are headings and exclamations, whose last token has next to no context.
SHORTEST = 4


@lru_cache(maxsize=2)  # a model, its twin and its checkpoints read the same text, or its two splits in turn
def split_sentences(documents: tuple[str, ...]) -> tuple[str, ...]:
    """The different sentences of `documents`, sorted, their white space made single spaces (Kiss and Strunk 2006)."""
    from nltk.tokenize.punkt import PunktSentenceTokenizer, PunktTrainer

    trainer = PunktTrainer()
    trainer.train("\n\n".join(documents)[:_LEARN_CHARACTERS], finalize=True)
    punkt = PunktSentenceTokenizer(trainer.get_params())
    return tuple(sorted({" ".join(sentence.split()) for text in documents for sentence in punkt.tokenize(text)}))


def sentences(
    spec: DataSpec, tokenizer: PreTrainedTokenizerBase, seed: int, *, split: Split = "all"
) -> NDArray[np.int64]:
    """Draw `spec.samples` different sentences, each cut after `spec.length` tokens (S0: 100).

    Parameters
    ----------
    spec : DataSpec
        `length` counts the special tokens of `frame`, which every sentence gets.
    tokenizer : PreTrainedTokenizerBase
    seed : int
        Of the draw without replacement; sentences of fewer than 4 tokens are passed over.
    split : {"all", "train", "test"}
        Which part of the text they are drawn from.

    Returns
    -------
    (N, T) int64 array
        Token ids, padded with −1 to the longest drawn.

    Raises
    ------
    UserError
        If the text has too few sentences, or a sample has no room for one.
    """
    before, after = frame(tokenizer)
    body = spec.length - len(before) - len(after)
    if body < SHORTEST:
        raise UserError(
            f"A sample of {spec.length} tokens has no room for a sentence of {SHORTEST} beside the model's special "
            "tokens; use longer samples."
        )
    candidates = split_sentences(tuple(text for text in load_documents(spec, split) if text))
    rows: list[list[int]] = []
    for index in np.random.default_rng(seed).permutation(len(candidates)).tolist():
        ids = tokenizer(candidates[index], add_special_tokens=False, verbose=False)["input_ids"]
        if len(ids) >= SHORTEST:
            rows.append([*before, *ids[:body], *after])
        if len(rows) == spec.samples:
            break
    else:
        raise UserError(
            f"{subject(split)} has {len(rows)} different sentences of at least {SHORTEST} tokens, not {spec.samples}; "
            "use fewer samples, a longer text, or windows in place of sentences."
        )
    padded = np.full((len(rows), max(map(len, rows))), PAD, dtype=np.int64)
    for row, ids in zip(padded, rows, strict=True):
        row[: len(ids)] = ids
    return padded
