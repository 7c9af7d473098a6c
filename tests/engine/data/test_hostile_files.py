"""Special files, names, headers and tokenizers from strangers: one sentence each, at once and without memory."""

import json
import os
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numbered_words import numbers
from numpy.lib import format as npy
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from engine.data.ids import ids_shape
from engine.data.sentences import sentences
from engine.data.texts import load_documents, source_hash, text_notes
from engine.data.tokens import tokens
from engine.errors import UserError
from engine.request import DataSpec

READERS: dict[str, Callable[[DataSpec], object]] = {
    "documents": load_documents,
    "notes": text_notes,
    "hash": source_hash,
    "windows": lambda spec: tokens(spec, numbers(), 0),
    "sentences": lambda spec: sentences(spec, numbers(), 0),
}
CONTENT = ("documents", "notes", "windows", "sentences")
KINDS = (".txt", ".jsonl", ".parquet", ".csv", ".arrow", ".npy")


def refusals(source: str | Path, readers: Sequence[str] = tuple(READERS)) -> set[str]:
    """What each reader of a text says of a source that none can read."""
    refused = set()
    for name in readers:
        read, spec = READERS[name], DataSpec(source=str(source))
        if spec.is_ids and name in ("documents", "notes", "sentences"):
            continue
        with pytest.raises(UserError) as caught:
            read(spec)
        assert "\n" not in caught.value.message
        assert len(caught.value.message) < 600
        refused.add(caught.value.message)
    return refused


@pytest.mark.parametrize("kind", KINDS)
def test_only_regular_files_are_opened(kind: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / f"fifo{kind}")
    os.symlink("/dev/zero", tmp_path / f"device{kind}")
    os.mkdir(tmp_path / f"folder{kind}")
    os.symlink("nothing", tmp_path / f"broken{kind}")
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(tmp_path)  # the name of a socket must be short
        server.bind(f"socket{kind}")
        for name in ("fifo", "device", "socket"):
            (message,) = refusals(tmp_path / f"{name}{kind}")
            assert "a pipe, a socket or a device" in message
    assert "is a folder" in refusals(tmp_path / f"folder{kind}").pop()
    assert "a link to a file that is gone" in refusals(tmp_path / f"broken{kind}").pop()


@pytest.mark.parametrize("name", ["x" * 300, "a/" * 3000 + "b", "nul\0.txt", "~nobody-here/a.txt", "", "\ud800.txt"])
def test_names_that_no_file_can_have(name: str) -> None:
    refusals(name)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_in_a_sentence(kind: str, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / f"a{kind}"
    path.write_bytes({".parquet": b"PAR1", ".npy": b"\x93NUMPY\x01\x00"}.get(kind, b"") + content)
    for read in READERS.values():
        with suppress(UserError):
            read(DataSpec(source=str(path), samples=1, length=1))


@pytest.mark.parametrize(
    "line",
    [
        '{"text": ' + "[" * 100_000,
        '{"text": "a", "n": ' + "9" * 5000 + "}",
        '{"text": "a", "n": NaN, "text": {}}',
        '{"text": true}',
        '{"messages": [1]}',
        '{"messages": [{"role": "user"}]}',
        '{"messages": [{"role": "user", "content": [1]}]}',
    ],
)
def test_json_of_other_shapes(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.jsonl").write_text(line + "\n")
    (message,) = refusals(tmp_path / "a.jsonl", CONTENT)
    assert message.startswith("Line 1 of “a.jsonl”")


def test_parquet_of_other_types(tmp_path: Path) -> None:
    for kind, values in ((pa.int64(), [1]), (pa.binary(), [b"a"]), (pa.list_(pa.string()), [["a"]])):
        pq.write_table(pa.table({"text": pa.array(values, kind)}), tmp_path / "a.parquet")
        assert "no text in a column" in refusals(tmp_path / "a.parquet", CONTENT).pop()


def test_halves_of_surrogate_pairs_are_replaced_and_counted(tmp_path: Path) -> None:
    rows = ["so good \ud83d", "\ud83d\ude00 whole", "\ude00\ud83d", "plain"]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": row}) for row in rows))
    spec = DataSpec(source=str(tmp_path / "a.jsonl"))
    assert load_documents(spec) == ["so good \ufffd", "😀 whole", "\ufffd\ufffd", "plain"]
    (note,) = text_notes(spec)
    assert note.endswith("in “a.jsonl”: 3")


def header(descr: str, shape: str, order: str = "False", version: int = 1) -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()
    return (
        npy.magic(version, 0) + (struct.pack("<H", len(text)) if version == 1 else struct.pack("<I", len(text))) + text
    )


@pytest.mark.parametrize(
    ("descr", "shape"),
    [
        ("'|O'", "(2, 2)"),
        ("[('a', '<i8'), ('b', '<f8')]", "(2, 2)"),
        ("'<m8[s]'", "(2, 2)"),
        ("'<M8[D]'", "(2, 2)"),
        ("'<U3'", "(2, 2)"),
        ("'|b1'", "(2, 2)"),
        ("'<c16'", "(2, 2)"),
        ("('<i8', (3,))", "(2, 2)"),
        ("'<i8'", "()"),
        ("'<i8'", "(4,)"),
        ("'<i8'", "(2, 2, 1)"),
        ("'<i8'", "(0, 4)"),
        ("'<i8'", "(-2, -2)"),
        ("'<i8'", "(2, -2)"),
        ("'<i8'", "(1000000000000, 1000000000000)"),
        ("'<i8'", f"({10**400}, 2)"),
        ("'<i8'", "(3, 2)"),
        ("'<i8'", "['a', 'b']"),
        ("'no such type'", "(2, 2)"),
        ("[" * 500 + "]" * 500, "(2, 2)"),
        ("__import__('os')", "(2, 2)"),
    ],
)
@pytest.mark.parametrize("version", [1, 2, 3])
def test_headers_of_ids_are_not_believed(descr: str, shape: str, version: int, tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(header(descr, shape, version=version) + bytes(16))
    with pytest.raises(UserError) as caught:
        tokens(DataSpec(source=str(tmp_path / "a.npy")), None, 0)
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("kind", ["<i8", ">i4", "<u2", "|u1", "<u8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_ids_of_any_integer_and_order_are_read(kind: str, order: str, tmp_path: Path) -> None:
    ids = np.arange(12).reshape(3, 4)
    np.save(tmp_path / "a.NPY", np.asarray(ids, kind, order))
    os.rename(tmp_path / "a.NPY.npy", tmp_path / "a.NPY")
    spec = DataSpec(source=str(tmp_path / "a.NPY"))
    assert ids_shape(spec) == (3, 4)
    np.testing.assert_array_equal(tokens(spec, None, 0, vocab_size=12), ids)


def test_ids_beyond_a_signed_integer_are_not_negative(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[1, 2**64 - 1]], np.uint64))
    with pytest.raises(UserError, match="has id 18446744073709551615"):
        tokens(DataSpec(source=str(tmp_path / "a.npy")), None, 0, vocab_size=None)


def broken(kind: str) -> PreTrainedTokenizerFast:
    """A tokenizer that fails on ordinary text: by an error, or by a panic of its library."""
    tokenizer = Tokenizer(models.WordLevel({"ACG": 0, "TTT": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if kind == "unknown":
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer)

    class Panics(PreTrainedTokenizerFast):
        def __call__(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]
            raise (
                type("PanicException", (BaseException,), {})("index out of bounds") if kind == "panic" else MemoryError
            )

    return Panics(tokenizer_object=tokenizer)


@pytest.mark.parametrize("kind", ["unknown", "panic", "memory"])
def test_a_tokenizer_that_breaks_is_one_sentence(kind: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Some ordinary words of a text. " * 50)
    for draw in (tokens, sentences):
        with pytest.raises(UserError, match="tokenizer cannot read the text"):
            draw(DataSpec(source=str(tmp_path / "a.txt"), samples=2, length=8), broken(kind), 0)
