"""One writer, also on file systems without locks, and where one machine has them and another has not."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from session_examples import finished

from engine.sessions.lock import LOCK, OWNER, SOFT, SessionLocked
from engine.sessions.store import Session

fcntl = pytest.importorskip("fcntl")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    finished(tmp_path / "a.eigenscope")
    return tmp_path / "a.eigenscope"


@pytest.fixture(params=["ENOLCK", "ENOSYS", "EOPNOTSUPP"])
def no_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    number = getattr(errno, request.param)

    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    return monkeypatch


def test_a_file_stands_for_a_lock_where_there_is_none(path: Path, no_locks: pytest.MonkeyPatch) -> None:
    with Session.open(path):
        assert (path / SOFT).exists()
        with pytest.raises(SessionLocked, match=f"already open in process {os.getpid()}"):
            Session.open(path)
    assert not (path / SOFT).exists()
    Session.open(path).close()


def test_a_lock_and_a_file_that_stands_for_one_exclude_each_other(path: Path, no_locks: pytest.MonkeyPatch) -> None:
    with Session.open(path):
        no_locks.undo()
        with pytest.raises(SessionLocked):
            Session.open(path)
    with Session.open(path):
        no_locks.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOLCK, "no locks")))
        with pytest.raises(SessionLocked, match=f"process {os.getpid()}"):
            Session.open(path)
        assert not (path / SOFT).exists()
        no_locks.undo()
    Session.open(path).close()


def test_what_a_dead_process_left_locks_nobody_out(path: Path, no_locks: pytest.MonkeyPatch) -> None:
    code = (
        "import errno, fcntl, os, sys\n"
        "def flock(*_): raise OSError(errno.ENOLCK, '')\n"
        "fcntl.flock = flock\n"
        "from engine.sessions.store import Session\n"
        "Session.open(sys.argv[1]); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, cwd=Path(__file__).parents[3])
    assert (path / SOFT).exists()
    Session.open(path).close()
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, cwd=Path(__file__).parents[3])
    no_locks.undo()
    Session.open(path).close()


@pytest.mark.parametrize("note", ["[]", "{", '{"pid": "x"}', '{"pid": 1e400}', json.dumps({"pid": 10**18}), "\0" * 99])
def test_a_note_that_somebody_made_up_only_changes_the_sentence(note: str, path: Path) -> None:
    with Session.open(path):
        (path / OWNER).write_text(note)
        with pytest.raises(SessionLocked, match="already open in another window"):
            Session.open(path)
    assert (path / LOCK).exists()
