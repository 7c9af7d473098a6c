"""LoRA adapters: the merged model is the base with its updates, and what is no plain LoRA is refused."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from opening_models import copy, pristine, refusal, tokenizer_of
from safetensors.torch import save_file
from torch import Tensor

from engine.cli.options import build_request
from engine.models.opening import describe, open_model
from engine.models.source import checkpoints
from engine.request import ModelSpec

CONFIG: dict[str, Any] = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "r": 2,
    "lora_alpha": 16,
    "target_modules": ["c_attn"],
    "lora_dropout": 0.1,
    "bias": "none",
    "init_lora_weights": True,
    "use_dora": False,
}
PREFIX = "base_model.model.transformer.h."
LAYERS = {"attn.c_attn": (24, 72), "mlp.c_proj": (96, 24)}


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def updates(rank: int = 2, module: str = "attn.c_attn", layer: int = 0) -> dict[str, Tensor]:
    inputs, outputs = LAYERS[module]
    return {
        f"{PREFIX}{layer}.{module}.lora_A.weight": random(rank, inputs),
        f"{PREFIX}{layer}.{module}.lora_B.weight": random(outputs, rank),
    }


def adapter(folder: Path, tensors: dict[str, Tensor], base: Path | str | None = None, **changes: Any) -> Path:
    """An adapter's folder as peft saves it."""
    folder.mkdir(parents=True, exist_ok=True)
    config = CONFIG | {"base_model_name_or_path": str(base or pristine())} | changes
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def merged(folder: Path, name: str = "transformer.h.0.attn.c_attn.weight", **spec: Any) -> np.ndarray[Any, Any]:
    return open_model(ModelSpec(source=str(folder), **spec)).tensor(name).double().numpy()


BASE = "transformer.h.0.attn.c_attn.weight"


@pytest.mark.parametrize(
    ("changes", "scale"),
    [
        ({}, 8.0),
        ({"use_rslora": True}, 16 / math.sqrt(2)),
        ({"alpha_pattern": {"attn.c_attn": 3}}, 1.5),
        ({"alpha_pattern": {"n.c_attn": 3}}, 8.0),
        ({"r": 64, "rank_pattern": {"c_attn": 2}}, 8.0),
    ],
)
def test_the_update_is_scaled_as_its_config_says(changes: dict[str, Any], scale: float, tmp_path: Path) -> None:
    a, b = (tensor.double().numpy() for tensor in updates().values())
    folder = adapter(tmp_path / "lora", updates(), **changes)
    expected = merged(pristine()) + scale * (b @ a).T  # GPT-2 multiplies from the left
    assert np.abs(merged(folder) - expected).max() < 1e-6 * np.abs(expected).max()


def test_base_and_merged_are_two_models_of_one_request(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "lora", updates() | updates(2, "mlp.c_proj", 1))
    request = build_request("weights", [str(pristine()), str(folder)], [], True, None, None, [], "cpu", 0)
    base, twin, ours, same = (open_model(spec) for spec in request.models)
    assert ours.info.label == "lora"
    assert ours.info.identity != base.info.identity
    assert ours.stamp() != base.stamp()
    assert "LoRA of rank 2 is merged into 2 matrices" in ours.info.notices[0]
    assert ours.layer_hash(0) != base.layer_hash(0)
    assert ours.layer_hash(2) == base.layer_hash(2)
    assert twin.layer_hash(0) == same.layer_hash(0)
    changed = {
        name
        for name, value in ours.module().state_dict().items()
        if not torch.equal(value, base.module().state_dict()[name])
    }
    assert changed == {BASE, "transformer.h.1.mlp.c_proj.weight"}


def test_tensors_that_it_holds_whole_and_embeddings(tmp_path: Path) -> None:
    bias, table = random(72), random(60, 24)
    base = tmp_path / "untied"
    config = hf.GPT2Config.from_pretrained(pristine(), tie_word_embeddings=False)
    hf.GPT2LMHeadModel(config).save_pretrained(base)
    table = random(60, 24)
    tensors = updates() | {
        f"{PREFIX}0.attn.c_attn.base_layer.bias": bias,
        "base_model.model.transformer.wte.lora_embedding_A": random(2, 60),
        "base_model.model.transformer.wte.lora_embedding_B": random(24, 2),
        "base_model.model.transformer.wte.base_layer.weight": table,
        "base_model.model.lm_head.modules_to_save.weight": table * 2,
    }
    folder = adapter(tmp_path / "lora", tensors, base, bias="all", modules_to_save=["lm_head"])
    assert np.array_equal(merged(folder, "transformer.h.0.attn.c_attn.bias"), bias.double())
    assert np.array_equal(merged(folder, "lm_head.weight"), table.double() * 2)
    expected = (table + 8 * (random(24, 2) @ random(2, 60)).T).double().numpy()
    assert np.abs(merged(folder, "transformer.wte.weight") - expected).max() < 1e-4
    open_model(ModelSpec(source=str(folder))).module()


def test_the_base_is_given_or_found_and_its_absence_said(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "lora", updates(), "someone/gone")
    message = refusal(folder)
    assert "holds an adapter for someone/gone, which cannot be opened" in message
    other = copy(pristine(), tmp_path / "base")
    model = open_model(ModelSpec(source=str(folder), base=str(other)))
    assert model.info.label == "lora on base"
    assert "of base." in model.info.notices[0]
    assert "is an adapter itself" in refusal(folder, base=str(folder))
    assert model.tokenizer() is not None
    tokenizer_of(40).save_pretrained(folder)
    assert len(open_model(ModelSpec(source=str(folder), base=str(other))).tokenizer()) <= 40


def test_a_trainer_s_adapters_are_checkpoints(tmp_path: Path) -> None:
    for step in (50, 100):
        adapter(tmp_path / "out" / f"checkpoint-{step}", updates())
    assert checkpoints(str(tmp_path / "out")) == ("checkpoint-50", "checkpoint-100")
    info = describe(ModelSpec(source=str(tmp_path / "out")))
    assert (info.revision, info.step) == ("checkpoint-100", 100)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"use_dora": True}, "setting use_dora"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights (pissa)"),
        ({"alpha_pattern": {"(a+)+$": 3}}, "the pattern (a+)+$"),
        ({"alpha_pattern": [1]}, "how the adapter is scaled"),
        ({"lora_alpha": None}, "how the adapter is scaled"),
        ({"layer_replication": [[0, 2]]}, "setting layer_replication"),
        ({"something_new": 1, "use_dora": True}, "settings something_new, use_dora are"),
        ({"peft_type": "IA3"}, "of the type IA3"),
        ({"base_model_name_or_path": None}, "does not name the model that it was made for"),
    ],
)
def test_what_is_more_than_a_plain_lora_is_refused(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    assert words in refusal(adapter(tmp_path / "lora", updates(), **changes))


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({f"{PREFIX}0.attn.c_attn.lora_A.weight": torch.ones(2, 24)}, "does not hold both factors"),
        ({f"{PREFIX}7.attn.c_attn.bias": torch.ones(72)}, "does not have as one stored tensor"),
        ({f"{PREFIX}0.attn.c_attn.lora_magnitude_vector": torch.ones(72)}, "does not have as one stored tensor"),
        ({f"{PREFIX}0.attn.c_attn.bias": torch.ones(71)}, "holds transformer.h.0.attn.c_attn.bias of shape (71,)"),
        ({"base_model.model.lm_head.weight": torch.ones(60, 24)}, "shares between its embedding and its head"),
        ({f"{PREFIX}0.attn.c_attn.bias": torch.ones(72, dtype=torch.int8)}, "is stored as I8"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(tensors: dict[str, Tensor], words: str, tmp_path: Path) -> None:
    assert words in refusal(adapter(tmp_path / "lora", tensors))


def test_an_update_of_another_width_and_pickled_weights(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "lora", updates() | {f"{PREFIX}0.attn.c_attn.lora_A.weight": torch.ones(2, 25)})
    assert "by a matrix of shape (25, 72), and the model's is (24, 72)" in refusal(folder)
    shutil.move(folder / "adapter_model.safetensors", folder / "adapter_model.bin")
    assert "holds only pickled weights (adapter_model.bin)" in refusal(folder)
    (folder / "adapter_model.bin").unlink()
    assert "an adapter without weights" in refusal(folder)


def test_values_that_are_not_finite_are_refused_when_read(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "lora", updates() | {f"{PREFIX}1.attn.c_attn.bias": torch.ones(72) / 0})
    assert "not finite" in refusal(folder, of="module")


@pytest.mark.parametrize("base", [r"\\server\models", "//server/models"])
def test_a_base_on_another_machine_is_not_looked_for(base: str, tmp_path: Path) -> None:
    assert "which is on another machine" in refusal(adapter(tmp_path / "lora", updates(), base))
