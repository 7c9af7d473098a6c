"""Which files make up a session, and what a killed process left beside them."""

from collections.abc import Iterator
from contextlib import suppress

from engine.errors import UserError
from engine.printable import printable
from engine.sessions.lock import LOCK, OWNER, SOFT
from engine.sessions.names import safe_name
from engine.sessions.rooted import Root
from engine.sessions.tree import Tree


def committed_files(tree: Tree) -> Iterator[tuple[str, bytes]]:
    """Name and content of everything committed: without locks, unfinished parts and folders that were set aside.

    Raises
    ------
    UserError
        Naming what is no regular file, or has a name that is not safe everywhere.
    """
    for name in tree.files():
        folders = name.split("/")
        if folders[0] in (LOCK, OWNER, SOFT) or any(
            part.endswith(".part") or ".damaged" in part or ".outdated" in part for part in folders
        ):
            continue
        try:
            content = tree.read(safe_name(name))
        except OSError as error:
            why = f"{error.strerror or error}"
        except ValueError as error:
            why = f"its name {error}"
        else:
            yield name, content
            continue
        raise UserError(f"The session cannot be copied because of its file “{printable(name)}”: {why}.")


def remove_parts(root: Root) -> None:
    """Clear what a killed process left unfinished: it was never committed."""
    runs = [f"runs/{name}" for name in _remove_parts(root, "runs")]
    for folder in ("", "views", *runs, *(f"{run}/units" for run in runs)):
        _remove_parts(root, folder)


def _remove_parts(root: Root, folder: str) -> list[str]:
    """Clear one folder; return the folders that stay in it."""
    with suppress(OSError), root.folder(folder) as place:
        entries = place.entries()
        for name, _ in entries:
            if name.endswith(".part"):
                place.remove(name)
        return [name for name, kind in entries if kind == "folder" and not name.endswith(".part")]
    return []
