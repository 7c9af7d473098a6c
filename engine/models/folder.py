"""What a model's folder holds, looked at before anything in it is opened: files, and links to files.

The hub's cache is made of links, so links are followed; what is behind one has to be a file.
"""

import os
import stat
from codecs import BOM_UTF8
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from engine.errors import UserError, reason
from engine.files import SPECIAL, read_file
from engine.gate import parse

LFS = b"version https://git-lfs.github.com/spec/"
TEMPLATES = "additional_chat_templates"
# What the library reads as a whole: no such file of a real model has a tenth of MOST_SMALL.
SMALL = ("*config*.json", "*token*.json", "*.index.json", "*vocab*", "*merges*", "*.model", "*.tiktoken", "*.jinja")
MOST_SMALL = 256_000_000
MOST_JSON = 128_000_000
MOST_INTEGER = 2**128
"""Some tokenizers say that texts may have 10³⁰ tokens."""


def present(file: Path) -> bool:
    """Whether a file is there.

    Raises
    ------
    UserError
        If something else has its name: a folder, a pipe, a link that leads nowhere.
    """
    try:
        mode = file.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if file.is_symlink():
            raise UserError(f"{file} is a link to a file that is not there. Download the model again.") from None
        return False
    except (OSError, ValueError) as error:
        raise UserError(unreadable(file, error)) from error
    if not stat.S_ISREG(mode):
        what = "it is a folder where a file belongs" if stat.S_ISDIR(mode) else SPECIAL
        raise UserError(f"{file} cannot be read: {what}. Download the model again.")
    return True


def require_readable(folder: Path) -> None:
    """Refuse a folder in which the library could wait for a pipe, or read a file without end.

    Raises
    ------
    UserError
        It names the file.
    """
    for file in _inside(folder):
        try:
            status = file.stat()
        except OSError:  # a link that leads nowhere: harmless, unless it is needed, and then `present` names it
            continue
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            raise UserError(f"{file} cannot be read: {SPECIAL}. A model's folder holds files only.")
        if status.st_size > MOST_SMALL and any(fnmatch(file.name, pattern) for pattern in SMALL):
            raise UserError(
                f"{file} has {status.st_size / 1e9:.1f} GB, which no such file of a model needs: it is damaged. "
                "Download it again."
            )


def _inside(folder: Path) -> Iterator[Path]:
    for above in (folder, folder / TEMPLATES):
        if above.is_dir():
            yield from (above / name for name in entries(above))


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object, with a sentence for every way in which that fails."""
    try:
        data = read_file(file, MOST_JSON)
    except OSError as error:
        raise UserError(unreadable(file, error)) from error
    if data.startswith(LFS):
        raise UserError(lfs_pointer(file))
    try:
        content = parse(data.removeprefix(BOM_UTF8), MOST_INTEGER)
    except ValueError as error:
        raise UserError(f"{file} is not valid JSON ({reason(error)}). Download it again.", str(error)) from error
    if not isinstance(content, dict):
        raise UserError(f"{file} does not hold a JSON object: it is damaged. Download it again.")
    return content


def entries(folder: Path) -> list[str]:
    """Names in a folder, in order."""
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise UserError(unreadable(folder, error)) from error


def lfs_pointer(file: Path) -> str:
    """What a Git LFS pointer means."""
    return (
        f"{file} is a Git LFS pointer, not the file itself. Run `git lfs pull` in its folder, or download the model "
        "from the hub."
    )


def unreadable(file: Path, error: OSError | ValueError) -> str:
    """What the system said about a file."""
    return f"{file} cannot be read ({reason(error)}). Check the disk and the file's permissions."
