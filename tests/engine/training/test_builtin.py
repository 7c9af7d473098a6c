"""The models that come with the program are what their cards say."""

import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer, PreTrainedModel

from engine.data.builtin import builtin_documents, text_hash
from engine.resources import MODELS, RESOURCES
from engine.training.builtin import RECIPES, VOCABULARY, builtin_tokens, card
from engine.training.job import held_out_loss
from engine.training.spec import TrainingRecord

NAMES = list(RECIPES)
LOADERS = {"builtin": AutoModelForCausalLM, "builtin-encoder": AutoModelForMaskedLM}
SHAPES = {"builtin": (6, 8), "builtin-encoder": (4, 4)}


def record(name: str) -> TrainingRecord:
    return TrainingRecord.model_validate_json((MODELS / name / "training.json").read_text())


def load(name: str, checkpoint: str) -> PreTrainedModel:
    torch.set_num_threads(1)
    return LOADERS[name].from_pretrained(MODELS / name / checkpoint, dtype=torch.float32).eval()


def test_everything_that_is_shipped_is_small() -> None:
    assert sum(path.stat().st_size for path in RESOURCES.rglob("*") if path.is_file()) < 48e6


@pytest.mark.parametrize(("name", "fewest"), [("builtin", 8), ("builtin-encoder", 5)])
def test_checkpoints_are_the_ones_recorded_and_log_spaced(name: str, fewest: int) -> None:
    steps = [c.step for c in record(name).checkpoints]
    assert len(steps) >= fewest
    assert steps[0] == 0
    assert steps[-1] == record(name).steps
    ratios = [b / a for a, b in pairwise(steps[1:])]
    assert max(ratios) == pytest.approx(min(ratios), rel=0.05)
    folders = {path.name for path in (MODELS / name).iterdir() if path.is_dir()}
    assert folders == {c.name for c in record(name).checkpoints}


@pytest.mark.parametrize("name", NAMES)
def test_every_checkpoint_loads_whole(name: str) -> None:
    for checkpoint in record(name).checkpoints:
        loaded, told = LOADERS[name].from_pretrained(
            MODELS / name / checkpoint.name, dtype=torch.float32, output_loading_info=True, use_safetensors=True
        )
        assert not any(told[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        assert all(torch.isfinite(p).all() for p in loaded.parameters())
        config = loaded.config
        assert (config.num_hidden_layers, config.num_attention_heads) == SHAPES[name]
        assert (config.hidden_size, config.vocab_size) == (128, VOCABULARY)
        tokenizer = AutoTokenizer.from_pretrained(MODELS / name / checkpoint.name)
        assert len(tokenizer) == VOCABULARY


@pytest.mark.parametrize("name", NAMES)
def test_tokenizer_brings_text_back(name: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(MODELS / name / record(name).checkpoints[-1].name)
    for text in (*builtin_documents()[::60], "Tabs\tand  spaces\n\n    naïve – 漢字 🙂"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text
    if name == "builtin-encoder":
        one = tokenizer("a list")["input_ids"]
        assert (one[0], one[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
        assert tokenizer.convert_tokens_to_ids("[MASK]") == tokenizer.mask_token_id
        assert tokenizer.pad_token_id == load(name, "step0").config.pad_token_id == 0


@pytest.mark.parametrize("name", NAMES)
def test_training_went_from_random_to_well_below_the_unigram_entropy(name: str) -> None:
    run = record(name)
    losses = [c.held_out_loss for c in run.checkpoints]
    assert losses[0] == pytest.approx(math.log(VOCABULARY), abs=0.05)
    assert losses[-1] == min(losses)
    assert losses[-1] < run.unigram_entropy - 0.3
    initial = load(name, "step0").state_dict()
    embedding = next(
        tensor for key, tensor in initial.items() if key.endswith(("wte.weight", "word_embeddings.weight"))
    )
    assert embedding.std().item() == pytest.approx(0.02, rel=0.02)  # the library's own initialiser


@pytest.mark.parametrize("name", NAMES)
def test_recorded_loss_is_measured_again(name: str) -> None:
    """Exact (up to the storage's rounding) on the Python whose documentation was used; near it on another."""
    run = record(name)
    last = run.checkpoints[-1]
    tokenizer = AutoTokenizer.from_pretrained(MODELS / name / last.name)
    ours = held_out_loss(run.spec, load(name, last.name), tokenizer, builtin_tokens(RECIPES[name], tokenizer))
    same_text = text_hash() in (MODELS / name / "README.md").read_text()
    assert ours == pytest.approx(last.held_out_loss, abs=2e-3 if same_text else 0.5)


@pytest.mark.parametrize("name", NAMES)
def test_card_is_the_record_in_words(name: str) -> None:
    run, shown = record(name), (MODELS / name / "README.md").read_text()
    for checkpoint in run.checkpoints:
        row = f"| `{checkpoint.name}` | {checkpoint.held_out_loss:.3f} | {run.unigram_entropy:.3f} |"
        assert row in shown
    assert f"python -m engine.training builtin {name}" in shown
    assert run.spec == RECIPES[name].spec
    assert run.environment in shown
    if text_hash() in shown:
        assert card(name, run) == shown


def test_nothing_but_models_and_cards_is_shipped() -> None:
    kinds = {path.suffix for name in NAMES for path in Path(MODELS / name).rglob("*") if path.is_file()}
    assert kinds == {".safetensors", ".json", ".md"}
