"""Folders that are entered without following a link: everything inside a session is read and written through here.

Each part of a name is opened relative to the folder above it, so that nothing can be swapped in between. Where the
platform has no such call (Windows), each part is looked at before it is used.
"""

import errno
import os
import shutil
import stat
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Literal

from engine.files import NOT_WAITING, SPECIAL, read_open, regular
from engine.sessions.names import MOST_FOLDERS, safe_name

Kind = Literal["file", "folder", "link", "other"]

RELATIVE = os.supports_dir_fd >= {os.open, os.mkdir, os.rename, os.rmdir, os.stat, os.unlink}
NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
_JUNCTION = getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", None)

GONE = "the session's folder was deleted, moved or renamed while it was open"
_INSTEAD = {
    "file": "it is a file where a folder belongs",
    "folder": "it is a folder where a file belongs",
    "link": "it is a link, and links inside a session are not followed; put the thing itself in its place",
    "other": SPECIAL,
}


class Place:
    """One open folder; `path` is only for messages, and for platforms without relative calls.

    Every method raises OSError, whose ``strerror`` can stand in a sentence. Names are refused unless they are safe; in
    a folder that the user named (`own`) any name goes.
    """

    def __init__(self, path: str, handle: int | None, *, own: bool = False) -> None:
        self.path, self._handle, self._own = path, handle, own

    @property
    def identity(self) -> tuple[int, int]:
        status = os.stat(self.path if self._handle is None else self._handle)
        return status.st_dev, status.st_ino

    def _at(self, name: str, key: str = "dir_fd") -> tuple[str, dict[str, Any]]:
        """The arguments by which a function of ``os`` finds an entry of this folder."""
        if not self._own:
            _require_safe(name)
        return (name, {key: self._handle}) if self._handle is not None else (os.path.join(self.path, name), {})

    def kind(self, name: str) -> Kind | None:
        """What an entry is; None if there is none."""
        path, at = self._at(name)
        try:
            status = os.stat(path, follow_symlinks=False, **at)
        except FileNotFoundError:
            return None
        if stat.S_ISLNK(status.st_mode) or getattr(status, "st_reparse_tag", 0) == _JUNCTION:
            return "link"
        return "folder" if stat.S_ISDIR(status.st_mode) else "file" if stat.S_ISREG(status.st_mode) else "other"

    def _require(self, name: str, kind: Kind) -> None:
        present = self.kind(name)
        if present is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        if present != kind:
            raise OSError(errno.ELOOP if present == "link" else errno.EINVAL, _INSTEAD[present], name)

    @contextmanager
    def folder(self, name: str = "", *, make: bool = False, flush: bool = True) -> Iterator["Place"]:
        """Enter a folder below this one; with `make`, what is lacking is made, and with `flush` also on the disk."""
        with ExitStack() as stack:
            place = self
            if name:
                self._at(name)
                for part in name.split("/"):
                    if make and place.kind(part) is None:
                        place.make(part)
                        if flush:
                            place.sync()
                    place = stack.enter_context(place._entered(part))
            yield place

    @contextmanager
    def _entered(self, part: str) -> Iterator["Place"]:
        handle = None
        path, at = self._at(part)
        if RELATIVE:
            try:
                handle = os.open(path, _FOLDER | NO_LINK, **at)
            except OSError:
                self._require(part, "folder")  # which says what is wrong with it
                raise
        else:
            self._require(part, "folder")
        try:
            yield Place(os.path.join(self.path, part), handle)
        finally:
            if handle is not None:
                os.close(handle)

    def entries(self) -> list[tuple[str, Kind]]:
        """Name and kind of everything directly in this folder, sorted."""
        with os.scandir(self.path if self._handle is None else self._handle) as entries:
            return sorted((entry.name, _kind_of(entry)) for entry in entries)

    def walk(self, above: str = "") -> Iterator[tuple[str, Kind]]:
        """Everything below, folders before what is in them; what cannot be entered counts as ``other``."""
        entries = self.entries()
        yield from ((above + name, kind) for name, kind in entries)
        for name in [name for name, kind in entries if kind == "folder"]:
            try:
                if above.count("/") >= MOST_FOLDERS:
                    raise OSError(errno.EINVAL, "it lies too deep")
                with self._entered(name) as folder:
                    yield from folder.walk(f"{above}{name}/")
            except OSError:
                yield above + name, "other"

    def size(self, name: str) -> int:
        """Bytes of a regular file."""
        self._require(name, "file")
        path, at = self._at(name)
        return os.stat(path, follow_symlinks=False, **at).st_size

    def open(self, name: str) -> BinaryIO:
        """A regular file, to read."""
        self._require(name, "file")
        path, at = self._at(name)
        return os.fdopen(regular(os.open(path, NOT_WAITING | NO_LINK, **at)), "rb")

    def read(self, name: str, most: int) -> bytes:
        """The content of a regular file of at most `most` bytes."""
        with self.open(name) as file:
            return read_open(file.fileno(), most)

    def create(self, name: str) -> BinaryIO:
        """A file that is not there yet, to write; it is on the disk only after `sync`."""
        path, at = self._at(name)
        return open(path, "xb", opener=lambda path, flags: os.open(path, flags | NO_LINK, 0o666, **at))

    def write(self, name: str, content: bytes) -> None:
        """Make a file that is not there yet; it is on the disk only after `sync`."""
        with self.create(name) as file:
            file.write(content)

    @property
    def library_path(self) -> str:
        """A path for a library that knows no handles; on Linux it is this folder whatever happens to its name."""
        by_handle = f"/proc/self/fd/{self._handle}"
        return by_handle if self._handle is not None and os.path.isdir(by_handle) else self.path

    def make(self, name: str) -> None:
        """Make a folder that is not there yet."""
        path, at = self._at(name)
        os.mkdir(path, **at)

    def rename(self, old: str, new: str) -> None:
        """Move an entry to a name that is free, or that of an empty folder."""
        (path, at), (target, to) = self._at(old, "src_dir_fd"), self._at(new, "dst_dir_fd")
        if self.kind(new) == "folder":
            with suppress(OSError):  # it is not empty: the next line says so
                os.rmdir(target, **({"dir_fd": self._handle} if to else {}))
        os.rename(path, target, **at, **to)

    def replace(self, old: str, new: str) -> None:
        """Move a file to a name that may be taken by another."""
        (path, at), (target, to) = self._at(old, "src_dir_fd"), self._at(new, "dst_dir_fd")
        os.replace(path, target, **at, **to)

    def remove(self, name: str) -> None:
        """Remove an entry with all that is in it, if it is there; of a link only the link."""
        path, at = self._at(name)
        if self.kind(name) == "folder":
            shutil.rmtree(path, ignore_errors=True, **at)
        else:
            with suppress(FileNotFoundError):
                os.unlink(path, **at)

    def sync(self, name: str = "") -> None:
        """Flush a file's content, or a folder's entries, to the disk."""
        if os.name != "posix":
            if name and self.kind(name) == "folder":
                return  # Windows flushes folders by itself and has no call for it
            if not name:
                return
        path, at = self._at(name) if name else (".", {"dir_fd": self._handle})
        handle = os.open(path, (NOT_WAITING if os.name == "posix" else os.O_RDWR) | NO_LINK, **at)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class Root:
    """A session's folder, known again by what it is and not by its name.

    A handle is kept until `close`, so that no other folder can take its number on the disk.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with opened(path) as place:
            self._identity = place.identity
        if RELATIVE:
            self._pin = weakref.finalize(self, os.close, os.open(path, _FOLDER))

    @contextmanager
    def folder(self, name: str = "", *, make: bool = False) -> Iterator[Place]:
        """Enter a folder of the session; see `Place.folder`. FileNotFoundError (GONE) if the session is not there."""
        with ExitStack() as stack:
            try:
                place = stack.enter_context(opened(self.path, own=False))
            except (FileNotFoundError, NotADirectoryError):
                raise FileNotFoundError(errno.ENOENT, GONE) from None
            if place.identity != self._identity:
                raise FileNotFoundError(errno.ENOENT, GONE)
            yield stack.enter_context(place.folder(name, make=make))

    def close(self) -> None:
        """Let go of the handle; reading goes on to work."""
        if RELATIVE:
            self._pin()


def split(name: str) -> tuple[str, str]:
    """A safe name as that of the folder, empty for the folder one is in, and that of the file in it."""
    _require_safe(name)
    folder, _, file = name.rpartition("/")
    return folder, file


def _require_safe(name: str) -> None:
    try:
        safe_name(name)
    except ValueError as error:
        raise OSError(errno.EINVAL, f"its name {error}") from None


@contextmanager
def opened(path: Path, *, own: bool = True) -> Iterator[Place]:
    """Enter a folder that the user named: links on the way to it are followed."""
    handle = os.open(path, _FOLDER) if RELATIVE else None
    try:
        yield Place(str(path), handle, own=own)
    finally:
        if handle is not None:
            os.close(handle)


def _kind_of(entry: os.DirEntry[str]) -> Kind:
    if entry.is_symlink() or (hasattr(entry, "is_junction") and entry.is_junction()):
        return "link"
    if entry.is_dir(follow_symlinks=False):
        return "folder"
    return "file" if entry.is_file(follow_symlinks=False) else "other"
