"""Documents of large texts, read as they are asked for: time and memory go with what is drawn."""

import os
import re
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.errors import UserError
from engine.files import open_file

LARGE_TEXT = 2**22
"""Characters (bytes, of a file) from which one running text is read in blocks (methods §0)."""
LARGE_TABLE = 2**26
"""Bytes from which the rows of a table are read in blocks."""
BLOCK = 2**14
MOST_BLOCKS = 2**20
# A block ends after the first paragraph, else line, else word, that ends in the quarter of a block behind its border.
_MARKS = tuple(map(re.compile, (rb"\r?\n[ \t\r]*\n\s*", rb"[\r\n]\s*", rb"\s+")))


@dataclass(frozen=True)
class Text:
    """What a source holds: its documents, and what there is to say of how they were read.

    With `blocks`, some of them are parts of a larger one, or several put together.
    """

    documents: Sequence[str]
    notes: tuple[str, ...] = ()
    blocks: bool = False


class Documents(Sequence[str]):
    """Documents that are read only as they are asked for, and not kept."""

    @abstractmethod
    def read(self, index: int) -> str:
        """Document `index`, from 0 to the number of them less one."""

    def __getitem__(self, at):  # type: ignore[no-untyped-def]  # the two signatures of a sequence
        numbers = range(len(self))[at]
        return Chosen(self, numbers) if isinstance(at, slice) else self.read(numbers)


class Chosen(Documents):
    """Some of the documents."""

    def __init__(self, documents: Sequence[str], indices: Sequence[int]) -> None:
        self._documents, self._indices = documents, indices

    def __len__(self) -> int:
        return len(self._indices)

    def read(self, index: int) -> str:
        return self._documents[self._indices[index]]


def block_size(size: int) -> int:
    """How many bytes each block of a file of `size` bytes has."""
    return max(BLOCK, -(-size // MOST_BLOCKS))


class TextBlocks(Documents):
    """One running text in UTF-8, in blocks that end where a paragraph, a line or a word does."""

    def __init__(self, size: int, part: Callable[[int, int], bytes]) -> None:
        self._size, self._part, self._block = size, part, block_size(size)

    def __len__(self) -> int:
        return -(-self._size // self._block)

    def read(self, index: int) -> str:
        text = self._part(self._border(index), self._border(index + 1)).decode()
        return text.replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff")

    def _border(self, index: int) -> int:
        at = index * self._block
        if index == 0 or at >= self._size:
            return min(at, self._size)
        near = self._part(at, min(at + self._block // 4, self._size))
        for mark in _MARKS:
            if found := mark.search(near):
                return at + found.end()
        return at + next((i for i, byte in enumerate(near[:4]) if byte & 0xC0 != 0x80), 0)  # between two characters


def read_part(path: Path, start: int, stop: int) -> bytes:
    """The bytes of a regular file from `start` to `stop`."""
    with os.fdopen(open_file(path), "rb") as file:
        file.seek(start)
        return file.read(stop - start)


def in_blocks(documents: Iterable[str]) -> list[str]:
    """The documents, the large ones among them cut into blocks."""
    parts: list[str] = []
    for text in documents:
        if len(text) > LARGE_TEXT:
            data = text.encode()
            parts += TextBlocks(len(data), lambda start, stop, data=data: data[start:stop])  # type: ignore[misc]
        else:
            parts.append(text)
    return parts


def is_large(documents: Iterable[str]) -> bool:
    """Whether the documents have more than `LARGE_TEXT` characters; no more are read."""
    left = LARGE_TEXT
    return any((left := left - len(text)) < 0 for text in documents)


def unreadable(name: str, error: Exception) -> UserError:
    """The sentence for a file that the system, or its encoding, does not let be read."""
    if isinstance(error, UnicodeError):
        return UserError(f"“{name}” is not UTF-8 text; convert it to UTF-8 first.", repr(error))
    why = error.strerror if isinstance(error, OSError) and error.strerror else error
    return UserError(f"“{name}” could not be read: {why}.", repr(error))
