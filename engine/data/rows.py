"""The text of one row of a table: a column of text, or a chat."""

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from engine.data.documents import Text, in_blocks
from engine.errors import UserError

COLUMN = "text"
CHATS = {"messages": ("role", "content"), "conversations": ("from", "value")}
"""Columns of chats, and what their messages call the speaker and the words."""
_HALVES = re.compile("[\ud800-\udfff]")


def whole_characters(text: str) -> tuple[str, int]:
    """A text in which each half of a surrogate pair is replaced by U+FFFD, and how many there were."""
    return (text, 0) if text.isascii() else _HALVES.subn("\ufffd", text)


def row_text(row: Mapping[str, Any], where: str) -> str | None:
    """The text of a row, None if it has none; `where` begins the sentence about a row without such a field.

    Raises
    ------
    UserError
    """
    if COLUMN in row:
        text = row[COLUMN]
        if text is None or isinstance(text, str):
            return text
    else:
        for name in CHATS:
            if name in row:
                return chat_text(row[name], name, where)
    raise no_column(where, [name for name, value in row.items() if isinstance(value, str)])


def chat_text(messages: Any, name: str, where: str) -> str | None:
    """A chat as plain text, a paragraph a message: ``speaker: words``."""
    if messages is None:
        return None
    speaker, words = CHATS[name]
    try:
        spoken = [(message[speaker], _words(message[words])) for message in messages]
    except (TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{where} has a column “{name}” that is no chat: its messages need the fields “{speaker}” and “{words}”.",
            repr(error),
        ) from None
    return "\n\n".join(f"{who}: {what}" for who, what in spoken if what)


def _words(content: str | Sequence[Mapping[str, Any]] | None) -> str:
    """What a message says: text, or parts some of which are text."""
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(part["text"] for part in content if isinstance(part.get("text"), str))


def gather(rows: Iterable[str | None], name: str, *, chats: bool = False) -> Text:
    """The texts of a table's rows, with a note for each thing that was passed over, changed or put together."""
    texts: list[str] = []
    total = halves = 0
    for text in rows:
        total += 1
        if text is not None:
            whole, replaced = whole_characters(text)
            halves += replaced
            texts.append(whole)
    notes = []
    if empty := total - len(texts):
        notes.append(EMPTY_NOTE.format(name=name, empty=empty, total=total))
    if halves:
        notes.append(f"Halves of surrogate pairs, which are no characters, are read as � in “{name}”: {halves:,}")
    if chats:
        notes.append(CHAT_NOTE.format(name=name))
    documents = in_blocks(texts)
    return Text(documents, tuple(notes), blocks=len(documents) > len(texts))


EMPTY_NOTE = "Rows of “{name}” without text are passed over: {empty:,} of {total:,}"
CHAT_NOTE = (
    "The chats of “{name}” are read as plain text, a paragraph “speaker: words” a message, without a model's template"
)


def no_column(where: str, texts: Sequence[str]) -> UserError:
    """The error for a table without the column of text, naming the columns of text that it has."""
    near = get_close_matches(COLUMN, [name.lower() for name in texts], n=1)
    meant = next((name for name in texts if near and name.lower() == near[0]), None)
    if meant:
        return UserError(f"{where} has no text in a column “{COLUMN}”; rename “{meant}” to “{COLUMN}”.")
    listed = ", ".join(f"“{name}”" for name in texts) or "no column of text"
    return UserError(f"{where} has no text in a column “{COLUMN}” (it has {listed}); rename one to “{COLUMN}”.")
