"""JSON that somebody made up: sealed or not, it ends in a sentence or in what it says, never in another exception."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from json_values import json_values, places
from session_examples import finished, refusals

from engine.gate import parse
from engine.sessions.files import seal
from engine.sessions.store import Session

DEEP = "[" * 100_000 + "]" * 100_000
TEXTS = [
    b"",
    b"[",
    b"null",
    b"[]",
    b'"text"',
    b"\xff\xfe",
    b"\xef\xbb\xbf{}",
    DEEP.encode(),
    b'{"a": ' + DEEP.encode() + b"}",
    b"[" * 65 + b"]" * 65,
    b'{"a": 1e400}',
    b'{"a": -1e400}',
    b'{"a": ' + b"9" * 100_000 + b"}",
    b'{"a": 18446744073709551616}',
    b'{"a": "\\ud800"}',
    b'{"\\uDFFF": 1}',
    b'{"a": 1, "b": 2, "a": 1}',
]


@pytest.mark.parametrize("text", [text for text in TEXTS if text not in (b"null", b"[]", b'"text"')])
def test_text_that_has_no_meaning_here_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(text)


def test_what_this_program_writes_goes_through() -> None:
    content = {"a": [1, -2.5, None, True, "naïve ☃", 2**63, float("inf")], "b": {"c": {}}, "pair": "\U0001f600"}
    assert parse(json.dumps(content).encode()) == content
    assert parse(json.dumps(content, ensure_ascii=False).encode()) == content


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("sound") / "a.eigenscope"
    finished(path)
    yield path
    assert refusals(path) == [], "each test puts back what it changed"


def json_files(path: Path) -> list[Path]:
    with Session.open(path, readonly=True) as session:
        run = session.runs()[0].path
    names = ("run.json", "units/m0-l0/manifest.json", "units/m0-l0/zarr.json", "units/m0-l0/small/zarr.json")
    return [path / "session.json", path / "views/spectrum.json", *(run / name for name in names)]


@pytest.mark.parametrize("text", TEXTS)
def test_every_json_file_of_a_session_may_hold_anything(text: bytes, sound: Path) -> None:
    for file in json_files(sound):
        before = file.read_bytes()
        file.write_bytes(text)
        assert refusals(sound)
        file.write_bytes(before)


VALUES = json_values()


@pytest.mark.parametrize("examples", [300, pytest.param(5000, marks=[pytest.mark.long, pytest.mark.timeout(3600)])])
def test_a_value_of_any_other_kind_ends_in_a_sentence_or_is_read(examples: int, sound: Path) -> None:
    """Sealed again, as by somebody who knows how: the checksum agrees."""
    settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))(
        given(data=st.data())(lambda data: _changed(data, sound))
    )()


def _changed(data: st.DataObject, sound: Path) -> None:
    file = data.draw(st.sampled_from(json_files(sound)))
    before = file.read_bytes()
    content = json.loads(before)
    content.pop("blake2b", None)
    node, key = data.draw(st.sampled_from(list(places(content))))
    if data.draw(st.booleans()):
        node[key] = data.draw(VALUES)
    else:
        del node[key]
    try:
        text = seal(content) if file.name != "zarr.json" else json.dumps(content).encode()
    except UnicodeEncodeError:
        return
    file.write_bytes(text)
    try:
        refusals(sound)
    finally:
        file.write_bytes(before)


def test_a_unit_whose_metadata_and_manifest_were_made_up_together(sound: Path, tmp_path: Path) -> None:
    copy = tmp_path / "a.eigenscope"
    shutil.copytree(sound, copy)
    (manifest,) = copy.glob("runs/*/units/m0-l0/manifest.json")
    content = json.loads(manifest.read_bytes())
    content.pop("blake2b")
    for meta in ({"seconds": "long"}, {"seconds": -1}, {"peak_bytes": 1.5}, {"tuned": "../x"}, {"tuned": 3}, []):
        manifest.write_bytes(seal(content | {"meta": meta}))
        assert refusals(copy) or meta == {"tuned": "../x"}
