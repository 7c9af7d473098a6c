"""Names in a zip from a stranger: whatever they are, nothing is written outside, and the refusal is one sentence."""

import json
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import example as case
from hypothesis import given, settings
from hypothesis import strategies as st
from session_examples import META, PLAN, finished, small, started

from engine.errors import UserError
from engine.graphs.graphml import UNITS
from engine.sessions.archive import pack, unpack
from engine.sessions.content import committed_files
from engine.sessions.export import _WRITERS, export
from engine.sessions.files import commit_folder, seal
from engine.sessions.manifest import with_manifest
from engine.sessions.names import have_twins, safe_name
from engine.sessions.rooted import opened
from engine.sessions.store import Session
from engine.sessions.tree import open_tree
from engine.sessions.units import encode
from engine.sessions.verify import verify

UNSAFE = {
    "absolute": "/x",
    "absolute below the prefix": "s//x/y",
    "twice absolute": "s///x",
    "empty part": "s/a//b",
    "dot": "s/./b",
    "dot at the start": "./s/b",
    "up": "s/../x",
    "up and down": "s/a/../../../x",
    "up for Windows": "s/.. /x",
    "three dots": "s/.../x",
    "only a space": "s/ /x",
    "drive": "C:x",
    "drive below": "s/C:x",
    "drive and root": "C:/x",
    "backslash": "s/a\\b",
    "share": "\\\\host\\share\\x",
    "device": "s/NUL",
    "device with an extension": "s/con.json",
    "device with a dot": "s/aux.",
    "port": "s/com1",
    "control": "s/a\x1b[2J",
    "right to left": "s/\u202egnp.exe",
    "too long": "s/" + "a" * 300,
    "too deep": "s/" + "a/" * 40 + "b",
}
UNSAFE_ALONE = {
    "nothing": "",
    "zero": "a\0b",
    "slash at the end": "a/",
    "half of a pair": "a\ud800",
}


def hostile_zip(folder: Path, *names: str, prefix: str = "s/") -> Path:
    path = folder / "evil.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{prefix}session.json", seal({"format": "eigenscope-session", "schema": 1}))
        for name in names:
            entry = zipfile.ZipInfo("x")
            entry.filename = name
            archive.writestr(entry, b"evil")
    return path


def everything(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*")}


ENTRIES: dict[str, Callable[[Path, Path], object]] = {
    "open": lambda path, target: Session.open(path),
    "verify": lambda path, target: verify(path),
    "unpack": unpack,
}


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("kind", UNSAFE)
def test_an_unsafe_name_is_refused_at_every_entry_and_nothing_is_written(kind: str, entry: str, tmp_path: Path) -> None:
    path = hostile_zip(tmp_path, UNSAFE[kind])
    with pytest.raises(UserError, match=r"is refused: its entry .* (points|has|is|lies) ") as refusal:
        ENTRIES[entry](path, tmp_path / "in" / "out")
    assert not {"\x1b", "\u202e"} & set(refusal.value.message)
    assert everything(tmp_path) == {"evil.zip"}


@pytest.mark.parametrize("prefix", ["a/", "deep/folder/", ""])
def test_names_are_looked_at_again_once_the_prefix_is_off(prefix: str, tmp_path: Path) -> None:
    path = hostile_zip(tmp_path, f"{prefix}/etc/evil", prefix=prefix)
    for entry in ENTRIES.values():
        with pytest.raises(UserError, match="is refused"):
            entry(path, tmp_path / "in" / "out")
    assert everything(tmp_path) == {"evil.zip"}


@pytest.mark.parametrize(
    "names",
    [
        ("s/a", "s/A"),
        ("s/straße", "s/STRASSE"),
        ("s/\u00e9", "s/e\u0301"),
        ("s/a", "s/a."),
        ("s/a", "s/a "),
        ("s/a", "s/a/b"),
        ("s/A", "s/a/b"),
        ("s/Runs/x", "s/runs/X"),
    ],
)
def test_two_names_of_one_file_are_refused(names: tuple[str, ...], tmp_path: Path) -> None:
    path = hostile_zip(tmp_path, *names)
    for entry in ENTRIES.values():
        with pytest.raises(UserError, match="two entries of the same name"):
            entry(path, tmp_path / "in" / "out")
    assert everything(tmp_path) == {"evil.zip"}


@pytest.mark.parametrize("name", [*UNSAFE.values(), *UNSAFE_ALONE.values()])
def test_what_writes_files_looks_at_names_itself(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        commit_folder(tmp_path / "target", [("good", b"1"), (name, b"2")])
    assert everything(tmp_path) == set()


def test_a_manifest_names_nothing_outside(tmp_path: Path) -> None:
    session, run = started(tmp_path / "a.eigenscope")
    with session:
        for key, name in zip(PLAN, ("../x", "/etc/passwd", "x/../../y", "C:x"), strict=True):
            files = encode(small(0))
            manifest = dict(with_manifest(files | {name: b"x"}, META))["manifest.json"]
            commit_folder(run.path / "units" / key, [*files.items(), ("manifest.json", manifest)])
            with pytest.raises(UserError, match="is damaged: it is missing"):
                run.read_unit(key)


def test_a_plan_with_keys_that_leave_the_run_is_no_run(tmp_path: Path) -> None:
    session, run = started(tmp_path / "a.eigenscope")
    with session:
        text = json.loads((run.path / "run.json").read_bytes())
        text.pop("blake2b")
        (run.path / "run.json").write_bytes(seal(text | {"plan": ["../../../x"]}))
    with Session.open(tmp_path / "a.eigenscope") as session:
        assert session.runs() == []
        assert "1 of the runs cannot be read" in session.notices[0]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(["a", "..", ".", "", " ", "C:", "\\", "/", "\0", "nul", "é"]), max_size=6).map("".join))
@case("a//x/y")
def test_a_safe_name_stays_inside_whatever_it_is_joined_to(name: str) -> None:
    from pathlib import PureWindowsPath

    try:
        safe_name(name)
    except ValueError:
        return
    assert Path("/root", name).resolve().is_relative_to("/root")
    assert Path("/root", name).as_posix() == f"/root/{name}"
    windows = PureWindowsPath("D:/root", name)
    assert windows.is_relative_to("D:/root")
    assert ".." not in windows.parts


def test_names_that_this_program_writes_are_safe(tmp_path: Path) -> None:
    finished(tmp_path / "a.eigenscope")
    tree = open_tree(tmp_path / "a.eigenscope")
    names = [name for name, _ in committed_files(tree)]
    tree.close()
    assert all(safe_name(name) for name in names)
    assert not have_twins(names)


def test_a_session_with_a_name_that_no_zip_may_hold_is_not_packed(tmp_path: Path) -> None:
    path = tmp_path / "a.eigenscope"
    finished(path)
    (path / "figures").mkdir()
    (path / "figures" / "a\\b.svg").write_text("<svg/>")
    with pytest.raises(UserError, match=r"cannot be copied because of its file .*points outside"):
        pack(path, tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()


def test_a_folder_the_user_named_may_be_called_anything(tmp_path: Path) -> None:
    with opened(tmp_path) as place:
        place.write("a: b.svg", b"1")
        assert place.read("a: b.svg", 10) == b"1"


def graphed(site: str, label: str) -> xr.Dataset:
    """A result of communities with one graph, as somebody may have made it up."""
    unit, edge = ("model", "site", "layer", "unit"), ("model", "site", "layer", "edge")
    return xr.Dataset(
        {name: (unit, np.ones((1, 1, 1, 2))) for name in ("membership", *UNITS)}
        | {"position": ((*unit, "xy"), np.ones((1, 1, 1, 2, 2)))}
        | {f"edge_{end}": (edge, np.full((1, 1, 1, 1), n)) for n, end in enumerate(("source", "target", "weight"))},
        coords={"model": [label], "site": [site], "layer": [0]},
    )


@pytest.mark.parametrize("name", [*UNSAFE.values(), "../../x", "a\x1b[2J"])
@pytest.mark.parametrize("where", ["site", "label"])
def test_exporting_writes_nothing_outside(name, where, tmp_path):
    session, run = started(tmp_path / "s.eigenscope")
    with session:
        run.commit_result(graphed(**{"site": "mlp", "label": "m", where: name}))
    before = everything(tmp_path)
    with suppress(UserError):
        export(session.path, "graphml", tmp_path / "out")
    made = everything(tmp_path) - before - {"out", f"out/{run.id}"}
    assert all(path.startswith(f"out/{run.id}/") and path.count("/") == 2 for path in made)


def test_a_writer_with_an_unsafe_name_is_refused(tmp_path, monkeypatch):
    finished(tmp_path / "s.eigenscope")
    monkeypatch.setitem(_WRITERS, "csv", lambda ds: iter([("/../../x", b"evil")]))
    with pytest.raises(UserError, match="points outside"):
        export(tmp_path / "s.eigenscope", "csv", tmp_path / "out")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "made_up",
    [
        graphed("mlp", "m").drop_vars("position"),
        graphed("mlp", "m").assign_coords(layer=["x"]),
        xr.Dataset({"edge_source": 3}),
    ],
    ids=["lacks a variable", "text for a number", "another shape"],
)
def test_exporting_what_no_analysis_made_is_one_sentence(made_up, tmp_path):
    session, run = started(tmp_path / "s.eigenscope")
    with session:
        run.commit_result(made_up)
    with pytest.raises(UserError, match="cannot be written as graphml"):
        export(session.path, "graphml", tmp_path / "out")
