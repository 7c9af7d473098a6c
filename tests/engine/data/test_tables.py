"""Every table of texts is read: columns as other programs store them, chats, CSV, and saved data sets."""

import json
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.data import columns
from engine.data.texts import load_documents, source_hash, text_notes
from engine.errors import UserError
from engine.request import DataSpec

TEXTS = ["one two", None, "three", "naïve 🙂"]
CHAT = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello!"}]
PLAIN = "user: Hi.\n\nassistant: Hello!"


def documents(path: Path) -> list[str]:
    return list(load_documents(DataSpec(source=str(path))))


def notes(path: Path) -> tuple[str, ...]:
    return text_notes(DataSpec(source=str(path)))


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_documents(DataSpec(source=str(path)))
    assert "\n" not in caught.value.message
    return caught.value.message


@pytest.mark.parametrize("form", ["string", "large_string", "string_view", "dictionary"])
def test_a_column_of_text_of_any_form_is_read(form: str, tmp_path: Path) -> None:
    array = pa.array(TEXTS, pa.string())
    array = array.dictionary_encode() if form == "dictionary" else array.cast(getattr(pa, form)())
    table = pa.table({"id": range(4), "text": array})
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    pq.write_table(table, tmp_path / "a.parquet")
    for kind in ("arrow", "parquet"):
        assert documents(tmp_path / f"a.{kind}") == ["one two", "three", "naïve 🙂"]
        assert notes(tmp_path / f"a.{kind}") == (f"Rows of “a.{kind}” without text are passed over: 1 of 4",)


def test_rows_of_json_without_text_are_passed_over_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n\n".join(json.dumps({"text": text}) for text in TEXTS))
    assert documents(tmp_path / "a.jsonl") == ["one two", "three", "naïve 🙂"]
    assert notes(tmp_path / "a.jsonl") == ("Rows of “a.jsonl” without text are passed over: 1 of 4",)
    (tmp_path / "a.jsonl").write_text('{"text": null}\n')
    assert "has no text in it" in refusal(tmp_path / "a.jsonl")


def test_chats_are_read_as_plain_text_and_that_is_said(tmp_path: Path) -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": "Hi."}, {"type": "image", "url": "x"}]}, CHAT[1]]
    silent = [*CHAT, {"role": "tool", "content": None}]
    shared = [{"from": m["role"], "value": m["content"]} for m in CHAT]
    rows = [{"messages": CHAT}, {"messages": parts}, {"messages": silent}, {"conversations": shared}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pq.write_table(pa.table({"messages": [CHAT, None], "id": [1, 2]}), tmp_path / "a.parquet")
    assert documents(tmp_path / "a.jsonl") == [PLAIN] * 4
    assert documents(tmp_path / "a.parquet") == [PLAIN]
    assert "plain text" in notes(tmp_path / "a.jsonl")[0]
    assert len(notes(tmp_path / "a.parquet")) == 2
    pq.write_table(pa.table({"messages": [CHAT], "text": ["chosen"]}), tmp_path / "both.parquet")
    assert documents(tmp_path / "both.parquet") == ["chosen"]
    pq.write_table(pa.table({"messages": [[{"author": "a"}]]}), tmp_path / "other.parquet")
    assert "no column of text" in refusal(tmp_path / "other.parquet")


def test_csv_with_quotes_lines_and_tabs(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('\ufeffid,text\r\n1,"one, ""two""\nthree"\r\n2,NA\r\n3,42\r\n', newline="")
    (tmp_path / "a.TSV").write_text("text\tid\none, two\t1\n")
    assert documents(tmp_path / "a.csv") == ['one, "two"\nthree', "NA", "42"]
    assert documents(tmp_path / "a.TSV") == ["one, two"]
    for content, words in (
        ("title,body\na,b\n", "“title”, “body”"),
        ("text,text\na,b\n", "“text”"),
        ("text,id\na,b\nc,d,e\n", "Expected 2 columns, got 3"),
        ("", "cannot be read as a table"),
    ):
        (tmp_path / "b.csv").write_text(content)
        assert words in refusal(tmp_path / "b.csv")
    (tmp_path / "b.csv").write_bytes("text\nnaïve\n".encode("latin-1"))
    assert "UTF" in refusal(tmp_path / "b.csv")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    rows = datasets.Dataset.from_dict({"text": TEXTS, "id": range(4)})
    rows.save_to_disk(tmp_path / "saved", num_shards=2)
    datasets.DatasetDict({"train": rows, "test": rows.select([0])}).save_to_disk(tmp_path / "splits")
    return tmp_path


class TestSaved:
    def test_a_saved_data_set_and_its_splits_are_read(self, saved: Path) -> None:
        assert documents(saved / "saved") == ["one two", "three", "naïve 🙂"]
        assert documents(saved / "splits") == ["one two", "three", "naïve 🙂"]
        assert documents(saved / "splits" / "test") == ["one two"]
        assert "“train” is read" in notes(saved / "splits")[0]
        assert source_hash(DataSpec(source=str(saved / "saved"))) is not None

    def test_a_large_one_is_read_where_it_is_drawn(self, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(columns, "LARGE_TABLE", 0)
        assert documents(saved / "saved") == ["one two", "", "three", "naïve 🙂"]
        assert notes(saved / "saved") == ("Rows of “saved” without text are passed over: 1 of 4",)

    def test_splits_without_train_are_asked_for(self, saved: Path) -> None:
        rows = datasets.Dataset.from_dict({"text": ["a"]})
        datasets.DatasetDict({"b": rows, "c": rows}).save_to_disk(saved / "two")
        datasets.DatasetDict({"only": rows}).save_to_disk(saved / "one")
        assert "give the folder of one" in refusal(saved / "two")
        assert documents(saved / "one") == ["a"]

    @pytest.mark.parametrize(
        "name", ["../outside.arrow", "/etc/hostname", "..", "", "a/b.arrow", "link.arrow", "nul\0", 7, None]
    )
    def test_it_reads_nothing_outside_and_no_links(self, saved: Path, name: object) -> None:
        part = saved / "saved" / "data-00000-of-00002.arrow"
        (saved / "outside.arrow").write_bytes(part.read_bytes())
        (saved / "saved" / "link.arrow").symlink_to(saved / "outside.arrow")
        (saved / "saved" / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
        assert "no file of its own" in refusal(saved / "saved")
        (saved / "splits" / "dataset_dict.json").write_text(json.dumps({"splits": [name]}))
        assert "The data set in" in refusal(saved / "splits")

    @pytest.mark.parametrize("content", ["[" * 1000, "7", "{", '{"_data_files": 3}', '{"_data_files": [3]}', "\ufffd"])
    def test_its_state_is_not_believed(self, saved: Path, content: str) -> None:
        for name in ("saved/state.json", "splits/dataset_dict.json"):
            (saved / name).write_text(content)
            refusal((saved / name).parent)

    def test_its_arrays_are_checked(self, saved: Path) -> None:
        part = saved / "saved" / "data-00000-of-00002.arrow"
        data = part.read_bytes()
        part.write_bytes(data[: len(data) // 2])
        refusal(saved / "saved")
        at = data.index(b"one two") - 64
        for offset in range(at, at + 64, 4):  # among these lie the offsets of the strings
            part.write_bytes(data[:offset] + b"\xff\xff\xff\x7f" + data[offset + 4 :])
            try:
                documents(saved / "saved")
            except UserError:
                continue
