"""Every kind of text is read, and every near miss is told in a sentence."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.data.texts import load_documents
from engine.errors import UserError
from engine.request import DataSpec


def spec(source: Path | str) -> DataSpec:
    return DataSpec(source=str(source))


def test_files_of_each_kind_give_their_documents(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\ufeffnaïve – text", encoding="utf-8")
    (tmp_path / "a.jsonl").write_text('{"text": "one", "id": 1}\n\n{"text": "two"}\n')
    pq.write_table(pa.table({"id": [1, 2, 3], "text": ["one", None, "two"]}), tmp_path / "a.parquet")
    assert load_documents(spec(tmp_path / "a.txt")) == ["naïve – text"]
    assert load_documents(spec(tmp_path / "a.jsonl")) == ["one", "two"]
    assert load_documents(spec(tmp_path / "a.parquet")) == ["one", "two"]


def refusal(source: Path | str) -> str:
    with pytest.raises(UserError) as caught:
        load_documents(spec(source))
    assert "\n" not in caught.value.message
    return caught.value.message


def test_missing_file_names_the_one_that_was_meant(tmp_path: Path) -> None:
    (tmp_path / "wikitext.txt").write_text("x")
    assert "“wikitext.txt”" in refusal(tmp_path / "wikitex.txt")
    assert "“builtin”" in refusal("bultin")
    assert "check its name" in refusal(tmp_path / "nowhere" / "q.txt")
    assert "is a folder" in refusal(tmp_path)


def test_wrong_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("x")
    assert ".txt, .jsonl or .parquet" in refusal(tmp_path / "notes.md")
    (tmp_path / "latin.txt").write_bytes("naïve".encode("latin-1"))
    assert "UTF-8" in refusal(tmp_path / "latin.txt")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and then nothing")
    assert "Parquet" in refusal(tmp_path / "cut.parquet")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('{"text": "a"}\n{"text": ', "Line 2"),
        ('["a"]', "not a JSON object"),
        ('{"content": "a", "n": 1}', "it has “content”"),
        ('{"Text": "a"}', "rename “Text”"),
        ('{"text": 3}', "no column of text"),
        ("", "no text in it"),
        ('{"text": "  "}', "no text in it"),
    ],
)
def test_jsonl_near_misses(tmp_path: Path, lines: str, said: str) -> None:
    (tmp_path / "a.jsonl").write_text(lines)
    assert said in refusal(tmp_path / "a.jsonl")


def test_parquet_without_the_column_names_those_it_has(tmp_path: Path) -> None:
    pq.write_table(pa.table({"texts": ["a"], "n": [1]}), tmp_path / "near.parquet")
    assert "rename “texts”" in refusal(tmp_path / "near.parquet")
    pq.write_table(pa.table({"body": ["a"], "title": ["b"]}), tmp_path / "far.parquet")
    assert "“body”, “title”" in refusal(tmp_path / "far.parquet")


def test_hub_name_gives_config_and_split(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked = []

    def load(name: str, config: str | None, *, split: str) -> datasets.Dataset:
        asked.append((name, config, split))
        column = "body" if name == "odd" else "text"
        return datasets.Dataset.from_dict({column: ["one", "two"], "label": [0, 1]})

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert list(load_documents(spec("hub:org/wiki"))) == ["one", "two"]
    for name in ("hub:org/wiki:raw-v1", "hub:imdb:test[:10%]", "hub:org/wiki:raw-v1:validation"):
        load_documents(spec(name))
    assert asked == [
        ("org/wiki", None, "train"),
        ("org/wiki", "raw-v1", "train"),
        ("imdb", None, "test[:10%]"),
        ("org/wiki", "raw-v1", "validation"),
    ]
    assert "“body”" in refusal("hub:odd")
    assert "hub:NAME" in refusal("hub:a:b:c:d")


def test_hub_out_of_reach_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import datasets
    import huggingface_hub

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    assert "could not be fetched" in refusal("hub:nobody/no-such-data-set-of-eigenscope")


def test_json_lines_are_what_json_writes(tmp_path: Path) -> None:
    documents = ['"quoted"\n\ttabs', "emoji 🙂", "nul \x00"]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in documents))
    assert load_documents(spec(tmp_path / "a.jsonl")) == documents
