"""Names of files inside a session: one function decides which are safe, on every platform, wherever they come from."""

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

MOST_FOLDERS = 32
MOST_BYTES = 255
# Windows opens a device for these, whatever the extension.
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])( *\..*)?", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def safe_name(name: str) -> str:
    """Return `name` if it is a relative path, with ``/``, of a file inside whatever folder it is joined to.

    Raises
    ------
    ValueError
        Saying what is wrong with it, as the rest of a sentence about it.
    """
    parts = name.split("/")
    if name.startswith("/") or "\\" in name or "\0" in name or any(part[1:2] == ":" for part in parts):
        raise ValueError("points outside the session")
    for part in parts:
        _require_safe(part)
    if len(parts) > MOST_FOLDERS:
        raise ValueError("lies too deep")
    return name


@lru_cache(4096)  # the parts of a session's names are few
def _require_safe(part: str) -> None:
    # Windows drops dots and spaces at the end, so that ".. " is ".." there.
    if not part.rstrip(" ."):
        raise ValueError("points outside the session" if ".." in part else "has an empty part or a dot for one")
    if _DEVICE.fullmatch(part.rstrip(" .")):
        raise ValueError("is reserved by Windows for a device")
    if _CONTROL.search(part):
        raise ValueError("has characters that cannot be shown")
    if len(part.encode()) > MOST_BYTES:
        raise ValueError("is too long")


def have_twins(names: Iterable[str]) -> bool:
    """Whether two of the names are one file, or one is a folder of another, on some platform."""
    names = list(names)
    files = {_key(name) for name in names}
    folders = {key[:at] for key in files for at in range(len(key)) if key[at] == "/"}
    return len(files) < len(names) or not files.isdisjoint(folders)


def _key(name: str) -> str:
    """What is left of a name where case, Unicode composition, and dots or spaces at the end make no difference."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())
    return "/".join(part.rstrip(" .") for part in folded.split("/"))
