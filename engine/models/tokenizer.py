"""The tokenizer of a model's folder, checked against its embedding."""

from contextlib import suppress
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from engine.errors import UserError, boundary
from engine.models.checkpoint import plain_name
from engine.models.folder import present, read_json, require_readable

# With none of these the library would make up a tokenizer of two tokens.
VOCABULARIES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
)
CONFIG = "tokenizer_config.json"
OTHERS = "fast_tokenizer_files"
"""Names of further files, one for each version of the library."""
TRIAL = "The cat sat on the mat."


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load a folder's tokenizer, from the folder alone and without its code.

    Raises
    ------
    UserError
        If there is none, or it cannot be read.
    """
    if not has_vocabulary(folder):
        raise UserError(
            f"No tokenizer came with the model in {folder}: its weights can be analysed, and data must be token ids "
            "(a .npy file). To read text, copy the tokenizer files from the model's hub page."
        )
    require_readable(folder)
    if present(folder / CONFIG):
        require_inside(folder / CONFIG)
    with boundary(
        f"Data must be token ids (a .npy file), because the tokenizer in {folder} cannot be loaded",
        "To read text, download the tokenizer again.",
    ):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
        # Some parts of the library in Rust panic only when they are used. That it knows no word of this is no fault.
        with suppress(Exception):
            tokenizer.decode(tokenizer(TRIAL)["input_ids"])
    return tokenizer


def has_vocabulary(folder: Path) -> bool:
    """Whether a folder holds a tokenizer."""
    return any(present(folder / name) for name in VOCABULARIES)


def require_inside(config: Path) -> None:
    """Refuse a config of a tokenizer that sends the library to files of another folder."""
    others = read_json(config).get(OTHERS) or []
    if not isinstance(others, list) or not all(isinstance(name, str) and plain_name(name) for name in others):
        raise UserError(
            f"{OTHERS} in {config} is no list of names of files beside it, so data must be token ids (a .npy file). To "
            "read text, download the tokenizer again."
        )


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, folder: Path, rows: int) -> tuple[str, ...]:
    """Compare a tokenizer with an embedding of `rows` rows, and return what the user should know.

    Special tokens without a row pass with a notice: Gemma 3 has such a one for images, which text never makes.

    Raises
    ------
    UserError
        If ordinary text can make token ids that the embedding has no row for.
    """
    outside = {index: token for token, index in tokenizer.get_vocab().items() if index >= rows}
    special = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    if outside.keys() - special:
        raise UserError(
            f"The tokenizer in {folder} makes token ids up to {max(outside):,}, and the model's embedding has only "
            f"{rows:,} rows: they do not belong together. Use the tokenizer that came with the model."
        )
    if outside:
        return (f"The embedding has no row for the special token {', '.join(outside.values())}; keep it out of texts.",)
    entries = len(tokenizer.get_vocab())
    if entries < rows // 2:
        return (f"The tokenizer knows only {entries:,} of the embedding's {rows:,} tokens; it may be another model's.",)
    return ()
