"""Write an exported file whole or not at all."""

from pathlib import Path

from engine.errors import UserError
from engine.sessions.files import replace_file


def write(path: Path, content: bytes) -> None:
    """Write `content` to `path` in one step, in a folder that exists.

    Raises
    ------
    UserError
        If it could not be written; any earlier file is untouched.
    """
    try:
        if not path.parent.is_dir():
            raise FileNotFoundError(f"there is no folder “{path.parent}”")
        replace_file(path, content)
    except (UserError, OSError) as error:
        cause = error.__cause__ if isinstance(error, UserError) else error
        reason = getattr(cause, "strerror", None) or str(cause)
        raise UserError(
            f"“{path.name}” could not be saved in “{path.parent}”: {reason}. "
            "Choose another folder, or make room and try again.",
            repr(cause),
        ) from error
