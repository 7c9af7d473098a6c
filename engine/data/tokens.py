"""From a text to samples: fixed-length windows of token ids, drawn reproducibly from the seed."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from engine.data.splits import Split, divide, subject
from engine.data.texts import existing_file, load_documents
from engine.errors import UserError
from engine.request import DataSpec

PAD = -1
_POOL = 4  # tokens looked at for each token drawn, so that a huge data set need not be tokenised whole


def frame(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The special tokens that `tokenizer` itself puts before and after a text: BOS (Llama, Gemma), [CLS] and [SEP].

    Empty for GPT-2, Pythia and the built-in causal model, whose training windows began anywhere in the text.
    """
    inner = tokenizer("a", add_special_tokens=False)["input_ids"]
    outer = tokenizer("a")["input_ids"]
    at = next(i for i in range(len(outer)) if outer[i : i + len(inner)] == inner)
    return outer[:at], outer[at + len(inner) :]


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
    rng = np.random.default_rng(seed)
    if Path(spec.source).suffix.lower() == ".npy":
        entries = vocab_size if vocab_size is not None else len(tokenizer) if tokenizer is not None else None
        rows = given_rows(spec, entries, split)
        drawn = np.sort(rng.permutation(len(rows))[: spec.samples])
        return np.ascontiguousarray(rows[drawn, : spec.length])
    if tokenizer is None:
        raise UserError("This model has no tokenizer; give it a .npy file of token ids instead of a text.")

    before, after = frame(tokenizer)
    body = spec.length - len(before) - len(after)
    if body < 1:
        raise UserError(f"A sample of {spec.length} tokens has no room beside the model's special tokens; use more.")
    documents = load_documents(spec, split)
    pieces: list[int] = []
    for index in rng.permutation(len(documents)).tolist():
        text = documents[index]
        if text:
            pieces += tokenizer(text + "\n\n", add_special_tokens=False, verbose=False)["input_ids"]
        if len(pieces) >= _POOL * spec.samples * body:
            break
    count = len(pieces) // body
    if count < spec.samples:
        short = f"{subject(split)} has {len(pieces)} tokens, enough for {count} samples of {spec.length}"
        raise UserError(f"{short} but not {spec.samples}; use a longer text, fewer samples or shorter ones.")
    windows = np.array(pieces[: count * body], dtype=np.int64).reshape(count, body)
    windows = windows[rng.permutation(count)[: spec.samples]]
    ends = [np.broadcast_to(np.array(part, dtype=np.int64), (spec.samples, len(part))) for part in (before, after)]
    return np.concatenate([ends[0], windows, ends[1]], axis=1)


def given_rows(spec: DataSpec, vocab_size: int | None, split: Split = "all") -> NDArray[np.int64]:
    """The rows of a ``.npy`` file of token ids, checked, or those of one split in the file's order."""
    rows = _from_npy(existing_file(Path(spec.source).expanduser()), vocab_size)
    if split == "all":
        return rows
    if len(rows) < 2:
        raise UserError(f"“{Path(spec.source).name}” has one row of token ids, so no part of it can be held out.")
    return rows[sorted(divide(len(rows))[split == "test"])]


def _from_npy(path: Path, vocab_size: int | None) -> NDArray[np.int64]:
    """The rows of a file of token ids, each checked."""
    try:
        ids = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(
            f"“{path.name}” is not a NumPy array of numbers; save the ids with numpy.save.", str(error)
        ) from None
    if not isinstance(ids, np.ndarray) or ids.ndim != 2 or not np.issubdtype(ids.dtype, np.integer) or 0 in ids.shape:
        what = f"{ids.dtype} of shape {ids.shape}" if isinstance(ids, np.ndarray) else "an archive"
        raise UserError(f"“{path.name}” holds {what}; it must be integers of shape samples × tokens.")
    ids = ids.astype(np.int64)
    if (row := np.flatnonzero((ids < PAD).any(1))).size:
        raise UserError(f"Row {row[0]} of “{path.name}” has a negative id other than −1, which pads; check the file.")
    pads = ids == PAD
    if (row := np.flatnonzero(pads[:, 0] | (pads[:, :-1] & ~pads[:, 1:]).any(1))).size:
        raise UserError(f"Row {row[0]} of “{path.name}” is empty or has a token after a pad; −1 may only end a row.")
    if vocab_size is not None and (row := np.flatnonzero((ids >= vocab_size).any(1))).size:
        raise UserError(
            f"Row {row[0]} of “{path.name}” has id {ids[row[0]].max()}, but this model knows only 0 to "
            f"{vocab_size - 1}; the ids were made with another tokenizer."
        )
    return ids
