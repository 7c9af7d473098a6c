"""The files of a session, whether they lie in a folder or in a zip of it: everything that reads goes through here."""

import errno
import os
import stat
import zipfile
import zlib
from bisect import bisect_left
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Protocol

from engine.errors import UserError

MODELS = "models"
"""The folder of a session in which models lie that were fine-tuned for it."""
LITTER = {".DS_Store", "Thumbs.db", "desktop.ini"}
# Arrays are compressed before they are zipped and the rest is small JSON, so an honest zip stays far below this.
MOST_INFLATION = 100


class Tree(Protocol):
    """Names are relative with ``/``. `read` raises OSError when a file is absent or cannot be read."""

    def read(self, name: str) -> bytes: ...
    def files(self, under: str = "") -> list[str]: ...
    def folders(self, under: str) -> list[str]: ...
    def close(self) -> None: ...


def open_tree(path: Path) -> Tree:
    """Open a session's folder or zip for reading."""
    if path.is_dir():
        return FolderTree(path)
    if not path.exists():
        raise UserError(f"There is no session at “{path}”. Check the name, or create a new session.")
    return ZipTree(path)


class FolderTree:
    """A session's folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, name: str) -> bytes:
        return (self._root / name).read_bytes()

    def files(self, under: str = "") -> list[str]:
        """All files below a folder, named relative to it, sorted."""
        top = self._root / under
        return sorted(
            (Path(folder) / name).relative_to(top).as_posix()
            for folder, _, names in os.walk(top)
            for name in names
            if name not in LITTER
        )

    def folders(self, under: str) -> list[str]:
        """The folders directly in a folder, sorted; none when it is absent."""
        top = self._root / under
        return sorted(entry.name for entry in os.scandir(top) if entry.is_dir()) if top.is_dir() else []

    def close(self) -> None:
        pass


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
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, ValueError) as error:
            raise UserError(f"“{path}” is neither a session folder nor a readable zip of one.", repr(error)) from error
        except OSError as error:
            raise UserError(f"“{path}” cannot be read: {error.strerror}.", repr(error)) from error
        try:
            self._names, self._prefix = _checked_names(self._zip, path)
            self.bytes = sum(entry.file_size for entry in self._zip.infolist())
        except BaseException:
            self._zip.close()
            raise

    def read(self, name: str) -> bytes:
        try:
            return self._zip.read(self._prefix + name)
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "not in the zip", name) from None
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise OSError(errno.EIO, str(error), name) from error

    def files(self, under: str = "") -> list[str]:
        """All files below a folder, named relative to it, sorted."""
        start = f"{under}/" if under else ""
        first, last = bisect_left(self._names, start), bisect_left(self._names, start + "\U0010ffff")
        return [name[len(start) :] for name in self._names[first:last]]

    def folders(self, under: str) -> list[str]:
        """The folders directly in a folder, sorted; none when it is absent."""
        return sorted({name.split("/", 1)[0] for name in self.files(under) if "/" in name})

    def close(self) -> None:
        self._zip.close()


def _checked_names(archive: zipfile.ZipFile, path: Path) -> tuple[list[str], str]:
    """Every entry looked at before any is read: names relative to the session, and where in the zip it lies."""
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    for entry in entries:
        parts = PurePosixPath(entry.filename).parts
        leaves = parts[:1] == ("/",) or ".." in parts or any(PureWindowsPath(part).drive for part in parts)
        if leaves or set(entry.orig_filename) & {"\\", "\0"}:
            raise UserError(f"“{path}” is refused: its entry “{entry.filename}” points outside the session.")
        plain = entry.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) and not entry.flag_bits & 1
        if stat.S_ISLNK(entry.external_attr >> 16) or not plain:
            raise UserError(
                f"“{path}” is refused: its entry “{entry.filename}” is a link, or packed in an unusual way."
            )
    names = [entry.filename for entry in entries if PurePosixPath(entry.filename).name not in LITTER]
    if len({name.casefold() for name in names}) < len(names):
        raise UserError(f"“{path}” is refused: it holds two entries of the same name.")
    if sum(entry.file_size for entry in entries) > MOST_INFLATION * path.stat().st_size:
        raise UserError(f"“{path}” is refused: it would unpack to more than {MOST_INFLATION} times its size.")
    # The session is the zip's root, or the one folder in it.
    heads = [name for name in names if name == "session.json" or name.endswith("/session.json")]
    prefix = min(heads, key=len, default="session.json").removesuffix("session.json")
    return sorted(name.removeprefix(prefix) for name in names if name.startswith(prefix)), prefix
