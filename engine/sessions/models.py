"""Models that were fine-tuned for a session: ordinary Hugging Face folders in it, whole or not there at all.

One lies at ``models/<key>/step<N>/`` with its ``training.json`` beside it. While it is being made it lies at
``models/<key>.part/``, where training finds its saved state again after a kill.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.sessions.files import digest, make_folder, put_in_place, replace_file, seal, sync, writing
from engine.sessions.manifest import MANIFEST, DamagedUnit, check
from engine.sessions.tree import MODELS

if TYPE_CHECKING:
    from engine.sessions.store import Session


def unfinished_model(session: "Session", key: str) -> Path:
    """The folder in which the model called `key` is made; it is there afterwards."""
    session.require_writable()
    part = session.path / MODELS / f"{key}.part"
    with writing(part):
        make_folder(part)
    return part


def commit_model(session: "Session", key: str, meta: Mapping[str, Any]) -> Path:
    """Put a model that is made on the disk for good, with the manifest of its files; return its folder."""
    part = unfinished_model(session, key)
    with writing(part):
        (part / MANIFEST).unlink(missing_ok=True)  # of a commit that was killed
        files = {file.relative_to(part).as_posix(): file for file in sorted(part.rglob("*")) if file.is_file()}
        listed = {
            name: {"size": file.stat().st_size, "blake2b": digest(file.read_bytes())} for name, file in files.items()
        }
        replace_file(part / MANIFEST, seal({"files": listed, "meta": dict(meta)}))
        put_in_place(part, part.with_name(key))
    return part.with_name(key)


def committed_model(session: "Session", key: str) -> Path | None:
    """The folder of a committed model, every file of it compared with its manifest; None if there is none.

    Raises
    ------
    DamagedUnit
        It is no longer what was committed.
    """
    if key not in session.tree.folders(MODELS):
        return None
    for file in check(session.tree, f"{MODELS}/{key}"):
        if file.problem:
            raise DamagedUnit(f"{MODELS}/{key}", f"{MODELS}/{key}/{file.name}", file.problem)
    return session.path / MODELS / key


def set_model_aside(session: "Session", key: str) -> None:
    """Move a damaged model out of the way, so that it is made again; nothing is deleted."""
    folder = session.path / MODELS / key
    taken = list(folder.parent.glob(f"{key}.damaged*"))
    with writing(folder):
        os.rename(folder, folder.with_name(f"{key}.damaged{len(taken) or ''}"))
        sync(folder.parent)
