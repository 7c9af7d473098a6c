"""Samples that are sentences of a text, drawn reproducibly from the seed (methods §0)."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from engine.data.documents import is_large
from engine.data.encoding import PAD, encode, frame
from engine.data.splits import Split, subject
from engine.data.splitting import LEARN_CHARACTERS, split_sentences
from engine.data.texts import load_documents
from engine.errors import UserError, boundary
from engine.request import DEFAULT_LENGTH, DataSpec

# Shorter ones are headings and exclamations, whose last token has next to no context.
SHORTEST = 4
# Characters of a large text that are looked at for each sentence drawn: at first, and at most.
_POOL, _MOST_POOL = 2**10, 2**16


def sentences(
    spec: DataSpec, tokenizer: PreTrainedTokenizerBase, seed: int, *, split: Split = "all"
) -> NDArray[np.int64]:
    """Draw `spec.samples` different sentences, each cut after `spec.length` tokens (S0: 100).

    They are drawn from all sentences of the text; of a large one, from those of documents that are drawn first.

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
    length = spec.length or DEFAULT_LENGTH
    body = length - len(before) - len(after)
    if body < SHORTEST:
        raise UserError(
            f"A sample of {length} tokens has no room for a sentence of {SHORTEST} beside the model's special "
            "tokens; use longer samples."
        )
    rng = np.random.default_rng(seed)
    documents = load_documents(spec, split)
    large = is_large(documents)
    rows: list[list[int]] = []
    for pool in _pools(documents, spec.samples, rng) if large else [tuple(filter(None, documents))]:
        # The published numbers of the built-in text were made by Punkt alone.
        with boundary("The text cannot be cut into sentences", "Choose windows in place of sentences."):
            candidates = split_sentences(pool, rules=spec.source != "builtin")
        rows.clear()
        for index in rng.permutation(len(candidates)).tolist():
            if len(ids := encode(tokenizer, candidates[index])) >= SHORTEST:
                rows.append([*before, *ids[:body], *after])
            if len(rows) == spec.samples:
                return _padded(rows)
    whole = ", as far as it was read," if large else ""
    raise UserError(
        f"{subject(split)}{whole} has {len(rows)} different sentences of at least {SHORTEST} tokens, not "
        f"{spec.samples}; use fewer samples, a longer text, or windows in place of sentences."
    )


def _pools(documents: Sequence[str], samples: int, rng: np.random.Generator) -> Iterator[tuple[str, ...]]:
    """Documents in a random order, enough for `samples` sentences; then twice as many, and so on to many of them."""
    pool: list[str] = []
    characters, wanted = 0, max(LEARN_CHARACTERS, _POOL * samples)
    for index in rng.permutation(len(documents)).tolist():
        if text := documents[index]:
            pool.append(text)
            characters += len(text)
        if characters >= wanted:
            yield tuple(pool)
            wanted *= 2
        if characters >= max(64 * LEARN_CHARACTERS, _MOST_POOL * samples):
            return
    yield tuple(pool)


def _padded(rows: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    padded = np.full((len(rows), max(map(len, rows))), PAD, dtype=np.int64)
    for row, ids in zip(padded, rows, strict=True):
        row[: len(ids)] = ids
    return padded
