"""Which sessions this program reads, and how older ones are brought up to date."""

import json
from collections.abc import Callable
from pathlib import Path

from engine.errors import UserError
from engine.sessions.files import replace_file, seal, unseal
from engine.sessions.tree import Tree

FORMAT = "eigenscope-session"
SCHEMA = 1
HEAD = "session.json"

# From schema n to n + 1: each step leaves committed arrays as they are and may be repeated after a kill.
STEPS: dict[int, Callable[[Path], None]] = {}


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
        raise UserError(f"“{path}” cannot be read: {error.strerror}.", repr(error)) from error
    try:
        head = json.loads(data)
        is_session, schema = head["format"] == FORMAT, int(head["schema"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"“{path}” cannot be opened: its {HEAD} is damaged.", repr(error)) from error
    if not is_session:
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


def migrate(folder: Path, schema: int) -> None:
    """Bring an older session up to date, step by step; a kill in between leaves it at the step before."""
    while schema < SCHEMA:
        STEPS[schema](folder)
        schema += 1
        head = unseal((folder / HEAD).read_bytes())
        replace_file(folder / HEAD, seal(head | {"schema": schema}))
