"""Train and test are the parts that training knows: disjoint, whole together, and the same everywhere."""

from pathlib import Path

import numpy as np
import pytest
from numbered_words import numbers

from engine.data.builtin import builtin_documents
from engine.data.splits import Split, divide, part
from engine.data.texts import load_documents
from engine.data.tokens import tokens
from engine.errors import UserError
from engine.request import DataSpec


def test_documents_are_divided_as_the_training_job_divides_them() -> None:
    everything = builtin_documents()
    learnt, held = divide(len(everything), 0.05, 0)
    train, test = (list(load_documents(DataSpec(), split)) for split in ("train", "test"))
    assert train == [everything[i] for i in learnt]
    assert test == [everything[i] for i in held]
    assert len(test) == round(0.05 * len(everything))
    assert sorted(train + test) == sorted(everything)
    assert list(part(everything, "test")[:2]) == test[:2]


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("x" * 940 + "\n\n" + "y" * 10 + "\n" + "z" * 47, 942),  # a paragraph, though a line is nearer
        ("x" * 930 + "\n" + "y" * 69, 931),
        ("x" * 955 + " " + "y" * 44, 956),
        ("x" * 500 + "\n\n" + "y" * 498, 950),  # too far away: cut where the share is
    ],
)
def test_one_document_is_cut_near_its_share(text: str, cut: int) -> None:
    assert len(text) == 1000
    assert (list(part([text], "train")), list(part([text], "test"))) == ([text[:cut]], [text[cut:]])


@pytest.mark.parametrize("split", ["train", "test"])
def test_samples_come_from_their_part_only(tmp_path: Path, split: Split) -> None:
    path = tmp_path / "many.jsonl"
    path.write_text("\n".join(f'{{"text": "w{i} w{i}"}}' for i in range(400)))
    spec = DataSpec(source=str(path), samples=10, length=2)
    mine = set(divide(400)[split == "test"])
    seen = {int(i) - 3 for seed in range(20) for i in np.unique(tokens(spec, numbers(), seed, split=split))}
    assert seen <= mine
    assert len(seen) > 15
    with pytest.raises(UserError, match="part of the text has"):
        tokens(DataSpec(source=str(path), samples=1, length=2000), numbers(), 0, split=split)


def test_rows_of_a_file_of_ids_are_divided_too(tmp_path: Path) -> None:
    np.save(tmp_path / "ids.npy", np.arange(80).reshape(40, 2))
    spec = DataSpec(source=str(tmp_path / "ids.npy"), samples=99)
    train, test = (tokens(spec, None, 0, split=split)[:, 0] // 2 for split in ("train", "test"))
    assert (train.tolist(), test.tolist()) == tuple(sorted(rows) for rows in divide(40))
    np.save(tmp_path / "ids.npy", np.arange(2).reshape(1, 2))
    with pytest.raises(UserError, match="one row"):
        tokens(spec, None, 0, split="test")
