"""From a text to samples: fixed-length windows of token ids, drawn reproducibly from the seed."""

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from engine.data.encoding import encode, frame
from engine.data.ids import given_rows
from engine.data.splits import Split, subject
from engine.data.texts import load_documents
from engine.errors import UserError
from engine.request import DEFAULT_LENGTH, DataSpec

_POOL = 4  # tokens looked at for each token drawn, so that a huge data set need not be tokenised whole


def tokens(
    spec: DataSpec,
    tokenizer: PreTrainedTokenizerBase | None,
    seed: int,
    *,
    vocab_size: int | None = None,
    split: Split = "all",
) -> NDArray[np.int64]:
    """Draw `spec.samples` samples of `spec.length` tokens.

    Documents are taken in a seeded order, joined by blank lines, and cut into windows that do not overlap; the windows
    are drawn without replacement. A window counts the special tokens of `frame`, which every one of them gets.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase or None
        Only a ``.npy`` file of token ids can do without.
    vocab_size : int, optional
        How many ids the model knows; the tokenizer's own number by default.
    split : {"all", "train", "test"}
        Which part of the text, or of the rows of a file, they are drawn from: the parts that training knows.

    Returns
    -------
    (N, T) int64 array
        Token ids; −1 pads the ends of rows, which only a ``.npy`` file can bring. Such a file gives its own rows, at
        most `spec.samples` of them (drawn from the seed, in the file's order) and at most `spec.length` wide.

    Raises
    ------
    UserError
        If the text is too short, or a file's ids are not what the model can read.
    """
    if spec.is_ids:
        entries = vocab_size if vocab_size is not None else len(tokenizer) if tokenizer is not None else None
        return given_rows(spec, entries, split, most=spec.samples, width=spec.length, seed=seed)
    if tokenizer is None:
        raise UserError("This model has no tokenizer; give it a .npy file of token ids instead of a text.")

    before, after = frame(tokenizer)
    length = spec.length or DEFAULT_LENGTH
    body = length - len(before) - len(after)
    if body < 1:
        raise UserError(f"A sample of {length} tokens has no room beside the model's special tokens; use more.")
    documents = load_documents(spec, split)
    rng = np.random.default_rng(seed)
    pieces: list[NDArray[np.int64]] = []
    total = 0
    for index in rng.permutation(len(documents)).tolist():
        if text := documents[index]:
            pieces.append(np.array(encode(tokenizer, text + "\n\n"), dtype=np.int64))
            total += len(pieces[-1])
        if total >= _POOL * spec.samples * body:
            break
    count = total // body
    if count < spec.samples:
        short = f"{subject(split)} has {total} tokens, enough for {count} samples of {length}"
        raise UserError(f"{short} but not {spec.samples}; use a longer text, fewer samples or shorter ones.")
    windows = np.concatenate(pieces)[: count * body].reshape(count, body)
    windows = windows[rng.permutation(count)[: spec.samples]]
    ends = [np.broadcast_to(np.array(part, dtype=np.int64), (spec.samples, len(part))) for part in (before, after)]
    return np.concatenate([ends[0], windows, ends[1]], axis=1)
