"""The files of a session, whether they lie in a folder or in a zip of it: everything that reads goes through here."""

import errno
import os
import stat
import zipfile
import zlib
from bisect import bisect_left
from collections import defaultdict
from pathlib import Path
from typing import Protocol

from engine.errors import UserError
from engine.files import open_file
from engine.printable import printable
from engine.sessions.names import have_twins, safe_name
from engine.sessions.rooted import Root, split

MODELS = "models"
"""The folder of a session in which models lie that were fine-tuned for it."""
LITTER = {".DS_Store", "Thumbs.db", "desktop.ini"}
# Arrays are compressed before they are zipped and the rest is small JSON, so an honest zip stays far below this.
MOST_INFLATION = 100
MOST_JSON_BYTES = 64 * 2**20


class Tree(Protocol):
    """Names are relative with ``/``. `read` and `size` raise OSError when a file is absent or cannot be read."""

    def read(self, name: str) -> bytes: ...
    def size(self, name: str) -> int: ...
    def files(self, under: str = "") -> list[str]: ...
    def folders(self, under: str) -> list[str]: ...
    def close(self) -> None: ...


def open_tree(path: Path) -> "FolderTree | ZipTree":
    """Open a session's folder or zip for reading."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise UserError(f"There is no session at “{path}”. Check the name, or create a new session.") from None
    except OSError as error:
        raise UserError(f"“{path}” cannot be read: {error.strerror}.", repr(error)) from error
    return FolderTree(path) if stat.S_ISDIR(status.st_mode) else ZipTree(path)


def free_memory() -> int:
    """Bytes that can be asked for without driving other things out of memory."""
    import psutil

    return int(psutil.virtual_memory().available)


def _most_bytes(name: str) -> int:
    """How large a file of this kind may be."""
    return MOST_JSON_BYTES if name.endswith(".json") else free_memory()


class FolderTree:
    """A session's folder."""

    def __init__(self, path: Path) -> None:
        try:
            self.root = Root(path)
        except OSError as error:
            raise UserError(f"“{path}” cannot be read: {error.strerror}.", repr(error)) from error

    def read(self, name: str) -> bytes:
        folder, file = split(name)
        with self.root.folder(folder) as place:
            return place.read(file, _most_bytes(name))

    def size(self, name: str) -> int:
        folder, file = split(name)
        with self.root.folder(folder) as place:
            return place.size(file)

    def files(self, under: str = "") -> list[str]:
        """Everything below a folder that is no folder, named relative to it, sorted; also what `read` will refuse."""
        try:
            with self.root.folder(under) as place:
                entries = list(place.walk())
        except OSError as error:
            return self._absent(under, error)
        return sorted(name for name, kind in entries if kind != "folder" and name.rsplit("/", 1)[-1] not in LITTER)

    def folders(self, under: str) -> list[str]:
        """The folders directly in a folder, sorted, and what else is no file; none when it is absent."""
        try:
            with self.root.folder(under) as place:
                return [name for name, kind in place.entries() if kind != "file"]
        except OSError as error:
            return self._absent(under, error)

    def _absent(self, under: str, error: OSError) -> list[str]:
        if isinstance(error, FileNotFoundError):
            return []
        path = self.root.path / under
        raise UserError(f"“{path}” cannot be read: {error.strerror}.", repr(error)) from error

    def close(self) -> None:
        self.root.close()


class ZipTree:
    """A zip of a session, read without extracting; `bytes` is what it would take up unpacked.

    Raises
    ------
    UserError
        If it is no zip, or is made to do harm: names that leave the folder, links, two entries of one name, sizes that
        no session has.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = os.fdopen(open_file(path), "rb")
        except OSError as error:
            raise UserError(f"“{path}” cannot be read: {error.strerror}.", repr(error)) from error
        try:
            self._zip = zipfile.ZipFile(self._file)
            self._entries = _checked_entries(self._zip, path)
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, ValueError, OSError) as error:
            self._file.close()
            raise UserError(f"“{path}” is neither a session folder nor a readable zip of one.", repr(error)) from error
        except BaseException:
            self._file.close()
            raise
        self.bytes = sum(entry.file_size for entry in self._entries.values())
        self._names = sorted(self._entries)
        folders: defaultdict[str, set[str]] = defaultdict(set)
        for name in self._names:
            *above, _ = name.split("/")
            for depth, folder in enumerate(above):
                folders["/".join(above[:depth])].add(folder)
        self._folders = {under: sorted(names) for under, names in folders.items()}

    def _entry(self, name: str) -> zipfile.ZipInfo:
        try:
            return self._entries[name]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "it is not in the zip", name) from None

    def read(self, name: str) -> bytes:
        entry = self._entry(name)
        if entry.file_size > (most := _most_bytes(name)):
            raise OSError(
                errno.EFBIG, f"it has {entry.file_size / 1e9:.2f} GB, and at most {most / 1e9:.2f} can be read"
            )
        try:
            # Asked for no more than it declares, it never inflates to more.
            with self._zip.open(entry) as file:
                return file.read(entry.file_size)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
            raise OSError(errno.EIO, str(error), name) from error

    def size(self, name: str) -> int:
        return self._entry(name).file_size

    def files(self, under: str = "") -> list[str]:
        """All files below a folder, named relative to it, sorted."""
        start = f"{under}/" if under else ""
        first, last = bisect_left(self._names, start), bisect_left(self._names, start + "\U0010ffff")
        return [name[len(start) :] for name in self._names[first:last]]

    def folders(self, under: str) -> list[str]:
        """The folders directly in a folder, sorted; none when it is absent."""
        return list(self._folders.get(under, ()))

    def close(self) -> None:
        self._zip.close()
        self._file.close()


def _checked_entries(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """Every entry looked at before any is read: those of the session, by their names relative to it."""
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    for entry in entries:
        for name in {entry.filename, entry.orig_filename}:
            _require_safe(name, entry, path)
        plain = entry.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) and not entry.flag_bits & 1
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG) or not plain:
            raise UserError(
                f"“{path}” is refused: its entry “{printable(entry.filename)}” is a link, or packed in an unusual way."
            )
    entries = [entry for entry in entries if entry.filename.rsplit("/", 1)[-1] not in LITTER]
    if have_twins([entry.filename for entry in entries]):
        raise UserError(f"“{path}” is refused: it holds two entries of the same name.")
    if sum(entry.file_size for entry in entries) > MOST_INFLATION * path.stat().st_size:
        raise UserError(f"“{path}” is refused: it would unpack to more than {MOST_INFLATION} times its size.")
    # The session is the zip's root, or the one folder in it.
    heads = [e.filename for e in entries if e.filename == "session.json" or e.filename.endswith("/session.json")]
    prefix = min(heads, key=len, default="session.json").removesuffix("session.json")
    inside = {entry.filename[len(prefix) :]: entry for entry in entries if entry.filename.startswith(prefix)}
    for name, entry in inside.items():
        _require_safe(name, entry, path)
    return inside


def _require_safe(name: str, entry: zipfile.ZipInfo, path: Path) -> None:
    try:
        safe_name(name)
    except ValueError as error:
        raise UserError(f"“{path}” is refused: its entry “{printable(entry.filename)}” {error}.") from None
