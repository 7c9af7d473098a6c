"""Sessions: what is committed comes back equal, the notebook opens it, and one writer at a time."""

import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from session_examples import INFO, META, PLAN, REQUEST, example, finished, leftovers, small, started

from engine.errors import UserError
from engine.sessions import migrate
from engine.sessions.files import seal, unseal
from engine.sessions.lock import SessionLocked
from engine.sessions.provenance import collect
from engine.sessions.store import Session
from engine.sessions.verify import verify


def test_units_and_result_come_back_identical(tmp_path: Path) -> None:
    session, run = started(tmp_path / "a.eigenscope")
    with session:
        run.commit_unit(PLAN[2], example(), META)
        assert run.committed() == {PLAN[2]}
        assert not run.finished
        assert run.result() is None
        run.commit_result(example(3))
        assert run.finished
    with Session.open(tmp_path / "a.eigenscope") as session:
        (run,) = session.runs()
        assert (run.request, run.models, run.plan) == (REQUEST, (INFO,), PLAN)
        assert run.provenance == {"versions": {"numpy": np.__version__}}
        assert run.unit_meta(PLAN[2]) == META
        xr.testing.assert_identical(run.read_unit(PLAN[2]), example())
        result = run.result()
        assert result is not None
        xr.testing.assert_equal(result, example(3))
        assert {name: v.dtype.kind for name, v in result.variables.items() if v.dtype.kind not in "UT"} == {
            name: v.dtype.kind for name, v in example(3).variables.items() if v.dtype.kind != "U"
        }


def test_a_notebook_opens_the_result_in_one_line_without_warnings(tmp_path: Path) -> None:
    expected = finished(tmp_path / "a.eigenscope")
    (store,) = (tmp_path / "a.eigenscope").glob("runs/*/result.zarr")
    # A process of its own: warnings that are shown once must not have been shown before.
    code = "import sys, warnings; warnings.simplefilter('error'); import xarray; xarray.open_zarr(sys.argv[1]).load()"
    done = subprocess.run([sys.executable, "-c", code, str(store)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened = xr.open_zarr(store)
        xr.testing.assert_equal(opened.load(), expected)
    attrs = opened.attrs
    assert json.loads(attrs["request"])["seed"] == attrs["seed"] == 7
    assert json.loads(attrs["models"])[0]["identity"] == INFO.identity
    assert json.loads(attrs["units"])["m0-l0"]["weights_hash"] == "aa"
    assert attrs["seconds"] == 4 * META["seconds"]
    assert attrs["notes"] == ["one", "two"]


def test_layout_codecs_and_empty_chunks_on_disk(tmp_path: Path) -> None:
    finished(tmp_path / "a.eigenscope")
    result = next((tmp_path / "a.eigenscope").glob("runs/*/result.zarr"))
    for name in example().variables:
        array = json.loads((result / str(name) / "zarr.json").read_text())
        assert array["zarr_format"] == 3
        assert [codec["name"] for codec in array["codecs"]][1:] == ["zstd", "crc32c"]
        assert isinstance(array["data_type"], str)
    for name in ("absent", "none"):
        assert list((result / name / "c").iterdir()), "a chunk of nothing but the fill value is written like any other"
    assert {p.name for p in (tmp_path / "a.eigenscope").iterdir()} == {"session.json", "session.lock", "runs", "views"}


def test_big_arrays_are_cut_along_the_leading_dimensions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.sessions.units.CHUNK_BYTES", 1000)
    values = np.random.default_rng(0).normal(size=(3, 5, 7, 11))
    session, run = started(tmp_path / "a.eigenscope")
    with session:
        run.commit_unit(PLAN[0], xr.Dataset({"x": (("model", "layer", "head", "mode"), values)}), META)
        assert len(list((run.path / "units" / PLAN[0] / "x" / "c").rglob("*"))) > 15
        np.testing.assert_array_equal(run.read_unit(PLAN[0]).x, values)


def test_nothing_is_saved_over(tmp_path: Path) -> None:
    session, run = started(tmp_path / "a.eigenscope")
    with session:
        run.commit_unit(PLAN[0], small(0), META)
        with pytest.raises(UserError, match="already committed"):
            run.commit_unit(PLAN[0], small(1), META)
        xr.testing.assert_identical(run.read_unit(PLAN[0]), small(0))
        with pytest.raises(ValueError, match="not in the plan"):
            run.commit_unit("other", small(1), META)
        with pytest.raises(ValueError, match="unique"):
            session.new_run(REQUEST, [INFO], ["../up"], {})
        with pytest.raises(UserError, match="already exists"):
            Session.create(tmp_path / "a.eigenscope")
        with pytest.raises(UserError, match="already exists"):
            session.save_as(tmp_path / "a.eigenscope")
        with pytest.raises(UserError, match="no run"):
            session.run("../../etc")


def test_runs_are_listed_oldest_first_and_views_keep_their_settings(tmp_path: Path) -> None:
    with Session.create(tmp_path / "a.eigenscope") as session:
        ids = [session.new_run(REQUEST, [INFO], PLAN, {}).id for _ in range(5)]
        session.save_view("density", {"log": True, "limits": [0.0, 2.5]})
        session.save_view("density", {"log": False})
        session.save_view("cloud", {})
    with Session.open(tmp_path / "a.eigenscope") as session:
        assert [run.id for run in session.runs()] == ids
        assert session.views() == {"density": {"log": False}, "cloud": {}}


def test_save_as_copies_what_is_committed_and_leaves_the_old_one(tmp_path: Path) -> None:
    expected = finished(tmp_path / "a.eigenscope")
    before = {p: p.read_bytes() for p in (tmp_path / "a.eigenscope").rglob("*") if p.is_file()}
    (tmp_path / "a.eigenscope" / "runs" / "half.part").mkdir()
    with (
        Session.open(tmp_path / "a.eigenscope", readonly=True) as old,
        old.save_as(tmp_path / "b" / "b.eigenscope") as new,
    ):
        first, second = new.runs()
        assert new.path == tmp_path / "b" / "b.eigenscope"
        xr.testing.assert_equal(first.result(), expected)
        second.commit_unit("b", small(2), META)
    assert verify(tmp_path / "b" / "b.eigenscope").problems == ()
    assert not leftovers(tmp_path / "b")
    assert {p: p.read_bytes() for p in before} == before


def test_a_second_writer_is_told_who_has_it_and_may_read(tmp_path: Path) -> None:
    path = tmp_path / "a.eigenscope"
    session, run = started(path)
    code = (
        "import sys\nfrom engine.sessions.store import Session\nfrom engine.errors import UserError\n"
        "try:\n    Session.open(sys.argv[1])\nexcept UserError as e:\n    print(e)\n"
        "with Session.open(sys.argv[1], readonly=True) as s:\n    print(len(s.runs()))\n"
        "with Session.open(sys.argv[1], lock=False) as s:\n"
        "    import xarray\n    s.runs()[0].commit_unit('m0-l1', xarray.Dataset({'x': 3}), {})\n"
    )
    root = Path(__file__).resolve().parents[3]
    with session:
        with pytest.raises(SessionLocked, match=f"already open in process {os.getpid()} on .*read-only"):
            Session.open(path)
        other = subprocess.run(
            [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False, cwd=root
        )
        assert other.stderr == ""
        assert f"process {os.getpid()}" in other.stdout
        assert other.stdout.splitlines()[1:] == ["1"]
        assert run.committed() == {"m0-l1"}, "the child of the lock's holder writes without taking it again"
    with Session.open(path) as again:
        assert not again.readonly
    with pytest.raises(UserError, match="read-only"):
        run.commit_unit(PLAN[0], small(0), META)


def test_leftovers_of_a_killed_process_are_cleared_only_by_the_writer(tmp_path: Path) -> None:
    finished(tmp_path / "a.eigenscope")
    run = next((tmp_path / "a.eigenscope").glob("runs/*/units")).parent
    for name in ("units/m0-l9.part", "result.zarr.part"):
        (run / name).mkdir()
        (run / name / "zarr.json").write_text("{")
    (tmp_path / "a.eigenscope" / "views" / "x.json.part").write_text("{")
    for options in ({"readonly": True}, {"lock": False}):
        with Session.open(tmp_path / "a.eigenscope", **options) as session:
            assert session.runs()[0].committed() <= set(PLAN)
        assert len(leftovers(tmp_path)) == 3
    Session.open(tmp_path / "a.eigenscope").close()
    assert not leftovers(tmp_path)


def test_a_newer_schema_is_refused_and_nothing_is_touched(tmp_path: Path) -> None:
    path = tmp_path / "a.eigenscope"
    finished(path)
    head = unseal((path / "session.json").read_bytes())
    (path / "session.json").write_bytes(
        json.dumps(head | {"schema": migrate.SCHEMA + 1, "sealed": "otherwise"}).encode()
    )
    (path / "runs" / "new.part").mkdir()
    before = {p: p.stat().st_mtime_ns for p in path.rglob("*")}
    for attempt in (Session.open, verify):
        with pytest.raises(UserError, match=r"newer Eigenscope.*Update the program"):
            attempt(path)
    assert {p: p.stat().st_mtime_ns for p in path.rglob("*")} == before


def test_an_older_schema_is_brought_up_to_date_by_the_writer_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.eigenscope"
    finished(path)
    monkeypatch.setattr("engine.sessions.migrate.SCHEMA", 3)
    monkeypatch.setattr("engine.sessions.store.SCHEMA", 3)
    done: list[int] = []
    monkeypatch.setattr(migrate, "STEPS", {n: lambda folder, n=n: done.append(n) for n in (1, 2)})
    with pytest.raises(UserError, match="older Eigenscope"):
        Session.open(path, readonly=True)
    with Session.open(path) as session:
        assert len(session.runs()) == 2
    assert done == [1, 2]
    Session.open(path, readonly=True).close()
    assert done == [1, 2]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "holds no session.json"),
        (b"{", "session.json is damaged"),
        (b'{"format": "other", "schema": 1}', "another program"),
        (seal({"format": "eigenscope-session", "schema": 1}).replace(b"1", b"0", 1), "damaged"),
    ],
)
def test_a_folder_that_is_no_session_is_named(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    if content is not None:
        (tmp_path / "session.json").write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        Session.open(tmp_path)
    with pytest.raises(UserError, match="There is no session"):
        Session.open(tmp_path / "absent")


def test_a_run_whose_description_is_damaged_does_not_hide_the_others(tmp_path: Path) -> None:
    path = tmp_path / "a.eigenscope"
    finished(path)
    with Session.open(path) as session:
        first, second = session.runs()
    text = (second.path / "run.json").read_text()
    (second.path / "run.json").write_text(text.replace('"seed": 7', '"seed": 8'))
    with Session.open(path) as session:
        assert session.runs() == [first]
        assert "1 of the runs cannot be read" in session.notices[0]
        with pytest.raises(UserError, match=second.id):
            session.run(second.id)
    assert verify(path).problems == (
        f"The file “runs/{second.id}/run.json” is damaged: its content has changed since it was written.",
    )


@pytest.fixture
def plain_user(tmp_path: Path) -> Iterator[Path]:
    """A folder of our own, as a user whom permissions bind (the administrator may write anywhere)."""
    # Everything is imported while that is still allowed.
    finished(tmp_path / "first.eigenscope")
    with Session.open(tmp_path / "first.eigenscope") as session:
        session.runs()[0].result()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        administrator = os.name == "posix" and os.geteuid() == 0
        if administrator:
            os.seteuid(65534)
        own = Path(folder, "own")
        own.mkdir()
        yield own
        if administrator:
            os.seteuid(0)


@pytest.mark.skipif(os.name != "posix", reason="folders have no write permission there")
def test_a_read_only_folder_opens_for_reading_and_refuses_clearly(plain_user: Path) -> None:
    path = plain_user / "a.eigenscope"
    expected = finished(path)
    folders = [path, *(p for p in path.rglob("*") if p.is_dir())]
    (path / "session.lock").unlink()
    for folder in folders:
        folder.chmod(0o555)
    plain_user.chmod(0o555)
    try:
        with Session.open(path) as session:
            assert session.readonly
            assert "read-only" in session.notices[0]
            first, second = session.runs()
            xr.testing.assert_equal(first.result(), expected)
            for write in (
                lambda: second.commit_unit("b", small(0), META),
                lambda: second.commit_result(small(0)),
                lambda: session.new_run(REQUEST, [INFO], PLAN, {}),
                lambda: session.save_view("v", {}),
                lambda: second.set_aside("a"),
            ):
                with pytest.raises(UserError, match="read-only"):
                    write()
        with pytest.raises(UserError, match="cannot be written because the folder is read-only"):
            Session.create(plain_user / "new.eigenscope")
        (path / "session.json").chmod(0)
        with pytest.raises(UserError, match="cannot be read: Permission denied"):
            Session.open(path)
        (path / "session.json").chmod(0o444)
        # The process that works for a writer meets the same folder without having asked for the lock.
        with Session.open(path, lock=False) as session, pytest.raises(UserError, match="folder is read-only"):
            session.runs()[1].commit_unit("b", small(0), META)
    finally:
        for folder in (plain_user, *folders):
            folder.chmod(0o755)


def test_the_store_costs_the_window_no_heavy_import() -> None:
    code = (
        "import sys, engine.sessions.store, engine.sessions.archive, engine.sessions.export, engine.sessions.verify; "
        "print(sorted({'xarray', 'zarr', 'pandas', 'torch', 'transformers', 'numcodecs'} & set(sys.modules)))"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"


def test_provenance_names_versions_and_machine() -> None:
    found = collect()
    assert found["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["versions"]["numpy"] == np.__version__
    assert {"eigenscope", "torch", "transformers", "xarray", "zarr"} <= found["versions"].keys()
    assert found["memory_bytes"] > 2**20
    assert found["cpu"]
    assert json.loads(json.dumps(found)) == found


def test_two_runs_of_one_second_have_names_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The random end of a name is short: one that is taken is drawn again."""
    ends = iter(["aaaa", "aaaa", "aaaa", "bbbb"])
    monkeypatch.setattr("engine.sessions.store.token_hex", lambda size: next(ends))
    with Session.create(tmp_path / "s.eigenscope") as session:
        ids = [session.new_run(REQUEST, (INFO,), PLAN, {}).id for _ in range(2)]
    assert {name[-4:] for name in ids} >= {"aaaa"}
    assert len(set(ids)) == 2
