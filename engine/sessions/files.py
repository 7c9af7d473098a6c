"""Writing that survives a kill or a power cut, and JSON that knows when it was changed."""

import errno
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

from engine.errors import UserError

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
    content = json.loads(data)
    if not isinstance(content, dict) or content.pop("blake2b", None) != digest(_canonical(content)):
        raise ValueError("its content has changed since it was written")
    return content


def _canonical(content: dict[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def commit_folder(target: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Make `target` appear with all its files or not at all, and on the disk before this returns.

    The files go to ``<target>.part``; every file and folder is flushed to the disk; then one rename. Whatever fails,
    the part is removed and `target` does not exist.

    Parameters
    ----------
    target : Path
        Must not exist, unless as an empty folder.
    files : iterable of (name, content)
        Names are relative, with ``/``. Taken one at a time, so a generator keeps memory small.

    Raises
    ------
    UserError
        Disk full, no permission, already there.
    """
    part = target.with_name(target.name + ".part")
    with writing(target):
        make_folder(target.parent)
        shutil.rmtree(part, ignore_errors=True)
        try:
            part.mkdir()
            for name, content in files:
                path = part / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with open(path, "xb") as file:
                    file.write(content)
            put_in_place(part, target)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise


def put_in_place(part: Path, target: Path) -> None:
    """Flush everything in the folder `part` to the disk, then make it `target` in one step."""
    # Side by side the flushes share the file system's transactions: measured 30 times faster than in turn.
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(sync, _everything(part)))
    if target.is_dir() and not any(target.iterdir()):
        target.rmdir()
    os.rename(part, target)
    sync(target.parent)


def replace_file(path: Path, content: bytes) -> None:
    """Put a small file in place in one step: readers see the old one or the new one, also after a power cut."""
    part = path.with_name(path.name + ".part")
    with writing(path):
        make_folder(path.parent)
        part.unlink(missing_ok=True)
        try:
            with open(part, "xb") as file:
                file.write(content)
            sync(part)
            os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        sync(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder and the ones above it, each entry flushed to the disk."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync(path.parent)


def _everything(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        yield Path(parent)
        yield from (Path(parent, name) for name in names)


def sync(path: Path) -> None:
    """Flush a file's content, or a folder's entries, to the disk."""
    if os.name != "posix" and path.is_dir():
        return  # Windows flushes folders by itself and has no call for it
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
