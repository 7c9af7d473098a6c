"""A committed folder's list of its own files: path, size and BLAKE2b of each, and what is known about the unit."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from engine.errors import UserError
from engine.printable import printable
from engine.sessions.files import digest, seal, unseal
from engine.sessions.records import FileRecord, Manifest
from engine.sessions.tree import Tree, free_memory

MANIFEST = "manifest.json"


class DamagedUnit(UserError):
    """A committed folder that is no longer what was committed.

    Attributes
    ----------
    folder : str
        The unit (or result) inside the session.
    file : str
        The first file found damaged, relative to the session.
    """

    def __init__(self, folder: str, file: str, why: str) -> None:
        super().__init__(
            f"The file “{printable(file)}” is damaged: {why}. "
            "Resume the run to compute it again; the damaged copy is kept aside."
        )
        self.folder, self.file, self.why = folder, file, why

    def __reduce__(self) -> Any:
        return type(self), (self.folder, self.file, self.why)


@dataclass(frozen=True)
class CheckedFile:
    """One file compared with its manifest: sound when `problem` is empty."""

    name: str
    data: bytes
    problem: str


def with_manifest(files: Mapping[str, bytes], meta: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    """The files, and the manifest that goes with them."""
    yield from files.items()
    listed = {name: {"size": len(data), "blake2b": digest(data)} for name, data in files.items()}
    yield MANIFEST, seal({"files": listed, "meta": dict(meta)})


def read_manifest(tree: Tree, folder: str) -> Manifest:
    """The manifest of a committed folder.

    Raises
    ------
    DamagedUnit
        If it is absent or has changed.
    """
    try:
        data = tree.read(f"{folder}/{MANIFEST}")
        unseal(data)
        return Manifest.model_validate_json(data)
    except FileNotFoundError:
        raise DamagedUnit(folder, f"{folder}/{MANIFEST}", "it is missing") from None
    except (OSError, ValueError) as error:
        raise DamagedUnit(folder, f"{folder}/{MANIFEST}", _reason(error)) from error


def check(tree: Tree, folder: str) -> Iterator[CheckedFile]:
    """Read each file that the manifest lists and compare it; one at a time, so memory stays small."""
    listed = read_manifest(tree, folder).files
    # Only names that lie in the folder are ever read, whatever a made-up manifest says.
    present = set(tree.files(folder)) - {MANIFEST}
    for name in sorted(listed.keys() | present):
        if name not in present:
            yield CheckedFile(name, b"", "it is missing")
        elif name not in listed:
            yield CheckedFile(name, b"", "it is not in the manifest")
        else:
            yield _compared(tree, folder, name, listed[name])


def read_files(tree: Tree, folder: str) -> dict[str, bytes]:
    """The checked content of a committed folder; raises DamagedUnit at the first file that is not as committed."""
    files = {}
    total = sum(entry.size for entry in read_manifest(tree, folder).files.values())
    if total > free_memory():
        raise UserError(
            f"“{folder}” cannot be opened: it needs {total / 1e9:.1f} GB, more than the memory that is free."
        )
    for file in check(tree, folder):
        if file.problem:
            raise DamagedUnit(folder, f"{folder}/{file.name}", file.problem)
        files[file.name] = file.data
    return files


def _compared(tree: Tree, folder: str, name: str, entry: FileRecord) -> CheckedFile:
    try:
        size = tree.size(f"{folder}/{name}")
        data = tree.read(f"{folder}/{name}") if size == entry.size else b""
    except OSError as error:
        return CheckedFile(name, b"", _reason(error))
    if len(data) != entry.size:
        return CheckedFile(name, data, f"it has {size} bytes where {entry.size} were written")
    if digest(data) != entry.blake2b:
        return CheckedFile(name, data, "its content has changed since it was written")
    return CheckedFile(name, data, "")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"it cannot be read ({error.strerror})"
    return "its content has changed since it was written"
