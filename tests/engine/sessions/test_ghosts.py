"""A session that is deleted, moved or replaced while it is open is never made again; what was computed is kept."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import xarray as xr
from session_examples import INFO, META, PLAN, REQUEST, small, started

from engine.errors import UserError
from engine.sessions.models import commit_model, unfinished_model
from engine.sessions.recovery import SessionGone
from engine.sessions.store import Session
from engine.sessions.verify import verify


def _replace(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()
    (path / "session.json").write_text("{}")


LOSSES: dict[str, Callable[[Path], object]] = {
    "deleted": shutil.rmtree,
    "renamed": lambda path: path.rename(path.with_name("elsewhere")),
    "replaced": _replace,
    "emptied": lambda path: (shutil.rmtree(path / "runs"), (path / "session.json").unlink()),
}


def names(folder: Path) -> set[Path]:
    return set(folder.rglob("*")) if folder.exists() else set()


@pytest.mark.parametrize("how", LOSSES)
@pytest.mark.parametrize("result", [False, True])
def test_what_was_computed_is_kept_in_a_session_of_its_own(how: str, result: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.eigenscope"
    session, run = started(path)
    with session:
        run.commit_unit(PLAN[0], small(0), META)
        LOSSES[how](path)
        before = names(path)
        with pytest.raises(SessionGone, match="was deleted, moved or renamed") as gone:
            run.commit_result(small(1)) if result else run.commit_unit(PLAN[1], small(1), META)
        assert names(path) == before
    kept = gone.value.kept
    assert kept == tmp_path / "a-recovered-1.eigenscope"
    assert str(kept) in gone.value.message
    assert verify(kept).problems == ()
    with Session.open(kept) as recovered:
        (again,) = recovered.runs()
        assert (again.id, again.request, again.models, again.plan) == (run.id, REQUEST, (INFO,), PLAN)
        if result:
            assert again.finished
        else:
            xr.testing.assert_identical(again.read_unit(PLAN[1]), small(1))
            again.commit_unit(PLAN[0], small(0), META)


@pytest.mark.parametrize("how", LOSSES)
def test_all_that_is_known_of_a_run_is_kept_with_the_unit_in_hand(how: str, tmp_path: Path) -> None:
    session, run = started(tmp_path / "a.eigenscope")
    known = {key: (small(seed), META | {"weights_stamp": key}) for seed, key in enumerate(PLAN[:2])}
    with session:
        for key, (ds, meta) in known.items():
            run.commit_unit(key, ds, meta)
        LOSSES[how](session.path)
        with pytest.raises(SessionGone) as gone:
            run.commit_unit(PLAN[2], small(2), META, known)
    assert gone.value.kept is not None
    with Session.open(gone.value.kept) as recovered:
        (again,) = recovered.runs()
        assert again.committed() == set(PLAN[:3])
        for key, (ds, meta) in known.items():
            xr.testing.assert_identical(again.read_unit(key), ds)
            assert again.unit_meta(key) == meta
    assert verify(gone.value.kept).problems == ()


def test_where_nothing_was_computed_there_is_nothing_to_keep(tmp_path: Path) -> None:
    session, run = started(tmp_path / "a.eigenscope")
    with session:
        shutil.rmtree(session.path)
        assert run.rescue({}).kept is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("how", LOSSES)
def test_nothing_else_makes_it_again(how: str, tmp_path: Path) -> None:
    path = tmp_path / "a.eigenscope"
    session, run = started(path)
    with session:
        unfinished_model(session, "m")
        LOSSES[how](path)
        before = names(path)
        for write in (
            lambda: session.new_run(REQUEST, [INFO], PLAN, {}),
            lambda: session.save_view("v", {}),
            lambda: run.set_aside(PLAN[0]),
            lambda: commit_model(session, "m", {}),
        ):
            try:
                write()
            except UserError:
                assert names(path) == before or how == "emptied"
        if how != "emptied":
            with pytest.raises(UserError, match="was deleted, moved or renamed while it was open"):
                unfinished_model(session, "n")
            assert names(path) == before
    assert not (path / "session.owner").exists()


def test_where_the_folder_above_is_gone_too_the_users_data_folder_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platformdirs.user_data_path", lambda name: tmp_path / "data" / name)
    session, run = started(tmp_path / "gone" / "a.eigenscope")
    with session:
        shutil.rmtree(tmp_path / "gone")
        for number, key in enumerate(PLAN[:2], 1):
            with pytest.raises(SessionGone) as gone:
                run.commit_unit(key, small(0), META)
            assert gone.value.kept == tmp_path / f"data/eigenscope/recovered/a-recovered-{number}.eigenscope"
    assert not (tmp_path / "gone").exists()
