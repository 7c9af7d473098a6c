"""Of a large text only what is drawn is read; nothing is lost or doubled between its blocks."""

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numbered_words import numbers

from engine.data import columns, documents, jsonl, tables, texts
from engine.data.documents import BLOCK, TextBlocks, in_blocks
from engine.data.sentences import sentences
from engine.data.texts import load_documents
from engine.data.tokens import tokens
from engine.errors import UserError
from engine.request import DataSpec

ROWS = 4000


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is large, so that the tests need no large files."""
    for module in (columns, documents, jsonl, tables, texts):
        for name in {"LARGE_TEXT", "LARGE_TABLE"} & set(vars(module)):
            monkeypatch.setattr(module, name, 2**16)


def blocks_of(text: str) -> TextBlocks:
    data = text.encode()
    return TextBlocks(len(data), lambda start, stop: data[start:stop])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["word ", "слово", "字", "🙂", "\n", "\n\n", "x" * 9000, " \t"]), max_size=40))
def test_blocks_put_together_are_the_text(parts: list[str]) -> None:
    text = "".join(parts) * 3
    assert "".join(blocks_of(text)) == text


def test_blocks_end_where_paragraphs_do() -> None:
    text = "\n\n".join(f"Line {i} of the text.\nIt goes on." for i in range(3000))
    blocks = blocks_of(text)
    assert len(blocks) == -(-len(text.encode()) // BLOCK) > 5
    assert all(block.startswith("Line") for block in blocks)
    assert list(blocks[1:3]) == [blocks[1], blocks[2]]
    assert blocks[-1] == blocks[len(blocks) - 1]
    with pytest.raises(IndexError):
        blocks[len(blocks)]


def written(path: Path, texts: list[str | None]) -> Path:
    match path.suffix:
        case ".txt":
            path.write_text("\n\n".join(filter(None, texts)))
        case ".jsonl":
            path.write_text("\n".join(json.dumps({"id": i, "text": text}) for i, text in enumerate(texts)))
        case ".parquet":
            pq.write_table(pa.table({"text": texts, "id": range(len(texts))}), path, row_group_size=700)
        case ".csv":
            path.write_text("text,id\n" + "\n".join(f'"{text or ""}",{i}' for i, text in enumerate(texts)))
    return path


@pytest.mark.usefixtures("small_limits")
@pytest.mark.parametrize("kind", [".txt", ".jsonl", ".parquet", ".csv"])
class TestLarge:
    @pytest.fixture
    def source(self, kind: str, tmp_path: Path) -> str:
        texts = [None if i % 10 == 9 else f"w{i} " * 20 + "end." for i in range(ROWS)]
        return str(written(tmp_path / f"a{kind}", texts))

    def test_every_row_is_there_once(self, source: str) -> None:
        everything = load_documents(DataSpec(source=source))
        words = [word for document in everything for word in document.split() if word != "end."]
        assert words == [f"w{i}" for i in range(ROWS) if i % 10 != 9 for _ in range(20)]
        train, test = (load_documents(DataSpec(source=source), split) for split in ("train", "test"))
        assert sorted([*train, *test]) == sorted(everything)
        assert 0.02 < len(test) / len(everything) < 0.12

    def test_the_seed_decides_and_all_of_it_can_be_drawn(self, source: str) -> None:
        spec = DataSpec(source=source, samples=5, length=8)
        first, again, other = (tokens(spec, numbers(), seed) for seed in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)
        tokenizer = numbers()
        seen = [tokens(spec, tokenizer, seed)[0].max() for seed in range(20)]
        assert min(seen) < 0.3 * ROWS < 0.7 * ROWS < max(seen)
        drawn = sentences(spec, numbers(), 1)
        assert drawn.shape == (5, 8)
        np.testing.assert_array_equal(drawn, sentences(spec, numbers(), 1))

    def test_little_is_read_for_a_little(self, source: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        read: list[int] = []

        def counted(method: Callable[[object, int], str]) -> Callable[[object, int], str]:
            return lambda self, index: read.append(index) or method(self, index)  # type: ignore[func-returns-value]

        for lazy in (TextBlocks, jsonl.LineBlocks, tables.RowBlocks, columns.ColumnRows):
            monkeypatch.setattr(lazy, "read", counted(lazy.read))
        tokens(DataSpec(source=source, samples=2, length=8), numbers(), 0)
        assert 0 < len(read) <= (8 if kind == ".csv" else 3)


@pytest.mark.usefixtures("small_limits")
def test_a_long_line_of_json_stands_once_and_a_huge_one_is_refused(tmp_path: Path) -> None:
    rows = ["a", "b" * 7 * (BLOCK // 2), "c"]
    path = written(tmp_path / "a.jsonl", [*rows, *["d"] * 200])
    long = jsonl.LineBlocks(path, path.stat().st_size)
    assert [len(block) for block in long][1:3] == [0, 0]
    assert "".join(long).count("b") == 7 * (BLOCK // 2)
    assert "".join(long).count("d") == 200
    path.write_text("x" * 2**17)
    with pytest.raises(UserError, match=r"byte 0 of .* longer than"):
        jsonl.LineBlocks(path, path.stat().st_size)[0]
    path.write_text('{"text": "a"}\n{"text": ')
    with pytest.raises(UserError, match=r"byte 14 of .* not JSON"):
        jsonl.LineBlocks(path, path.stat().st_size)[0]


def test_memory_goes_with_what_is_drawn(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with path.open("w") as file:
        for i in range(160_000):
            file.write(f"w{i % 5000} " * 20 + "end.\n\n")
    assert path.stat().st_size > 4 * documents.LARGE_TEXT
    tracemalloc.start()
    tokens(DataSpec(source=str(path), samples=4), numbers(), 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < path.stat().st_size / 4


@pytest.mark.usefixtures("small_limits")
def test_one_large_row_of_a_small_table_is_cut(tmp_path: Path) -> None:
    assert in_blocks(["short", "x " * 2**16]) == ["short", *blocks_of("x " * 2**16)]


WINDOWS = {".txt": [[137, 0, 134, 0], [39, 0, 36, 0], [192, 193, 194, 0]],
           ".jsonl": [[101, 0, 103, 104], [105, 0, 23, 0], [151, 0, 155, 0]]}  # fmt: skip
SENTENCES = {".txt": [[232, 233, 234, 0, 231], [239, 240, 241, 0, 238], [70, 71, 72, 0, 69]],
             ".jsonl": [[133, 134, 135, 0], [97, 98, 99, 0], [14, 15, 16, 0]]}  # fmt: skip


@pytest.mark.parametrize("kind", WINDOWS)
def test_a_small_text_is_drawn_from_as_ever(kind: str, tmp_path: Path) -> None:
    """Against ids that the first version drew: an unfinished run of it goes on with the same samples."""
    texts = [f"w{i} w{i + 1}. w{i + 2} w{i + 3} w{i + 4} end." for i in range(300)]
    source = str(written(tmp_path / f"a{kind}", list(texts)))
    assert tokens(DataSpec(source=source, samples=3, length=4), numbers(), 7).tolist() == WINDOWS[kind]
    assert sentences(DataSpec(source=source, samples=3, length=5), numbers(), 7).tolist() == SENTENCES[kind]
