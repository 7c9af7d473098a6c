"""Sizes that a file only declares are not believed: they are bounded before anything of that size is made."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import xarray as xr
from numcodecs import Zstd
from session_examples import META, PLAN, finished, refusals, small, started

from engine.errors import UserError
from engine.sessions.files import commit_folder
from engine.sessions.manifest import with_manifest
from engine.sessions.metadata import inflated_bytes
from engine.sessions.store import Session
from engine.sessions.tree import open_tree
from engine.sessions.units import encode
from engine.sessions.verify import verify

Files = dict[str, bytes]


def declared(**changes: object) -> Callable[[Files], Files]:
    """The array's own metadata and the consolidated, both changed."""

    def change(files: Files) -> Files:
        own, root = json.loads(files["x/zarr.json"]), json.loads(files["zarr.json"])
        for node in (own, root["consolidated_metadata"]["metadata"]["x"]):
            node.update(changes)
        return files | {"x/zarr.json": json.dumps(own).encode(), "zarr.json": json.dumps(root).encode()}

    return change


def chunked(*shape: object) -> dict[str, object]:
    return {"name": "regular", "configuration": {"chunk_shape": list(shape)}}


def only_own(files: Files) -> Files:
    own = json.loads(files["x/zarr.json"])
    return files | {"x/zarr.json": json.dumps(own | {"shape": [4]}).encode()}


def only_consolidated(files: Files) -> Files:
    root = json.loads(files["zarr.json"])
    root["consolidated_metadata"]["metadata"]["x"]["shape"] = [4]
    return files | {"zarr.json": json.dumps(root).encode()}


def bomb(size: int) -> Callable[[Files], Files]:
    from google_crc32c import value

    def change(files: Files) -> Files:
        frame = bytes(Zstd(level=3).encode(bytes(size)))
        return files | {"x/c/0": frame + value(frame).to_bytes(4, "little")}

    return change


BYTES, ZSTD, CRC = ({"name": name} for name in ("bytes", "zstd", "crc32c"))
HOSTILE: dict[str, tuple[Callable[[Files], Files], str]] = {
    "own alone": (only_own, "contradicts itself"),
    "consolidated alone": (only_consolidated, "contradicts itself"),
    "negative": (declared(shape=[-5]), "cannot be understood"),
    "fraction": (declared(shape=[2.5]), "cannot be understood"),
    "text": (declared(shape=["5"]), "cannot be understood"),
    "bool": (declared(shape=[True]), "cannot be understood"),
    "more dimensions than chunks": (declared(shape=[5, 1]), "cannot be understood"),
    "a hundred dimensions": (declared(shape=[1] * 100, chunk_grid=chunked(*[1] * 100)), "cannot be understood"),
    "no chunk": (declared(chunk_grid=chunked(0)), "cannot be understood"),
    "huge": (declared(shape=[10**15]), "more than this machine's memory"),
    "huge chunk": (declared(chunk_grid=chunked(10**15)), "more than this machine's memory"),
    "many chunks": (declared(shape=[10**8], chunk_grid=chunked(1)), "parts of “x” that are not there"),
    "one chunk more": (declared(shape=[6]), "parts of “x” that are not there"),
    "twice packed": (declared(codecs=[BYTES, ZSTD, ZSTD, CRC]), "cannot be understood"),
    "not packed": (declared(codecs=[BYTES]), "cannot be understood"),
    "a larger chunk": (declared(shape=[500], chunk_grid=chunked(500)), "does not hold what"),
}


def committed(path: Path, change: Callable[[Files], Files]) -> Session:
    session, run = started(path)
    commit_folder(run.path / "units" / PLAN[0], with_manifest(change(encode(small(0))), META))
    return session


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_metadata_declares_is_bounded_before_it_is_built(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, sentence = HOSTILE[kind]
    with committed(tmp_path / "a.eigenscope", change) as session:
        monkeypatch.setattr(xr, "open_zarr", lambda *args, **kwargs: pytest.fail("it was opened"))
        with pytest.raises(UserError, match=sentence):
            session.runs()[0].read_unit(PLAN[0])


@pytest.mark.parametrize("size", [0, 39, 41, 10**9])
def test_a_chunk_that_inflates_to_another_size_is_not_inflated(size: int, tmp_path: Path) -> None:
    pytest.importorskip("google_crc32c")
    with committed(tmp_path / "a.eigenscope", bomb(size)) as session, pytest.raises(UserError, match="does not hold"):
        session.runs()[0].read_unit(PLAN[0])


@pytest.mark.parametrize("size", [1, 255, 256, 257, 65_791, 65_792, 10**6])
def test_the_size_of_a_frame_is_read_at_its_start(size: int) -> None:
    assert inflated_bytes(bytes(Zstd(level=3).encode(bytes(size)))) == size
    assert inflated_bytes(b"") is inflated_bytes(b"\x28\xb5\x2f\xfd") is inflated_bytes(b"other bytes") is None


@pytest.mark.parametrize("name", ["session.json", "views/spectrum.json", "runs/{run}/run.json"])
def test_a_sparse_file_of_twenty_gigabytes_is_not_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.eigenscope"
    finished(path)
    with Session.open(path) as session:
        file = path / name.format(run=session.runs()[0].id)
    with open(file, "r+b") as grown:
        grown.truncate(20 * 10**9)
    assert refusals(path)


def test_a_file_larger_than_the_memory_that_is_free_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.eigenscope"
    finished(path)
    for module in ("tree", "manifest", "metadata"):
        monkeypatch.setattr(f"engine.sessions.{module}.free_memory", lambda: 100)
    with Session.open(path) as session, pytest.raises(UserError, match="more than the memory that is free"):
        session.runs()[0].read_unit(PLAN[0])


def test_an_entry_of_a_zip_inflates_to_no_more_than_it_declares(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    finished(tmp_path / "a.eigenscope")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("session.json", (tmp_path / "a.eigenscope" / "session.json").read_bytes())
        archive.writestr("views/big.bin", bytes(10_000_000))
    data = path.read_bytes()
    assert data.count((10_000_000).to_bytes(4, "little")) == 2
    path.write_bytes(data.replace((10_000_000).to_bytes(4, "little"), (1_000).to_bytes(4, "little")))
    tree = open_tree(path)
    with pytest.raises(OSError, match="CRC"):
        tree.read("views/big.bin")
    tree.close()
    assert verify(path).problems == (), "it is not among what is committed"
