"""A session of many runs, and a zip of many folders: opening reads each description once."""

import shutil
import zipfile
from pathlib import Path

import pytest
from session_examples import started

from engine.sessions.store import Session
from engine.sessions.tree import FolderTree


@pytest.fixture
def many(tmp_path: Path) -> Path:
    session, run = started(tmp_path / "a.eigenscope")
    with session:
        for number in range(99):
            shutil.copytree(run.path, run.path.with_name(f"{run.id[:-4]}{number:04d}"))
    return session.path


def test_the_description_of_a_run_is_read_once(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    read = FolderTree.read
    monkeypatch.setattr(FolderTree, "read", lambda tree, name: (names.append(name), read(tree, name))[1])
    with Session.open(many) as session:
        runs = session.runs()
        assert len(runs) == 100
        assert all(session.run(run.id) is run for run in runs)
    assert len(names) == len(set(names)) == 101


@pytest.mark.timeout(60)
def test_a_zip_of_twenty_thousand_folders_opens(many: Path, tmp_path: Path) -> None:
    description = next(many.glob("runs/*/run.json")).read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("s/session.json", (many / "session.json").read_bytes())
        for number in range(20_000):
            archive.writestr(f"s/runs/{number}/run.json" if number < 100 else f"s/runs/{number}/units/x", description)
    with Session.open(tmp_path / "a.zip") as session:
        assert len(session.runs()) == 100
        assert "19900 of the runs cannot be read" in session.notices[1]
