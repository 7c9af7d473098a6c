"""Data sets as the library `datasets` saves them to disk: folders of Arrow files, read without that library."""

import mmap
import os
import stat
from dataclasses import replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from engine.data.columns import from_column, text_column
from engine.data.documents import Text
from engine.data.tables import whole
from engine.errors import UserError
from engine.files import open_file, read_file
from engine.gate import parse

if TYPE_CHECKING:
    import pyarrow as pa

STATE, SPLITS = "state.json", "dataset_dict.json"
_MOST = 2**24


def is_saved(folder: Path) -> bool:
    """Whether a folder is such a data set, or several splits of one."""
    return any((folder / name).is_file() for name in (STATE, SPLITS))


def read_saved(folder: Path) -> Text:
    """The documents of a saved data set; of one with splits, those of ``train``, or of the only one."""
    notes: tuple[str, ...] = ()
    if not (folder / STATE).is_file():
        folder, name = _split(folder), folder.name
        notes = (f"“{name}” has several splits, of which “{folder.name}” is read; give its folder to read another",)
    column, parts = "", []
    for path in saved_files(folder):
        table = read_arrow_table(path)
        column = text_column(table.schema, f"“{path.name}”")
        parts += table[column].chunks
    import pyarrow as pa

    with whole(folder.name, "Arrow"):
        text = from_column(pa.chunked_array(parts), column, folder.name)
    return replace(text, notes=(*notes, *text.notes))


def read_arrow(path: Path) -> Text:
    """The documents of one Arrow file."""
    table = read_arrow_table(path)
    column = text_column(table.schema, f"“{path.name}”")
    with whole(path.name, "Arrow"):
        return from_column(table[column], column, path.name)


def read_arrow_table(path: Path) -> "pa.Table":
    """A file of Arrow record batches, a stream or not, mapped into memory and not copied."""
    from pyarrow import BufferReader, ipc, py_buffer

    handle = open_file(path)
    try:
        size = os.fstat(handle).st_size
        content: Any = mmap.mmap(handle, 0, access=mmap.ACCESS_READ) if size else b""
    finally:
        os.close(handle)
    with whole(path.name, "Arrow"):
        source = BufferReader(py_buffer(content))
        return (ipc.open_file if content[:6] == b"ARROW1" else ipc.open_stream)(source).read_all()


def saved_files(folder: Path) -> list[Path]:
    """The Arrow files that a saved data set, or the split of it that is read, names: its own, and no links.

    Raises
    ------
    UserError
    """
    if not (folder / STATE).is_file():
        folder = _split(folder)
    state = _json(folder / STATE)
    names = [entry.get("filename") for entry in _objects(state.get("_data_files"))]
    if not names or state.get("_indices_data_files"):
        raise UserError(
            f"The data set in “{folder}” names no Arrow files, or chooses rows by an index; save it again, with "
            "flatten_indices()."
        )
    return [_own(folder, name) for name in names]


def _split(folder: Path) -> Path:
    splits = _json(folder / SPLITS).get("splits")
    names = [name for name in splits if isinstance(name, str)] if isinstance(splits, list) else []
    if "train" not in names and len(names) != 1:
        raise UserError(f"The data set in “{folder}” has no split “train”; give the folder of one of its splits.")
    return _own(folder, "train" if "train" in names else names[0], stat.S_ISDIR)


def _own(folder: Path, name: Any, is_kind: Any = stat.S_ISREG) -> Path:
    """What lies directly in a folder under `name`, which a file from a stranger says, and is no link."""
    if isinstance(name, str) and name not in ("", ".", "..") and PurePath(name).name == name and "\\" not in name:
        try:
            if is_kind((folder / name).lstat().st_mode):
                return folder / name
        except (OSError, ValueError):
            pass
    shown = name if isinstance(name, str) and len(name) < 100 else "…"
    raise UserError(f"The data set in “{folder}” names “{shown}”, which is no file of its own; copy it again.")


def _objects(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _json(path: Path) -> dict[str, Any]:
    try:
        content = parse(read_file(path, _MOST))
    except ValueError as error:
        raise UserError(f"“{path}” is not readable: {error}; save the data set again.", repr(error)) from None
    if not isinstance(content, dict):
        raise UserError(f"“{path}” is not what the library datasets writes; save the data set again.")
    return content
