"""Samples are windows of the text: reproducible, disjoint, framed as the tokenizer does; given ids are checked."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from numbered_words import numbers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from engine.data.encoding import frame
from engine.data.tokens import tokens
from engine.errors import UserError
from engine.request import DataSpec


@pytest.fixture
def counted(tmp_path: Path) -> str:
    path = tmp_path / "counted.txt"
    path.write_text(" ".join(f"w{i}" for i in range(1000)))
    return str(path)


def test_windows_are_disjoint_runs_of_the_text_and_follow_the_seed(counted: str) -> None:
    spec = DataSpec(source=counted, samples=40, length=20)
    drawn = tokens(spec, numbers(), 1)
    assert drawn.shape == (40, 20)
    assert drawn.dtype == np.int64
    assert (np.diff(drawn, axis=1) == 1).all()
    assert len(np.unique(drawn)) == drawn.size
    np.testing.assert_array_equal(drawn, tokens(spec, numbers(), 1))
    assert not np.array_equal(drawn, tokens(spec, numbers(), 2))


def test_every_document_can_be_drawn(tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl"
    path.write_text("\n".join(f'{{"text": "w{i} w{i}"}}' for i in range(1000)))
    spec = DataSpec(source=str(path), samples=10, length=2)
    seen = {int(i) for seed in range(40) for i in np.unique(tokens(spec, numbers(), seed))}
    assert min(seen) < 50
    assert max(seen) > 950
    assert len(seen) > 250


def test_special_tokens_frame_every_window(counted: str) -> None:
    framed = numbers(framed=True)
    assert frame(framed) == ([1], [2])
    assert frame(numbers()) == ([], [])
    drawn = tokens(DataSpec(source=counted, samples=10, length=20), framed, 0)
    assert (drawn[:, 0] == 1).all()
    assert (drawn[:, -1] == 2).all()
    assert (np.diff(drawn[:, 1:-1], axis=1) == 1).all()
    with pytest.raises(UserError, match="no room"):
        tokens(DataSpec(source=counted, samples=1, length=2), framed, 0)


def test_text_shorter_than_what_is_asked(counted: str) -> None:
    assert tokens(DataSpec(source=counted, samples=1, length=1000), numbers(), 0).shape == (1, 1000)
    with pytest.raises(UserError, match="1000 tokens, enough for 0 samples"):
        tokens(DataSpec(source=counted, samples=1, length=1001), numbers(), 0)
    with pytest.raises(UserError, match="enough for 10 samples of 100 but not 11"):
        tokens(DataSpec(source=counted, samples=11, length=100), numbers(), 0)


def test_file_of_ids_gives_its_own_rows(tmp_path: Path) -> None:
    ids = np.arange(60, dtype=np.uint16).reshape(6, 10)
    np.save(tmp_path / "ids.npy", ids)
    source = str(tmp_path / "ids.npy")
    np.testing.assert_array_equal(tokens(DataSpec(source=source, samples=9), None, 0), ids)
    some = tokens(DataSpec(source=source, samples=3, length=4), None, 5)
    assert some.shape == (3, 4)
    assert (np.diff(some[:, 0]) > 0).all()
    assert set(some[:, 0]) <= set(ids[:, 0].tolist())


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (np.zeros((2, 3)), "integers of shape"),
        (np.zeros(3, dtype=int), "integers of shape"),
        (np.zeros((0, 3), dtype=int), "integers of shape"),
        (np.array([[1, 2], [3, -2]]), "Row 1 .* negative id"),
        (np.array([[1, -1], [-1, 2]]), "Row 1 .* after a pad"),
        (np.array([[1, 2], [-1, -1]]), "Row 1 .* is empty"),
        (np.array([[1, 2], [3, 50]]), "Row 1 .* has id 50, .* 0 to 49"),
        (np.array([["a", "b"]], dtype=object), "numpy.save"),
    ],
)
def test_file_of_ids_is_checked(tmp_path: Path, ids: np.ndarray, said: str) -> None:
    np.save(tmp_path / "ids.npy", ids, allow_pickle=True)
    with pytest.raises(UserError, match=said):
        tokens(DataSpec(source=str(tmp_path / "ids.npy")), None, 0, vocab_size=50)


def test_pads_may_end_rows_and_a_text_needs_a_tokenizer(tmp_path: Path, counted: str) -> None:
    ids = np.array([[1, 2, 3], [4, -1, -1]])
    np.save(tmp_path / "ids.npy", ids)
    np.testing.assert_array_equal(tokens(DataSpec(source=str(tmp_path / "ids.npy")), numbers(), 0), ids)
    with pytest.raises(UserError, match="no tokenizer"):
        tokens(DataSpec(source=counted), None, 0)
    with pytest.raises(UserError, match="There is no file"):
        tokens(DataSpec(source=str(tmp_path / "id.npy")), None, 0)


@pytest.mark.parametrize(
    ("single", "ends"),
    [("$A", ([], [])), ("[CLS] $A", ([1], [])), ("$A [SEP]", ([], [2])), ("[CLS] [CLS] $A [SEP]", ([1, 1], [2]))],
)
@pytest.mark.parametrize("rest", ["alone", "sequence"])
def test_special_tokens_are_those_of_the_post_processor(
    single: str, ends: tuple[list[int], list[int]], rest: str
) -> None:
    """Of a vocabulary of codons, which has no word for the letter a, and where every word is known or an error."""
    codons = {"[CLS]": 1, "[SEP]": 2} | {"".join(codon): i + 3 for i, codon in enumerate(product("ACGT", repeat=3))}
    backend = Tokenizer(models.WordLevel(codons, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    template = processors.TemplateProcessing(single=single, special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    backend.post_processor = template if rest == "alone" else processors.Sequence([processors.ByteLevel(), template])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    assert frame(tokenizer) == ends
    assert tokenizer("ACG")["input_ids"] == [*ends[0], codons["ACG"], *ends[1]]


def test_special_tokens_of_a_tokenizer_in_python() -> None:
    assert frame(ByT5Tokenizer()) == ([], [1])
