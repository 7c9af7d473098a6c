"""A tokenizer asked for the ids of a text, and for the special tokens that it puts around one."""

import numpy as np
from numpy.typing import ArrayLike
from transformers import PreTrainedTokenizerBase

from engine.errors import UserError, boundary

PAD = -1
_REMEDY = "Choose another text, or give token ids (a .npy file)."
_BODY = 2**32 - 1  # no vocabulary has this id


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The ids of a text, without special tokens; raises as `encode_all`."""
    return encode_all(tokenizer, [text])[0]


def encode_all(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """The ids of each text, without special tokens.

    Raises
    ------
    UserError
        If the tokenizer cannot read the text, whatever it raises: some have no word for what they do not know.
    """
    with boundary("The model's tokenizer cannot read the text", _REMEDY):
        ids: list[list[int]] = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] if texts else []
    return ids


def frame(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The special tokens that `tokenizer` itself puts before and after a text: BOS (Llama, Gemma), [CLS] and [SEP].

    Empty for GPT-2, Pythia and the built-in causal model, whose training windows began anywhere in the text.
    """
    with boundary("The model's tokenizer does not say which special tokens it adds", _REMEDY):
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            outer = tokenizer.build_inputs_with_special_tokens([_BODY])
        elif backend.post_processor is None:
            return [], []
        else:
            # No text is encoded: there is none that every vocabulary knows. A pad stands for it.
            body = backend.encode("", add_special_tokens=False)
            body.pad(1, pad_id=_BODY)
            outer = backend.post_processor.process(body).ids
        at = outer.index(_BODY)
    return outer[:at], outer[at + 1 :]


def require_known(ids: ArrayLike, vocab_size: int) -> None:
    """Refuse token ids of a text for which the model's embedding of `vocab_size` rows has none.

    An embedding answers them with an error of the library, and on a GPU with the end of the process's work there.

    Raises
    ------
    UserError
        It names the largest id.
    """
    largest = int(np.max(np.asarray(ids, dtype=np.int64), initial=-1))
    if largest >= vocab_size:
        raise UserError(
            f"The tokenizer makes token id {largest} of this text, but the model knows only 0 to {vocab_size - 1}. "
            "Take special tokens out of the text; if there are none, use the tokenizer that came with the model."
        )
