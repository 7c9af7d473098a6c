"""Which sessions this program reads, and how older ones are brought up to date."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from engine.errors import UserError
from engine.gate import parse
from engine.sessions.files import replace_file, seal, unseal
from engine.sessions.records import Head
from engine.sessions.tree import FolderTree, Tree

FORMAT = "eigenscope-session"
SCHEMA = 1
HEAD = "session.json"

# From schema n to n + 1: each step leaves committed arrays as they are and may be repeated after a kill.
STEPS: dict[int, Callable[[Path], None]] = {}


def new_head() -> bytes:
    """The ``session.json`` of a new session."""
    return seal({"format": FORMAT, "schema": SCHEMA, "created": datetime.now(UTC).isoformat(timespec="seconds")})


def read_schema(tree: Tree, path: Path) -> int:
    """The schema version of the session at `path`, before anything else of it is read.

    Raises
    ------
    UserError
        If it is no session, is damaged, or was written by a newer program.
    """
    try:
        data = tree.read(HEAD)
    except FileNotFoundError:
        raise UserError(f"“{path}” is not an Eigenscope session: it holds no {HEAD}.") from None
    except OSError as error:
        raise UserError(f"“{path / HEAD}” cannot be read: {error.strerror}.", repr(error)) from error
    try:
        parse(data)
        head = Head.model_validate_json(data)
    except ValueError as error:
        raise UserError(f"“{path}” cannot be opened: its {HEAD} is damaged.", repr(error)) from error
    schema = head.schema_version
    if head.format != FORMAT:
        raise UserError(f"“{path}” is not an Eigenscope session: its {HEAD} belongs to another program.")
    if schema > SCHEMA:
        raise UserError(
            f"The session “{path}” was written by a newer Eigenscope (schema {schema}; this one reads up to "
            f"{SCHEMA}). Update the program to open it; nothing was changed."
        )
    try:
        unseal(data)
    except ValueError as error:
        raise UserError(f"“{path}” cannot be opened: its {HEAD} is damaged.", repr(error)) from error
    return schema


def migrate(tree: FolderTree, schema: int) -> None:
    """Bring an older session up to date, step by step; a kill in between leaves it at the step before."""
    while schema < SCHEMA:
        STEPS[schema](tree.root.path)
        schema += 1
        head = unseal(tree.read(HEAD))
        replace_file(tree.root.path / HEAD, seal(head | {"schema": schema}), tree.root)
