"""Samples of any analysis: the length that the models read, and rows of ids that need no tokenizer."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from run_parts import carried_out, request_of
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel

from engine.analyses.header import Header
from engine.analyses.registry import ANALYSES
from engine.analyses.samples import draw, settled
from engine.errors import UserError
from engine.models.opening import describe, open_model
from engine.request import DataSpec, ModelSpec
from engine.runs.loop import execute, start

READING = [name for name, analysis in ANALYSES.items() if analysis.needs_data]
FEW = {
    "activations": {"fit_start": 1, "fit_stop": 8, "bootstrap": 0, "density": False, "splits": ["all", "test"]},
    "attention": {"sweep_samples": 2, "length_samples": 2, "shown": 1},
    "communities": {"permutations": 99, "partitions": 10, "restarts": 1},
    "gradients": {"fit_start": 1, "fit_stop": 8, "splits": ["train"]},
    "jacobians": {},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A causal and a masked model without tokenizers, both with a context of 16, and rows of ids of several lengths."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=16, n_head=2, vocab_size=64, n_positions=16)).save_pretrained(
        folder / "causal"
    )
    sizes = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    BertForMaskedLM(BertConfig(vocab_size=64, max_position_embeddings=16, **sizes)).save_pretrained(folder / "masked")
    ids = np.random.default_rng(0).integers(3, 64, (14, 12))
    ids[::2, 7:] = -1
    np.save(folder / "ids.npy", ids)
    (folder / "ids.npy").rename(folder / "IDS.NPY")
    np.save(folder / "long.npy", np.random.default_rng(0).integers(3, 64, (6, 40)))
    return folder


@pytest.mark.parametrize("analysis", READING)
@pytest.mark.parametrize("model", ["causal", "masked"])
def test_rows_of_ids_need_no_tokenizer(session, folder: Path, analysis: str, model: str) -> None:
    data = DataSpec(source=str(folder / "IDS.NPY"))
    request = request_of(analysis, folder / model, data=data, **FEW[analysis])
    if (analysis, model) == ("gradients", "masked"):
        with pytest.raises(UserError, match="has no tokenizer with a mask token"):
            start(session, request)
        return
    run = carried_out(session, request)
    assert run.request.data == DataSpec(source=data.source, samples=14, length=12)
    result = run.result()
    assert result is not None
    assert len(result.get("sample", range(14))) == 14


@pytest.mark.parametrize(
    ("name", "given", "samples", "length"),
    [("IDS.NPY", None, 14, 12), ("IDS.NPY", 5, 14, 5), ("IDS.NPY", 99, 14, 12), ("long.npy", None, 6, 16)],
)
def test_ids_settle_how_many_there_are(folder: Path, name: str, given: int | None, samples: int, length: int) -> None:
    info = describe(ModelSpec(source=str(folder / "causal")))
    data = settled(DataSpec(source=str(folder / name), length=given), [info])
    assert (data.samples, data.length) == (samples, length)
    ids = draw(data, "sentences", open_model(ModelSpec(source=str(folder / "causal"))), 0)
    np.testing.assert_array_equal(ids, np.load(folder / name)[:, :length])


def test_the_length_is_what_all_models_read() -> None:
    builtin = describe(ModelSpec())
    short, unknown = builtin.model_copy(update={"context": 64}), builtin.model_copy(update={"context": 0})
    assert settled(DataSpec(), [builtin]).length == 128
    assert settled(DataSpec(), [builtin, short, unknown]).length == 64
    assert settled(DataSpec(), [unknown]).length == 128
    assert settled(DataSpec(length=100), [short]).length == 100  # what is asked for is refused, not changed


def test_a_length_that_is_asked_for_is_refused_where_it_is_too_long(session, folder: Path) -> None:
    for analysis in ("activations", "gradients", "jacobians", "communities"):
        request = request_of(analysis, folder / "causal", data=DataSpec(length=17), **FEW[analysis])
        with pytest.raises(UserError, match="which is 16"):
            start(session, request)


def test_stored_requests_keep_their_length() -> None:
    assert DataSpec.model_validate_json('{"source": "builtin", "samples": 256, "length": 128}').length == 128
    assert json.loads(DataSpec().model_dump_json())["length"] is None


def test_what_was_passed_over_stands_under_the_result(session, tmp_path: Path) -> None:
    rows = [{"text": f"Sentence {i} of this text has some words. " * 9 if i % 3 else None} for i in range(60)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = DataSpec(source=str(tmp_path / "rows.jsonl"), samples=4, length=16)
    run = start(
        session, request_of("activations", Path("builtin"), data=data, **FEW["activations"] | {"splits": ["all"]})
    )
    seen: list[object] = []
    execute(session, run, seen.append, lambda: False)
    note = "Rows of “rows.jsonl” without text are passed over: 20 of 60"
    assert f"{note}." in [getattr(event, "text", "") for event in seen]
    result = run.result()
    assert result is not None
    assert note in Header.of(result).notes
