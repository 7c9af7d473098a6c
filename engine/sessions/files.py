"""Writing that survives a kill or a power cut, and JSON that knows when it was changed."""

import errno
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.gate import parse
from engine.sessions.rooted import Place, Root, opened, split

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
DENIED = {errno.EROFS, errno.EACCES, errno.EPERM}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the operating system says while `path` is written into one sentence for the user."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            message = (
                f"The disk is full: “{path}” could not be written. Free some space and try again; "
                "everything committed is kept."
            )
        elif error.errno in DENIED:
            message = f"“{path}” cannot be written because the folder is read-only for you. Choose another folder."
        else:
            message = f"“{path}” could not be written: {error.strerror or error}."
        raise UserError(message, repr(error)) from error


def is_taken(path: Path) -> bool:
    """Whether anything but an empty folder has this name; UserError for a name that nothing can have."""
    with writing(path):
        return path.exists() and not (path.is_dir() and not any(path.iterdir()))


def digest(data: bytes) -> str:
    """BLAKE2b, 256 bits, in hexadecimal."""
    return blake2b(data, digest_size=32).hexdigest()


def seal(content: dict[str, Any]) -> bytes:
    """JSON text of `content` with the BLAKE2b of that content inside, so that one flipped bit is found."""
    content = json.loads(json.dumps(content, default=lambda scalar: scalar.item()))
    return json.dumps(content | {"blake2b": digest(_canonical(content))}, indent=1, ensure_ascii=False).encode()


def unseal(data: bytes) -> dict[str, Any]:
    """The content of sealed JSON.

    Raises
    ------
    ValueError
        If it is not JSON, not an object, or has changed since it was sealed.
    """
    content = parse(data)
    if not isinstance(content, dict) or content.pop("blake2b", None) != digest(_canonical(content)):
        raise ValueError("its content has changed since it was written")
    return content


def _canonical(content: dict[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def commit_folder(target: Path, files: Iterable[tuple[str, bytes]], root: Root | None = None) -> None:
    """Make `target` appear with all its files or not at all, and on the disk before this returns.

    The files go to ``<target>.part``; every file and folder is flushed to the disk; then one rename. Whatever fails,
    the part is removed and `target` does not exist.

    Parameters
    ----------
    target : Path
        Must not exist, unless as an empty folder.
    files : iterable of (name, content)
        Names are relative, with ``/``. Taken one at a time, so a generator keeps memory small.
    root : Root, optional
        The session in which `target` lies: no link inside it is followed, and it is not made again if it is gone.

    Raises
    ------
    UserError
        Disk full, no permission, already there, a name that leaves `target`.
    """
    part = f"{target.name}.part"
    with writing(target), folder_at(target.parent, root) as parent:
        parent.remove(part)
        try:
            parent.make(part)
            with parent.folder(part) as place:
                for name, content in files:
                    folder, file = split(name)
                    with place.folder(folder, make=True, flush=False) as inner:
                        inner.write(file, content)
            put_in_place(parent, part, target.name)
        except BaseException:
            parent.remove(part)
            raise


def put_in_place(parent: Place, part: str, target: str) -> None:
    """Flush everything in the folder `part` to the disk, then make it `target` in one step."""
    # Side by side the flushes share the file system's transactions: measured 30 times faster than in turn.
    with parent.folder(part) as place, ThreadPoolExecutor(16) as pool:
        list(pool.map(place.sync, ["", *(name for name, kind in place.walk() if kind in ("file", "folder"))]))
    parent.rename(part, target)
    parent.sync()


def replace_file(path: Path, content: bytes, root: Root | None = None) -> None:
    """Put a small file in place in one step: readers see the old one or the new one, also after a power cut.

    `root` is the session in which it lies, as for `commit_folder`.
    """
    part = f"{path.name}.part"
    with writing(path), folder_at(path.parent, root) as folder:
        folder.remove(part)
        try:
            folder.write(part, content)
            folder.sync(part)
            folder.replace(part, path.name)
        except BaseException:
            folder.remove(part)
            raise
        folder.sync()


def set_aside(root: Root, name: str, why: str) -> None:
    """Move a folder of a session out of the way under a name that says `why`; nothing is deleted."""
    above, _, own = name.rpartition("/")
    with writing(root.path / name), root.folder(above) as folder:
        taken = sum(entry.startswith(f"{own}.{why}") for entry, _ in folder.entries())
        folder.rename(own, f"{own}.{why}{taken or ''}")
        folder.sync()


@contextmanager
def folder_at(path: Path, root: Root | None = None) -> Iterator[Place]:
    """Enter a folder, made if it is lacking; `root` is the session in which it lies, as for `commit_folder`."""
    if root is not None:
        name = path.relative_to(root.path).as_posix()
        with root.folder("" if name == "." else name, make=True) as place:
            yield place
    else:
        make_folder(path)
        with opened(path) as place:
            yield place


def make_folder(path: Path) -> None:
    """Make a folder and the ones above it, each entry flushed to the disk."""
    if not path.is_dir():
        make_folder(path.parent)
        with opened(path.parent) as parent:
            if parent.kind(path.name) is None:
                parent.make(path.name)
            parent.sync()
