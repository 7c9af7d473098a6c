"""Links inside a session: nothing behind one is read, written, packed or removed, and one sentence says so."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import xarray as xr
from session_examples import INFO, META, PLAN, REQUEST, example, finished, refusals, small, started

from engine.errors import UserError
from engine.sessions.archive import pack
from engine.sessions.models import commit_model, committed_model, unfinished_model
from engine.sessions.store import Run, Session
from engine.sessions.verify import verify

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="making links needs rights there")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of somebody's own things, which no session may touch."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    (folder / "x.part").write_text("mine")
    (folder / "y.part").mkdir()
    (folder / "units").mkdir()
    (folder / "units" / "z.part").write_text("mine")
    return folder


def content(folder: Path) -> dict[str, bytes | None]:
    return {p.relative_to(folder).as_posix(): None if p.is_dir() else p.read_bytes() for p in sorted(folder.rglob("*"))}


def behind_a_link(path: Path, outside: Path) -> None:
    """Move what is at `path` outside and leave a link to it."""
    target = outside / "moved"
    shutil.move(path, target)
    path.symlink_to(target)


def test_an_owner_note_that_is_a_link_is_not_written_through(tmp_path: Path, outside: Path) -> None:
    path = tmp_path / "a.eigenscope"
    finished(path)
    (path / "session.owner").symlink_to(outside / "mine.txt")
    before = content(outside)
    Session.open(path).close()
    assert content(outside) == before


@pytest.mark.parametrize("hard", [False, True])
def test_an_owner_note_that_is_shared_with_another_file_is_replaced(hard: bool, tmp_path: Path, outside: Path) -> None:
    path = tmp_path / "a.eigenscope"
    finished(path)
    (os.link if hard else os.symlink)(outside / "mine.txt", path / "session.owner")
    with Session.open(path):
        assert (outside / "mine.txt").read_text() == "mine"
        assert str(os.getpid()) in (path / "session.owner").read_text()
        assert not (path / "session.owner").is_symlink()


@pytest.mark.parametrize("name", ["session.lock", "session.soft"])
def test_a_lock_that_is_a_link_is_refused(name: str, tmp_path: Path, outside: Path) -> None:
    path = tmp_path / "a.eigenscope"
    finished(path)
    (path / name).unlink(missing_ok=True)
    (path / name).symlink_to(outside / "new")
    with pytest.raises(UserError, match=f"its “{name}” is no regular file; remove it"):
        Session.open(path)
    assert not (outside / "new").exists()


@pytest.mark.parametrize("where", ["runs/x", "runs", "views", "views.part", "runs/x.part", "runs/{run}/units"])
def test_opening_removes_no_part_behind_a_link(where: str, tmp_path: Path, outside: Path) -> None:
    path = tmp_path / "a.eigenscope"
    session, run = started(path)
    session.close()
    link = path / where.format(run=run.id)
    if link.is_dir():
        shutil.rmtree(link)
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(outside)
    before = content(outside)
    refusals(path, readonly=False)
    assert content(outside) == before
    if link.suffix == ".part":
        assert not link.is_symlink(), "the link itself was left by nobody who finished"


WRITES: dict[str, tuple[str, Callable[[Session, Run], object]]] = {
    "unit": ("runs/{run}/units", lambda session, run: run.commit_unit(PLAN[0], small(0), META)),
    "view": ("views", lambda session, run: session.save_view("v", {"a": 1})),
    "run": ("runs", lambda session, run: session.new_run(REQUEST, [INFO], PLAN, {})),
    "result": ("runs/{run}", lambda session, run: run.commit_result(small(0))),
    "model": ("models", lambda session, run: unfinished_model(session, "m")),
    "set aside": ("runs/{run}/units", lambda session, run: run.set_aside(PLAN[0])),
}


@pytest.mark.parametrize("what", WRITES)
def test_nothing_is_written_behind_a_link(what: str, tmp_path: Path, outside: Path) -> None:
    """The link is made while the session is open, as by somebody else with rights to the folder."""
    where, write = WRITES[what]
    session, run = started(tmp_path / "a.eigenscope")
    with session:
        link = session.path / where.format(run=run.id)
        if link.exists():
            shutil.rmtree(link)
        link.symlink_to(outside)
        before = content(outside)
        with pytest.raises(UserError, match=r"could not be written: it is a link.*put the thing itself"):
            write(session, run)
        assert content(outside) == before


def test_a_part_that_is_a_link_is_replaced_by_a_folder(tmp_path: Path, outside: Path) -> None:
    session, run = started(tmp_path / "a.eigenscope")
    with session:
        run.commit_unit(PLAN[0], small(0), META)
        (run.path / "units" / f"{PLAN[1]}.part").symlink_to(outside)
        (session.path / "views").mkdir()
        (session.path / "views" / "v.json.part").symlink_to(outside / "mine.txt")
        (session.path / "views" / "v.json").symlink_to(outside / "mine.txt")
        before = content(outside)
        run.commit_unit(PLAN[1], small(1), META)
        session.save_view("v", {"a": 1})
        assert content(outside) == before
        xr.testing.assert_identical(run.read_unit(PLAN[1]), small(1))
        assert session.views() == {"v": {"a": 1}}


FILES = [
    "runs/{run}/units/m0-l0/zarr.json",
    "runs/{run}/units/m0-l0/kept/c/0",
    "runs/{run}/units/m0-l0/kept",
    "runs/{run}/units/m0-l0/manifest.json",
    "runs/{run}/units/m0-l0",
    "runs/{run}/units",
    "runs/{run}/run.json",
    "runs/{run}/result.zarr",
    "runs/{run}",
    "views/spectrum.json",
    "session.json",
    "runs",
]


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_read_behind_a_link(name: str, tmp_path: Path, outside: Path) -> None:
    """Even where what is behind it is exactly what was committed."""
    path = tmp_path / "a.eigenscope"
    finished(path)
    with Session.open(path, readonly=True) as session:
        run = session.runs()[0].id
    behind_a_link(path / name.format(run=run), outside)
    sentences = refusals(path)
    assert any("a link" in sentence for sentence in sentences) or (name.endswith("kept") and sentences)
    if "views" in name:
        with Session.open(path, readonly=True) as session:
            assert session.views() == {}
    with pytest.raises(UserError):
        pack(path, tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()


@pytest.mark.parametrize("folder", [False, True])
def test_a_link_beside_the_runs_is_not_packed_nor_copied(folder: bool, tmp_path: Path, outside: Path) -> None:
    path = tmp_path / "a.eigenscope"
    finished(path)
    (path / "figures").mkdir()
    (path / "figures" / "a.svg").symlink_to(outside if folder else outside / "mine.txt")
    with pytest.raises(UserError, match=r"because of its file “figures/a.svg”: it is a link"):
        pack(path, tmp_path / "a.zip")
    with Session.open(path) as session, pytest.raises(UserError, match=r"“figures/a.svg”: it is a link"):
        session.save_as(tmp_path / "b.eigenscope")
    assert not (tmp_path / "a.zip").exists()
    assert not (tmp_path / "b.eigenscope").exists()


def test_a_model_with_a_link_in_it_is_not_committed(tmp_path: Path, outside: Path) -> None:
    session, _ = started(tmp_path / "a.eigenscope")
    with session:
        part = unfinished_model(session, "m")
        (part / "config.json").symlink_to(outside / "mine.txt")
        with pytest.raises(UserError, match="it is a link"):
            commit_model(session, "m", {})
        (part / "config.json").unlink()
        (part / "config.json").write_text("{}")
        commit_model(session, "m", {})
        assert committed_model(session, "m") == session.path / "models" / "m"


def test_a_damaged_unit_behind_a_link_is_set_aside_as_the_link(tmp_path: Path, outside: Path) -> None:
    session, run = started(tmp_path / "a.eigenscope")
    with session:
        run.commit_unit(PLAN[0], small(0), META)
        behind_a_link(run.path / "units" / PLAN[0], outside)
        before = content(outside)
        run.set_aside(PLAN[0])
        run.commit_unit(PLAN[0], small(0), META)
        xr.testing.assert_identical(run.read_unit(PLAN[0]), small(0))
        assert content(outside) == before


def test_a_session_reached_through_a_link_opens(tmp_path: Path) -> None:
    """The link lies outside the session, where the user made it."""
    finished(tmp_path / "a.eigenscope")
    (tmp_path / "b.eigenscope").symlink_to(tmp_path / "a.eigenscope")
    with Session.open(tmp_path / "b.eigenscope") as session:
        xr.testing.assert_equal(session.runs()[0].result(), example(9))
        session.runs()[1].commit_unit("b", small(1), META)
    assert verify(tmp_path / "b.eigenscope").problems == ()
