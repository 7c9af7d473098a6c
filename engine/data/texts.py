"""From a text's name to its documents: built-in, a file, a saved data set, or one of the Hugging Face hub."""

import os
import re
import stat
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

from engine.data.builtin import builtin_documents
from engine.data.columns import text_column, value_text
from engine.data.documents import LARGE_TEXT, Documents, Text, TextBlocks, read_part, unreadable
from engine.data.jsonl import read_jsonl
from engine.data.rows import CHAT_NOTE, CHATS, whole_characters
from engine.data.saved import is_saved, read_arrow, read_saved, saved_files
from engine.data.splits import Split, part
from engine.data.tables import read_csv, read_parquet
from engine.errors import UserError, boundary
from engine.files import open_file
from engine.request import DataSpec

KINDS = ".txt, .jsonl or .parquet file (or .csv, .tsv, .arrow)"
_SPLITS = ("train", "validation", "test")
_MOST_NAMES = 2000  # of a folder's files that are compared with a mistyped name


def load_documents(spec: DataSpec, split: Split = "all") -> Sequence[str]:
    """The documents of `spec.source`, all of them in their own order, or those of one split.

    Of a large text they are read as they are asked for (methods §0).

    Raises
    ------
    UserError
        If there is no such text, it cannot be read, or it is empty.
    """
    return part(read_text(spec.source).documents, split)


def text_notes(spec: DataSpec) -> tuple[str, ...]:
    """What there is to say of how `spec.source` is read: rows passed over, characters replaced; raises as above."""
    return () if spec.is_ids else read_text(spec.source).notes


def read_text(source: str) -> Text:
    """What a source names, opened; raises as `load_documents`."""
    if source == "builtin":
        return Text(builtin_documents())
    with boundary(f"“{shortened(source)}” cannot be read as a text", "Check it, or choose another."):
        text = _from_hub(source) if source.startswith("hub:") else _from_path(existing(source))
        if not any(document and not document.isspace() for document in text.documents):
            raise UserError(f"“{source}” has no text in it; choose another.")
    return text


def source_hash(spec: DataSpec) -> str | None:
    """BLAKE2b of the file that `spec` names; None where it names none: the built-in text, or one from the hub.

    Raises
    ------
    UserError
        If there is no such file, or it cannot be read.
    """
    if spec.source == "builtin" or spec.source.startswith("hub:"):
        return None
    path = existing(spec.source)
    hasher = blake2b(digest_size=16)
    try:
        for file in saved_files(path) if path.is_dir() else [path]:
            with os.fdopen(open_file(file), "rb") as stream:
                while block := stream.read(1 << 20):
                    hasher.update(block)
    except OSError as error:
        raise unreadable(path.name, error) from None
    return hasher.hexdigest()


def shortened(name: str) -> str:
    """A name that fits into a sentence."""
    return name if len(name) <= 200 else f"{name[:100]}…{name[-100:]}"


def existing(source: str) -> Path:
    """A regular file, or the folder of a saved data set; else a sentence that says what is wrong with the name.

    Raises
    ------
    UserError
    """
    shown = shortened(source)
    try:
        path = Path(source).expanduser()
    except RuntimeError:  # the home of somebody who is not known here
        path = Path(source)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise UserError(f"There is no file “{shown}”; {_hint(path)}") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"“{shown}” cannot be the name of a file here: {why}. Check it.", repr(error)) from None
    if stat.S_ISDIR(mode):
        if not is_saved(path):
            raise UserError(
                f"“{shown}” is a folder and no data set saved to disk; choose a {KINDS} in it, or a .npy of token ids."
            )
    elif not stat.S_ISREG(mode):
        raise UserError(f"“{shown}” is a pipe, a socket or a device; choose a file.")
    return path


def _hint(path: Path) -> str:
    """What was perhaps meant by the name of a file that is not there."""
    if path.is_symlink():
        return "it is a link to a file that is gone."
    try:
        near = [entry.name for entry in islice(path.parent.iterdir(), _MOST_NAMES)]
    except OSError:
        near = []
    guess = get_close_matches(path.name, ["builtin", *near], n=1)
    return f"did you mean “{guess[0]}”?" if guess else "check its name and folder."


def _from_path(path: Path) -> Text:
    readers: dict[str, Callable[[Path], Text]] = {
        ".txt": _txt,
        ".jsonl": read_jsonl,
        ".parquet": read_parquet,
        ".csv": read_csv,
        ".tsv": read_csv,
        ".arrow": read_arrow,
    }
    reader = read_saved if path.is_dir() else readers.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"“{path.name}” cannot be read as text; use a {KINDS}.")
    try:
        return reader(path)
    except (UnicodeError, OSError) as error:
        raise unreadable(path.name, error) from None


def _txt(path: Path) -> Text:
    size = path.stat().st_size
    if size <= LARGE_TEXT:
        with open(open_file(path), encoding="utf-8-sig") as file:
            return Text([file.read()])
    return Text(TextBlocks(size, lambda start, stop: read_part(path, start, stop)), blocks=True)


def _from_hub(source: str) -> Text:
    """Rows of ``hub:NAME[:config][:split]``; one extra part that begins with a usual split's name is the split."""
    import datasets

    name, *rest = re.split(r":(?![^\[]*\])", source.removeprefix("hub:"))  # a split may be written test[:10%]
    if not name or len(rest) > 2:
        raise UserError(f"“{source}” is not a data set's name; write hub:NAME[:config][:split].")
    if len(rest) == 1:
        rest = ["", *rest] if rest[0].startswith(_SPLITS) else [*rest, ""]
    config, part = [*rest, "", ""][:2]
    try:
        rows = datasets.load_dataset(name, config or None, split=part or "train")
    except (ConnectionError, datasets.exceptions.DatasetNotFoundError) as error:
        raise UserError(
            f"The data set “{name}” is not on this computer and could not be fetched from the Hugging Face hub; "
            "check its name and the network, or use a file or the built-in text.",
            str(error),
        ) from None
    except (ValueError, RuntimeError, OSError) as error:  # unknown config or split, a data set that is a script, disk
        reason = " ".join(str(error).split())
        raise UserError(f"The data set “{name}” could not be opened: {reason}", repr(error)) from None
    column = text_column(rows.data.schema, f"The data set “{name}”")
    notes = (CHAT_NOTE.format(name=name),) if column in CHATS else ()
    return Text(HubRows(rows[column], column, name), notes)


class HubRows(Documents):
    """The rows of a data set of the hub; one without text is empty."""

    def __init__(self, values: Sequence[Any], column: str, name: str) -> None:
        self._values, self._column, self._name = values, column, name

    def __len__(self) -> int:
        return len(self._values)

    def read(self, index: int) -> str:
        text = value_text(self._values[index], self._column, f"The data set “{self._name}”")
        return whole_characters(text or "")[0][:LARGE_TEXT]
