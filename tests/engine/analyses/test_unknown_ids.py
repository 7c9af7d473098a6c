"""A tokenizer that makes ids for which the model has no row: one sentence, wherever text becomes ids."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opening_models import copy, pristine

from engine.analyses.attention.sentence import attend
from engine.analyses.samples import draw
from engine.errors import UserError
from engine.models.opening import OpenModel, open_model
from engine.request import DataSpec, ModelSpec, Tuning
from engine.training.tuning import tune

SENTENCE = "the cat sat on the mat and the dog sat on the cat"
MARK = {"content": "<m>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
FRAME = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<m>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
}


def in_the_text(content: dict[str, Any], token: int) -> None:
    names = [f"<{n}>" for n in range(len(content["model"]["vocab"]), token)] + ["<m>"]
    content["added_tokens"] += [MARK | {"content": name, "id": token - n} for n, name in enumerate(names[::-1])][::-1]


def around_each_text(content: dict[str, Any], token: int) -> None:
    added = {"<m>": {"id": "<m>", "ids": [token], "tokens": ["<m>"]}}
    content["post_processor"] = FRAME | {"special_tokens": added}


READERS: dict[str, Callable[[OpenModel, DataSpec, Path], object]] = {
    "windows": lambda model, data, out: draw(data, "windows", model, 0),
    "sentences": lambda model, data, out: draw(data, "sentences", model, 0),
    "typed": lambda model, data, out: attend(model, f"{SENTENCE} <m>"),
    "tuning": lambda model, data, out: tune(
        ModelSpec(source=model.info.source, tuning=Tuning(length=8)), data, 0, "cpu", out
    ),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(("add", "token"), [(in_the_text, 60), (around_each_text, 60), (around_each_text, 2**32 - 2)])
def test_ids_beyond_the_embedding_are_one_sentence(
    add: Callable[[dict[str, Any], int], None], token: int, reader: str, tmp_path: Path
) -> None:
    folder = copy(pristine(), tmp_path / "model")
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    add(content, token)
    file.write_text(json.dumps(content))
    (tmp_path / "text.txt").write_text(f"{SENTENCE} <m>.\n" * 60)
    model = open_model(ModelSpec(source=str(folder)))
    with pytest.raises(UserError, match=f"token id {token} of this text"):
        READERS[reader](model, DataSpec(source=str(tmp_path / "text.txt"), samples=1, length=24), tmp_path / "out")
    assert not list((tmp_path / "out").glob("step*"))
