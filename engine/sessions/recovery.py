"""What was computed for a session that is gone: kept in a session of its own, never in a ghost of the old one."""

from collections.abc import Iterable
from pathlib import Path

from engine.errors import UserError
from engine.sessions.files import commit_folder

SUFFIX = ".eigenscope"


class SessionGone(UserError):
    """The folder of an open session is not there any more, or is another one now."""

    def __init__(self, path: Path, kept: Path | None = None) -> None:
        where = f" What this run has computed is kept in “{kept}”: open that session to go on." if kept else ""
        super().__init__(
            f"The session “{path}” was deleted, moved or renamed while it was open, so nothing can be added to "
            f"it.{where} If you moved it, open it where it is now and resume the run there."
        )
        self.path, self.kept = path, kept

    def __reduce__(self) -> tuple[type["SessionGone"], tuple[Path, Path | None]]:  # type: ignore[override]
        return type(self), (self.path, self.kept)


def keep(gone: Path, files: Iterable[tuple[str, bytes]]) -> Path:
    """Commit `files` as a new session beside the one that is gone, or else in the user's data folder.

    Raises
    ------
    UserError
        If neither can be written.
    """
    import platformdirs

    files = list(files)
    if gone.parent.is_dir():
        try:
            return _keep_in(gone.parent, gone.stem, files)
        except UserError:
            pass
    return _keep_in(platformdirs.user_data_path("eigenscope") / "recovered", gone.stem, files)


def _keep_in(folder: Path, stem: str, files: list[tuple[str, bytes]]) -> Path:
    number = 1
    while (target := folder / f"{stem}-recovered-{number}{SUFFIX}").exists():
        number += 1
    commit_folder(target, files)
    return target
