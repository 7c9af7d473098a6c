"""A session as a zip and as files for other programs; made-up sessions that would do harm are refused."""

import io
import json
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from session_examples import INFO, META, PLAN, REQUEST, example, finished, leftovers, small, started

from engine.errors import UserError
from engine.sessions.archive import pack, unpack
from engine.sessions.export import export
from engine.sessions.files import commit_folder, digest
from engine.sessions.manifest import with_manifest
from engine.sessions.store import Session
from engine.sessions.units import encode
from engine.sessions.verify import verify


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A session with one finished run and one that is not; the tests only read it."""
    path = tmp_path_factory.mktemp("sound") / "my run.eigenscope"
    finished(path)
    (path / "figures").mkdir()
    (path / "figures" / "λ spectrum.svg").write_text("<svg/>")
    (path / "runs" / "half.part").mkdir()
    (path / "runs" / "half.part" / "run.json").write_text("{")
    return path


@pytest.fixture(scope="module")
def packed(sound: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packed") / "a.zip"
    pack(sound, path)
    return path


def files_of(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_verify_counts_every_file_and_byte(sound: Path) -> None:
    report = verify(sound)
    committed = {n: b for n, b in files_of(sound).items() if not n.startswith(("figures", "runs/half", "session.lock"))}
    assert (report.files, report.bytes) == (len(committed), sum(map(len, committed.values())))
    assert report.problems == ()


def test_pack_and_unpack_give_the_same_files(sound: Path, packed: Path, tmp_path: Path) -> None:
    pack(sound, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == packed.read_bytes(), "the same session makes the same bytes"
    with zipfile.ZipFile(packed) as archive:
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        assert {name.split("/")[0] for name in archive.namelist()} == {"my run.eigenscope"}
    report = unpack(packed, tmp_path / "back.eigenscope")
    assert report == verify(sound) == verify(packed)
    expected = {n: b for n, b in files_of(sound).items() if not n.startswith(("runs/half", "session.lock"))}
    assert files_of(tmp_path / "back.eigenscope") == expected
    with Session.open(tmp_path / "back.eigenscope") as session:
        session.runs()[1].commit_unit("b", small(2), META)


def test_a_zip_is_read_without_extracting(packed: Path) -> None:
    before = sorted(packed.parent.iterdir())
    with Session.open(packed) as session:
        assert session.readonly
        assert "zip" in session.notices[0]
        first, second = session.runs()
        assert first.finished
        assert first.committed() == set(PLAN)
        assert not second.finished
        assert second.unit_meta("a") == META
        xr.testing.assert_equal(first.result(), example(9))
        xr.testing.assert_identical(first.read_unit(PLAN[0]), example(0))
        assert session.views() == {"spectrum": {"log": True}}
        with pytest.raises(UserError, match="read-only"):
            second.commit_unit("b", small(2), META)
    assert sorted(packed.parent.iterdir()) == before


def test_a_zip_that_a_colleague_made_by_hand_is_read_too(sound: Path, tmp_path: Path) -> None:
    for root in ("", "deep/folder/"):
        with zipfile.ZipFile(tmp_path / "hand.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files_of(sound).items():
                archive.writestr(root + name, data)
            archive.writestr(root + ".DS_Store", b"litter")
        with Session.open(tmp_path / "hand.zip") as session:
            xr.testing.assert_equal(session.runs()[0].result(), example(9))
            with session.save_as(tmp_path / f"copy{len(root)}.eigenscope") as copy:
                xr.testing.assert_equal(copy.runs()[0].result(), example(9))
        assert verify(tmp_path / "hand.zip").problems == ()


def test_a_damaged_zip_is_named_and_never_unpacked(packed: Path, tmp_path: Path) -> None:
    data = bytearray(packed.read_bytes())
    with zipfile.ZipFile(packed) as archive:
        entry = next(e for e in archive.infolist() if e.filename.endswith("qk_eigenvalues/c/0/0/0"))
    data[entry.header_offset + 30 + len(entry.filename.encode()) + 5] ^= 1
    (tmp_path / "flip.zip").write_bytes(data)
    (problem,) = verify(tmp_path / "flip.zip").problems
    assert "qk_eigenvalues/c/0/0/0" in problem
    with pytest.raises(UserError, match=r"cannot be unpacked.*qk_eigenvalues"):
        unpack(tmp_path / "flip.zip", tmp_path / "out")
    (tmp_path / "cut.zip").write_bytes(packed.read_bytes()[:-2000])
    with pytest.raises(UserError, match="neither a session folder nor a readable zip"):
        Session.open(tmp_path / "cut.zip")
    (tmp_path / "empty.zip").write_bytes(b"")
    with pytest.raises(UserError, match="neither"):
        unpack(tmp_path / "empty.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def _entry(name: str, mode: int = 0o644) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = mode << 16
    return entry


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ([(_entry("../../evil"), b"x")], "points outside"),
        ([(_entry("s/runs/../../../evil"), b"x")], "points outside"),
        ([(_entry("/etc/evil"), b"x")], "points outside"),
        ([(_entry("C:/evil"), b"x")], "points outside"),
        ([(_entry("s/C:/evil"), b"x")], "points outside"),
        ([(_entry("s\\..\\evil"), b"x")], "points outside"),
        ([(_entry("s/link", stat.S_IFLNK | 0o777), b"/etc/passwd")], "is a link"),
        ([(_entry("s/twice"), b"1"), (_entry("s/TWICE"), b"2")], "two entries"),
        ([(_entry("s/zeros"), bytes(30_000_000))], "100 times its size"),
    ],
)
def test_a_zip_made_to_do_harm_is_refused(
    entries: list[tuple[zipfile.ZipInfo, bytes]], sentence: str, sound: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "evil.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("s/session.json", (sound / "session.json").read_bytes())
        for entry, data in entries:
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED)
    for attempt in (Session.open, verify, lambda path: unpack(path, tmp_path / "in" / "out")):
        with pytest.raises(UserError, match=sentence):
            attempt(tmp_path / "evil.zip")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["evil.zip"]


def test_unpacking_never_writes_into_something_that_is_there(packed: Path, sound: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    for target in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(UserError, match="already exists"):
            unpack(packed, target)
    with pytest.raises(UserError, match="is a folder already"):
        unpack(sound, tmp_path / "new")
    assert files_of(tmp_path) == {"mine.txt": b"mine"}


def _v2(_: dict[str, bytes]) -> dict[str, bytes]:
    store: dict[str, zarr.core.buffer.Buffer] = {}
    group = zarr.create_group(zarr.storage.MemoryStore(store), zarr_format=2)
    group["x"] = np.zeros(3)
    return {name: data.to_bytes() for name, data in store.items()}


def _edited(
    edit: Callable[[dict], object], name: str = "x/zarr.json"
) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
    def change(files: dict[str, bytes]) -> dict[str, bytes]:
        node = json.loads(files[name])
        edit(node)
        return files | {name: json.dumps(node).encode()}

    return change


HARMFUL = [
    (_v2, "Zarr format 2"),
    (lambda files: files | {"x/.zarray": b"{}"}, "Zarr format 2"),
    (_edited(lambda node: node["codecs"].append({"name": "numcodecs.pickle"})), "numcodecs.pickle"),
    (_edited(lambda node: node["codecs"].insert(0, {"name": "sharding_indexed"})), "sharding_indexed"),
    (_edited(lambda node: node.update(data_type={"name": "null_terminated_bytes"})), "null_terminated_bytes"),
    (_edited(lambda node: node.update(storage_transformers=[{"name": "x"}])), "storage transformers"),
    (_edited(lambda node: node.update(zarr_format=2)), "not in Zarr format 3"),
    (_edited(lambda node: node.update(shape=[10**15])), "more than this machine's memory"),
    (
        _edited(
            lambda node: node["consolidated_metadata"]["metadata"]["x"]["codecs"].append({"name": "evil"}), "zarr.json"
        ),
        "evil",
    ),
    (lambda files: files | {"x/zarr.json": b"["}, "cannot be understood"),
    (lambda files: files | {"x/zarr.json": b"[" * 100_000}, "cannot be understood"),
    (lambda files: {"x": b""}, "not a Zarr format 3 group"),
]


@pytest.mark.parametrize(("change", "sentence"), HARMFUL)
def test_a_unit_that_asks_for_unknown_code_is_refused_before_it_is_opened(
    change: Callable[[dict[str, bytes]], dict[str, bytes]],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All checksums agree: whoever made it up made up the manifest too."""
    session, run = started(tmp_path / "a.eigenscope")
    with session:
        files = change(encode(small(0)))
        commit_folder(run.path / "units" / PLAN[0], with_manifest(files, META))
        monkeypatch.setattr(xr, "open_zarr", lambda *args, **kwargs: pytest.fail("it was opened"))
        with pytest.raises(UserError, match=sentence):
            run.read_unit(PLAN[0])
        (problem,) = verify(session.path).problems
        assert sentence in problem


def test_a_manifest_that_points_elsewhere_reads_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    session, run = started(tmp_path / "a.eigenscope")
    with session:
        files = encode(small(0))
        name = "manifest.json"
        manifest = dict(with_manifest(files | {"../../../../../secret": b"secret"}, META))[name]
        assert digest(b"secret").encode() in manifest
        commit_folder(run.path / "units" / PLAN[0], [*files.items(), (name, manifest)])
        with pytest.raises(UserError, match="secret” is damaged: it is missing"):
            run.read_unit(PLAN[0])


def rows(table: pd.DataFrame, ds: xr.Dataset, name: str) -> list[tuple]:
    return list(table[[*map(str, ds[name].dims)]].itertuples(index=False, name=None))


def test_csv_is_one_tidy_file_for_each_variable(sound: Path, tmp_path: Path) -> None:
    paths = export(sound, "csv", tmp_path / "out")
    ds = example(9)
    assert {p.name for p in paths} == {
        "dataset.json",
        *(f"{name}.csv" for name in [*ds.data_vars, "depth"]),
    }
    assert all(p.is_file() for p in paths)
    tables = {p.stem: pd.read_csv(p, keep_default_na=False, na_values=["NaN"]) for p in paths if p.suffix == ".csv"}
    table = tables["qk_eigenvalues"]
    assert list(table.columns) == ["model", "layer", "mode", "qk_eigenvalues"]
    np.testing.assert_array_equal(table.qk_eigenvalues, ds.qk_eigenvalues.values.ravel())
    assert rows(table, ds, "qk_eigenvalues") == [
        (model, layer, mode) for model in ds.model.values for layer in range(3) for mode in range(4)
    ]
    table = tables["qk_complex_eigenvalues"]
    np.testing.assert_array_equal(
        table.qk_complex_eigenvalues_re + 1j * table.qk_complex_eigenvalues_im,
        ds.qk_complex_eigenvalues.values.ravel(),
    )
    assert list(tables["sentence"].sentence) == list(ds.sentence.values)
    assert tables["positions"].to_dict("list") == {"positions": [3]}
    assert tables["kept"].kept.tolist() == [True, False, True]
    assert len(tables["empty"]) == 0
    described = json.loads(next(p for p in paths if p.name == "dataset.json").read_text())
    assert json.loads(described["attrs"]["request"]) == REQUEST.model_dump(mode="json")
    assert described["data_vars"]["qk_eigenvalues"]["attrs"] == {"unit": "1"}


def test_npz_has_everything_and_needs_no_pickle(sound: Path, tmp_path: Path) -> None:
    (path,) = export(sound, "npz", tmp_path)
    ds = example(9)
    with np.load(path, allow_pickle=False) as arrays:
        described = json.loads(str(arrays["dataset_json"]))
        assert set(arrays) == {"dataset_json", *map(str, ds.variables)}
        for name, variable in ds.variables.items():
            np.testing.assert_array_equal(arrays[str(name)], variable.values)
            section = "coords" if name in ds.coords else "data_vars"
            assert described[section][name]["dims"] == list(variable.dims)
    assert json.loads(described["attrs"]["models"])[0]["identity"] == INFO.identity


def test_netcdf_comes_back_equal_with_complex_split(sound: Path, tmp_path: Path) -> None:
    (path,) = export(sound, "netcdf", tmp_path)
    ds = example(9)
    with xr.open_dataset(path, engine="netcdf4") as opened:
        back = opened.load()
    np.testing.assert_array_equal(
        back.qk_complex_eigenvalues_re + 1j * back.qk_complex_eigenvalues_im, ds.qk_complex_eigenvalues
    )
    assert "imaginary" in back.attrs["complex_numbers"]
    xr.testing.assert_equal(
        back.drop_vars(["qk_complex_eigenvalues_re", "qk_complex_eigenvalues_im"]),
        ds.drop_vars("qk_complex_eigenvalues"),
    )
    assert json.loads(back.attrs["notes"]) == ["one", "two"]
    assert back.attrs["seed"] == 7
    assert back.qk_eigenvalues.attrs["unit"] == "1"


def test_exports_say_what_is_wrong(sound: Path, tmp_path: Path) -> None:
    session, _ = started(tmp_path / "a.eigenscope")
    session.close()
    with pytest.raises(UserError, match="no finished run to export"):
        export(tmp_path / "a.eigenscope", "csv", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="could not be written"):
        export(sound, "npz", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_zip_is_exported_like_a_folder(sound: Path, packed: Path, tmp_path: Path) -> None:
    (one,), (two,) = export(sound, "npz", tmp_path / "1"), export(packed, "npz", tmp_path / "2")
    a, b = np.load(io.BytesIO(one.read_bytes())), np.load(io.BytesIO(two.read_bytes()))
    assert all((a[name] == b[name]).all() for name in ("layer", "none", "dataset_json"))
    assert not leftovers(tmp_path)
