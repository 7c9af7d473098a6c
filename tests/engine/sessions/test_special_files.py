"""Pipes, sockets and devices in place of files: never waited for, never read."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from session_examples import finished, refusals
from special_files import a_socket

from engine.errors import UserError
from engine.sessions.archive import pack, unpack
from engine.sessions.store import Session
from engine.sessions.verify import verify

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="no such files there"),
    pytest.mark.timeout(30),
]


def a_device(path: Path) -> None:
    try:
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))  # zeros without end
    except PermissionError:
        pytest.skip("only an administrator makes devices")


KINDS: dict[str, Callable[[Path], None]] = {"pipe": os.mkfifo, "socket": a_socket, "device": a_device}
FILES = [
    "session.json",
    "runs/{run}/run.json",
    "runs/{run}/units/m0-l0/zarr.json",
    "runs/{run}/units/m0-l0/kept/c/0",
    "runs/{run}/units/m0-l0/manifest.json",
    "runs/{run}/units/m0-l0",
    "runs/{run}/units",
    "runs/{run}/result.zarr",
    "runs/{run}",
    "runs",
    "views/spectrum.json",
    "views",
    "session.lock",
    "session.owner",
    "figures",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FILES)
def test_a_special_file_in_place_of_any_other_ends_in_a_sentence(name: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.eigenscope"
    finished(path)
    with Session.open(path, readonly=True) as session:
        run = session.runs()[0].id
    file = path / name.format(run=run)
    if file.exists():
        file.rename(tmp_path / "moved")
    KINDS[kind](file)
    sentences = refusals(path) + refusals(path, readonly=False)
    assert sentences or name in ("session.owner", "figures", "views", "views/spectrum.json")
    if name not in ("session.lock", "session.owner"):
        with pytest.raises(UserError):
            pack(path, tmp_path / "a.zip")


@pytest.mark.parametrize("kind", KINDS)
def test_a_special_file_is_no_zip(kind: str, tmp_path: Path) -> None:
    KINDS[kind](tmp_path / "a.zip")
    for attempt in (Session.open, verify, lambda path: unpack(path, tmp_path / "out")):
        with pytest.raises(UserError, match="cannot be read: it is neither a file nor a folder"):
            attempt(tmp_path / "a.zip")


@pytest.mark.parametrize("path", ["x" * 5000, "a\0b", "a/" * 3000])
def test_a_path_that_no_file_can_have_is_no_session(path: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"(There is no session|cannot be read)"):
        Session.open(tmp_path / path)
