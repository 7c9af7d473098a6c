"""From a text's name to its documents: built-in, a file, or a data set of the Hugging Face hub."""

import json
import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from engine.data.builtin import builtin_documents
from engine.data.splits import Split, part
from engine.errors import UserError
from engine.request import DataSpec

_COLUMN = "text"
_SPLITS = ("train", "validation", "test")


def load_documents(spec: DataSpec, split: Split = "all") -> Sequence[str]:
    """The documents of `spec.source`, all of them in their own order, or those of one split.

    A data set's rows are read as they are asked for.

    Raises
    ------
    UserError
        If there is no such text, it cannot be read, or it is empty.
    """
    source = spec.source
    if source == "builtin":
        return part(builtin_documents(), split)
    documents = _from_hub(source) if source.startswith("hub:") else _from_file(Path(source).expanduser())
    if not any(text and not text.isspace() for text in documents):
        raise UserError(f"“{source}” has no text in it; choose another.")
    return part(documents, split)


def existing_file(path: Path) -> Path:
    """`path` itself, or a sentence that says what is wrong with it and which file was perhaps meant."""
    if path.is_dir():
        raise UserError(f"“{path}” is a folder; choose a .txt, .jsonl, .parquet or .npy file in it.")
    if not path.is_file():
        near = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        guess = get_close_matches(path.name, ["builtin", *near], n=1)
        hint = f"did you mean “{guess[0]}”?" if guess else "check its name and folder."
        raise UserError(f"There is no file “{path}”; {hint}")
    return path


def _from_file(path: Path) -> Sequence[str]:
    readers = {".txt": _txt, ".jsonl": _jsonl, ".parquet": _parquet}
    existing_file(path)
    if path.suffix.lower() not in readers:
        raise UserError(f"“{path.name}” cannot be read as text; use a .txt, .jsonl or .parquet file.")
    try:
        return readers[path.suffix.lower()](path)
    except UnicodeDecodeError as error:
        raise UserError(f"“{path.name}” is not UTF-8 text; convert it to UTF-8 first.", str(error)) from None
    except OSError as error:
        raise UserError(f"“{path.name}” could not be read: {error.strerror or error}.", str(error)) from None


def _txt(path: Path) -> list[str]:
    return [path.read_text(encoding="utf-8-sig")]


def _jsonl(path: Path) -> list[str]:
    documents = []
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(f"Line {number} of “{path.name}” is not JSON: {error}.") from None
            where = f"Line {number} of “{path.name}”"
            if not isinstance(row, dict):
                raise UserError(f"{where} is not a JSON object; each line must be one, with a field “{_COLUMN}”.")
            if not isinstance(row.get(_COLUMN), str):
                raise _no_column(where, [name for name, value in row.items() if isinstance(value, str)])
            documents.append(row[_COLUMN])
    return documents


def _parquet(path: Path) -> list[str]:
    import pyarrow.parquet as pq
    import pyarrow.types as kinds
    from pyarrow import ArrowInvalid

    try:
        schema = pq.read_schema(path)
        texts = [field.name for field in schema if kinds.is_string(field.type) or kinds.is_large_string(field.type)]
        if _COLUMN not in texts:
            raise _no_column(f"“{path.name}”", texts)
        column = pq.read_table(path, columns=[_COLUMN])[_COLUMN]
    except ArrowInvalid as error:
        raise UserError(f"“{path.name}” is not a whole Parquet file; it may be damaged.", str(error)) from None
    return [text for text in column.to_pylist() if text is not None]


def _no_column(where: str, texts: Sequence[str]) -> UserError:
    """The error for a table without the column of text, naming the columns of text that it has."""
    near = get_close_matches(_COLUMN, [name.lower() for name in texts], n=1)
    meant = next((name for name in texts if near and name.lower() == near[0]), None)
    if meant:
        return UserError(f"{where} has no text in a column “{_COLUMN}”; rename “{meant}” to “{_COLUMN}”.")
    listed = ", ".join(f"“{name}”" for name in texts) or "no column of text"
    return UserError(f"{where} has no text in a column “{_COLUMN}” (it has {listed}); rename one to “{_COLUMN}”.")


def _from_hub(source: str) -> Sequence[str]:
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
    texts = [column for column, kind in rows.features.items() if getattr(kind, "dtype", "").endswith("string")]
    if _COLUMN not in texts:
        raise _no_column(f"The data set “{name}”", texts)
    column: Sequence[str] = rows[_COLUMN]
    return column
