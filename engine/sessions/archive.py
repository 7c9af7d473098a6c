"""One zip of a session for a colleague, and back."""

import os
import shutil
import zipfile
from pathlib import Path

from engine.errors import UserError
from engine.sessions.content import committed_files
from engine.sessions.files import commit_folder, is_taken, writing
from engine.sessions.rooted import opened
from engine.sessions.tree import ZipTree, open_tree
from engine.sessions.verify import Report, verify


def pack(session: Path | str, target: Path | str) -> Report:
    """Write one zip of a session that has just been verified, and verify the zip.

    The same session always makes the same bytes. Arrays are compressed already, so entries are stored; locks,
    unfinished parts and damaged folders stay behind. An existing `target` is replaced once the new one is whole.

    Raises
    ------
    UserError
        Naming the file, if anything in the session is damaged; or if `target` cannot be written.
    """
    session, target = Path(session).absolute(), Path(target).absolute()
    _require_sound(verify(session), session, "packed")
    part = target.parent / f"{target.name}.part"
    tree = open_tree(session)
    with writing(target):
        try:
            part.unlink(missing_ok=True)
            with open(part, "xb") as file, zipfile.ZipFile(file, "w") as archive:
                for name, content in committed_files(tree):
                    entry = zipfile.ZipInfo(f"{session.stem}.eigenscope/{name}", (1980, 1, 1, 0, 0, 0))
                    entry.create_system, entry.external_attr = 3, 0o644 << 16
                    archive.writestr(entry, content)
            with opened(target.parent) as folder:
                folder.sync(part.name)
            report = verify(part)
            _require_sound(report, session, "packed")
            os.replace(part, target)
            with opened(target.parent) as folder:
                folder.sync()
        finally:
            tree.close()
            part.unlink(missing_ok=True)
    return report


def unpack(source: Path | str, folder: Path | str) -> Report:
    """Turn a zip of a session back into a session folder, checked before and after.

    Raises
    ------
    UserError
        If the zip is damaged or made to do harm, `folder` is taken, or the disk has not the space.
    """
    source, folder = Path(source).absolute(), Path(folder).absolute()
    if is_taken(folder):
        raise UserError(f"“{folder}” already exists. Choose another name for the unpacked session.")
    _require_sound(verify(source), source, "unpacked")
    tree = open_tree(source)
    try:
        if not isinstance(tree, ZipTree):
            raise UserError(f"“{source}” is a folder already; open it as it is.")
        existing = next(parent for parent in folder.parents if parent.exists())
        if tree.bytes > shutil.disk_usage(existing).free:
            raise UserError(f"“{source}” needs {tree.bytes / 1e9:.1f} GB unpacked, more than is free in “{existing}”.")
        commit_folder(folder, committed_files(tree))
    finally:
        tree.close()
    report = verify(folder)
    _require_sound(report, folder, "unpacked")
    return report


def _require_sound(report: Report, path: Path, what: str) -> None:
    if report.problems:
        more = f" (and {len(report.problems) - 1} more problems)" if len(report.problems) > 1 else ""
        raise UserError(f"“{path}” cannot be {what}. {report.problems[0]}{more}", "\n".join(report.problems))
