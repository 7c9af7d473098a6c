"""A column of text or chats in Arrow's memory, as documents."""

from typing import TYPE_CHECKING, Any

from engine.data.documents import LARGE_TABLE, LARGE_TEXT, Documents, Text
from engine.data.rows import CHAT_NOTE, CHATS, COLUMN, EMPTY_NOTE, chat_text, gather, no_column, whole_characters

if TYPE_CHECKING:
    import pyarrow as pa


def text_column(schema: "pa.Schema", where: str) -> str:
    """The column to read: of text, plain or as a dictionary, or else of chats.

    Raises
    ------
    UserError
        If there is none; `where` begins the sentence.
    """
    texts = [field.name for field in schema if _is_text(field.type)]
    if COLUMN in texts:
        return COLUMN
    for field in schema:
        if field.name in CHATS and _is_chat(field.type, CHATS[field.name]):
            return str(field.name)
    raise no_column(where, texts)


def _is_text(kind: "pa.DataType") -> bool:
    import pyarrow.types as kinds

    kind = kind.value_type if kinds.is_dictionary(kind) else kind
    return kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind)


def _is_chat(kind: "pa.DataType", parts: tuple[str, str]) -> bool:
    import pyarrow.types as kinds

    message = kind.value_type if kinds.is_list(kind) or kinds.is_large_list(kind) else None
    return message is not None and kinds.is_struct(message) and all(message.get_field_index(p) >= 0 for p in parts)


def value_text(value: Any, column: str, where: str) -> str | None:
    """A value of a column that `text_column` names, as text; None where there is none."""
    return chat_text(value, column, where) if column in CHATS else value


def from_column(values: "pa.ChunkedArray", column: str, name: str) -> Text:
    """The documents of the column `column` of the table `name`.

    Raises
    ------
    ArrowInvalid
        If the array is not what it says: offsets or indices outside it, text that is not UTF-8.
    """
    if values.nbytes <= LARGE_TABLE:
        values.validate(full=True)
        where = f"“{name}”"
        rows = (value_text(value, column, where) for value in values.to_pylist())
        return gather(rows, name, chats=column in CHATS)
    notes = [CHAT_NOTE.format(name=name)] if column in CHATS else []
    if values.null_count:
        notes.append(EMPTY_NOTE.format(name=name, empty=values.null_count, total=len(values)))
    return Text(ColumnRows(values, column, name), tuple(notes))


class ColumnRows(Documents):
    """The rows of a large column, each made text when it is asked for; one without text is empty."""

    def __init__(self, values: "pa.ChunkedArray", column: str, name: str) -> None:
        import numpy as np

        self._values, self._column, self._where = values, column, f"“{name}”"
        self._ends = np.cumsum([len(chunk) for chunk in values.chunks])
        self._valid: set[int] = set()

    def __len__(self) -> int:
        return len(self._values)

    def read(self, index: int) -> str:
        number = int(self._ends.searchsorted(index, "right"))
        chunk = self._values.chunk(number)
        if number not in self._valid:
            chunk.validate(full=True)
            self._valid.add(number)
        value = chunk[index - int(self._ends[number]) + len(chunk)].as_py()
        return whole_characters(value_text(value, self._column, self._where) or "")[0][:LARGE_TEXT]
