"""Compare everything in a session with what was committed."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.errors import UserError
from engine.sessions.files import unseal
from engine.sessions.manifest import DamagedUnit, check
from engine.sessions.metadata import check_metadata, is_metadata
from engine.sessions.migrate import HEAD, read_schema
from engine.sessions.store import RESULT
from engine.sessions.tree import MODELS, Tree, open_tree


@dataclass(frozen=True)
class Report:
    """How many files and bytes were compared; one sentence for each problem, none when the session is sound."""

    files: int
    bytes: int
    problems: tuple[str, ...]


def verify(path: Path | str) -> Report:
    """Check every committed file of a session folder, or of a zip of one, against its BLAKE2b.

    Folders that were set aside as damaged, unfinished parts and exported figures have nothing to be compared with.

    Raises
    ------
    UserError
        If there is no session of a schema that this program reads.
    """
    path = Path(path).absolute()
    tree = open_tree(path)
    try:
        read_schema(tree, path)
        problems = list(_compare(tree))
    finally:
        tree.close()
    return Report(
        len(problems), sum(size for size, _ in problems), tuple(problem for _, problem in problems if problem)
    )


def _compare(tree: Tree) -> Iterator[tuple[int, str]]:
    """For each file its size and its problem."""
    yield len(tree.read(HEAD)), ""
    for name in tree.files("views"):
        if name.endswith(".json"):
            yield _sealed(tree, f"views/{name}")
    for run in _committed(tree, "runs"):
        yield _sealed(tree, f"{run}/run.json")
        try:
            for unit in _committed(tree, f"{run}/units"):
                yield from _folder(tree, unit)
            if RESULT in tree.folders(run):
                yield from _folder(tree, f"{run}/{RESULT}")
        except UserError as refused:  # a link in place of a folder
            yield 0, refused.message
    for model in _committed(tree, MODELS):
        yield from _folder(tree, model, arrays=False)


def _committed(tree: Tree, under: str) -> list[str]:
    return [f"{under}/{name}" for name in tree.folders(under) if "." not in name]


def _sealed(tree: Tree, name: str) -> tuple[int, str]:
    try:
        data = tree.read(name)
        unseal(data)
    except FileNotFoundError:
        return 0, f"The file “{name}” is missing."
    except OSError as error:
        return 0, f"The file “{name}” cannot be read ({error.strerror})."
    except ValueError:
        return len(data), f"The file “{name}” is damaged: its content has changed since it was written."
    return len(data), ""


def _folder(tree: Tree, folder: str, *, arrays: bool = True) -> Iterator[tuple[int, str]]:
    metadata, names, sound = {}, set(), True
    try:
        for file in check(tree, folder):
            yield len(file.data), file.problem and f"The file “{folder}/{file.name}” is damaged: {file.problem}."
            sound &= not file.problem
            names.add(file.name)
            if is_metadata(file.name):
                metadata[file.name] = file.data
        if sound and arrays:
            check_metadata(metadata, names, folder)
        yield len(tree.read(f"{folder}/manifest.json")), ""
    except DamagedUnit as damage:
        yield 0, f"The file “{damage.file}” is damaged: {damage.why}."
    except UserError as refused:
        yield 0, refused.message
