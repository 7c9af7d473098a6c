"""Rows of JSON, one a line; of a large file only the lines that are drawn."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.data.documents import LARGE_TABLE, LARGE_TEXT, Documents, Text, block_size
from engine.data.rows import CHATS, COLUMN, gather, row_text, whole_characters
from engine.errors import UserError
from engine.files import open_file


def read_jsonl(path: Path) -> Text:
    """The documents of a file with one JSON object a line."""
    size = path.stat().st_size
    if size > LARGE_TABLE:
        note = f"“{path.name}” is large: rows are read where they are drawn, and those without text are passed over"
        return Text(LineBlocks(path, size), (note,), blocks=True)
    chats = False

    def rows() -> Iterator[str | None]:
        nonlocal chats
        with os.fdopen(open_file(path), "rb") as lines:
            for number, line in enumerate(lines, 1):
                where = f"Line {number} of “{path.name}”"
                if row := _parse(line, where):
                    chats |= COLUMN not in row and not CHATS.keys().isdisjoint(row)
                    yield row_text(row, where)

    texts = list(rows())
    return gather(texts, path.name, chats=chats)


class LineBlocks(Documents):
    """The texts of the rows that begin in each block of a file, as one document a block."""

    def __init__(self, path: Path, size: int) -> None:
        self._path, self._size, self._block = path, size, block_size(size)

    def __len__(self) -> int:
        return -(-self._size // self._block)

    def read(self, index: int) -> str:
        first, last = index * self._block, min((index + 1) * self._block, self._size)
        texts = []
        with os.fdopen(open_file(self._path), "rb") as file:
            file.seek(max(first - 1, 0))
            if first and not file.readline(last - first + 1).endswith(b"\n"):
                return ""  # one row goes all through this block
            while (at := file.tell()) < last and (line := file.readline(LARGE_TABLE)):
                where = f"The line at byte {at:,} of “{self._path.name}”"
                if len(line) == LARGE_TABLE:
                    raise UserError(f"{where} is longer than {LARGE_TABLE >> 20} MiB; cut it into several.")
                if row := _parse(line, where):
                    texts.append(whole_characters(row_text(row, where) or "")[0])
        return "\n\n".join(filter(None, texts))[:LARGE_TEXT]


def _parse(line: bytes, where: str) -> dict[str, Any] | None:
    """The object of one line; None for a blank one."""
    text = line.decode("utf-8-sig")
    if not text.strip():
        return None
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        why = "it is nested too deep" if isinstance(error, RecursionError) else error
        raise UserError(f"{where} is not JSON: {why}.") from None
    if not isinstance(row, dict):
        raise UserError(f"{where} is not a JSON object; each line must be one, with a field “{COLUMN}”.")
    return row
