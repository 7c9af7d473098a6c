"""What a folder is: one model, its checkpoints, a hub's cache, or several models of which one must be named."""

import json
import os
import shutil
from pathlib import Path

import pytest
import transformers as hf
from opening_models import GPT2, copy, edit_config, pristine, refusal, shard

from engine.cli.options import build_request
from engine.models.opening import describe, open_model
from engine.models.source import checkpoints
from engine.request import ModelSpec


def at(folder: Path, revision: str | None = None) -> str | None:
    return describe(ModelSpec(source=str(folder), revision=revision)).revision


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A model of another architecture."""
    hf.LlamaForCausalLM(
        hf.LlamaConfig(hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2, vocab_size=60)
    ).save_pretrained(tmp_path / "llama")
    return tmp_path / "llama"


def cache_of(folder: Path, commits: dict[str, str]) -> Path:
    """A hub's cache as its client lays it out: links into ``blobs``, and a commit for each ref."""
    (folder / "blobs").mkdir(parents=True)
    for ref, commit in commits.items():
        snapshot = folder / "snapshots" / commit
        if not snapshot.exists():
            snapshot.mkdir(parents=True)
            for file in pristine().iterdir():
                blob = folder / "blobs" / f"{commit}-{file.name}"
                shutil.copy(file, blob)
                (snapshot / file.name).symlink_to(os.path.relpath(blob, snapshot))
        if ref:
            file = folder / "refs" / ref
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(commit)
    return folder


@pytest.mark.parametrize("names", [("checkpoint-1000", "checkpoint-1500", "checkpoint-500"), ("9", "10"), ("epoch_2",)])
def test_the_last_of_one_training_is_meant(tmp_path: Path, names: tuple[str, ...]) -> None:
    root = tmp_path / "trainer out"
    for name in names:
        copy(pristine(), root / name)
    (root / "runs").mkdir()
    copy(pristine(), root / "tmp-checkpoint-2000")
    (root / "tmp-checkpoint-2000" / "config.json").write_text("{}")
    order = tuple(sorted(names, key=lambda name: int("".join(filter(str.isdigit, name)))))
    assert checkpoints(str(root)) == order
    assert at(root) == order[-1]
    assert at(root, order[0]) == order[0]
    specs = build_request("weights", [str(root)], ["all"], False, None, None, [], "cpu", 0).models
    assert tuple(spec.revision for spec in specs) == order


@pytest.mark.parametrize("kind", ["architectures", "sizes", "no order", "another kind of name"])
def test_several_models_are_asked_for_and_never_guessed(tmp_path: Path, kind: str, other: Path) -> None:
    root = tmp_path / "zoo"
    names = ("checkpoint-1", "checkpoint-2")
    if kind == "no order":
        names = ("seed-a", "seed-b")
    elif kind == "another kind of name":
        names = ("checkpoint-1", "checkpoint-best")
    copy(pristine(), root / names[0])
    copy(other if kind == "architectures" else pristine(), root / names[1])
    if kind == "sizes":
        hf.GPT2LMHeadModel(hf.GPT2Config(**GPT2.to_dict() | {"n_layer": 1})).save_pretrained(root / names[1])
    message = refusal(root)
    assert "holds several models" in message
    assert all(name in message for name in names)
    assert at(root, names[1]) == names[1]
    assert checkpoints(str(root)) == names


def test_only_folders_with_weights_and_a_model_type_are_checkpoints(tmp_path: Path) -> None:
    old, new = tmp_path / "old", copy(pristine(), tmp_path / "new")
    copy(pristine(), old / "0_Transformer")
    for root in (old, new):
        (root / "1_Pooling").mkdir()
        (root / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
        (root / "2_Dense").mkdir()
        (root / "2_Dense" / "config.json").write_text(json.dumps({"in_features": 24}))
        (root / "2_Dense" / "model.safetensors").write_bytes(b"")
        (root / "modules.json").write_text("[]")
    assert (at(old), checkpoints(str(old))) == ("0_Transformer", ("0_Transformer",))
    assert (at(new), checkpoints(str(new))) == (None, ())


def test_a_config_above_its_checkpoints_is_not_the_model(tmp_path: Path) -> None:
    copy(pristine(), tmp_path / "checkpoint-5")
    shutil.copy(pristine() / "config.json", tmp_path)
    assert at(tmp_path) == "checkpoint-5"
    shutil.copy(pristine() / "model.safetensors", tmp_path)
    assert at(tmp_path) is None


def test_a_checkpoint_that_is_named_is_not_passed_over(tmp_path: Path) -> None:
    copy(pristine(), tmp_path / "checkpoint-5")
    (copy(pristine(), tmp_path / "checkpoint-6") / "model.safetensors").unlink()
    assert at(tmp_path) == "checkpoint-5"
    assert "no weights" in refusal(tmp_path, revision="checkpoint-6")
    assert "has no checkpoint checkpoint-7. Did you mean" in refusal(tmp_path, revision="checkpoint-7")


def test_in_a_hub_s_cache_its_refs_decide(tmp_path: Path) -> None:
    cache = cache_of(
        tmp_path / "models--org--name", {"main": "9f00c1", "step2": "10aa22", "refs/pr/1": "c0ffee", "step10": "9f00c1"}
    )
    cache_of(tmp_path / "loose", {"": "b0b0b0"}).joinpath("snapshots/b0b0b0").rename(cache / "snapshots" / "b0b0b0")
    for name in (tmp_path / "loose" / "blobs").iterdir():
        shutil.copy(name, cache / "blobs")
    assert at(cache) == "9f00c1"
    assert checkpoints(str(cache)) == ("main", "refs/pr/1", "step2", "step10", "b0b0b0")
    for revision, commit in {"step2": "10aa22", "refs/pr/1": "c0ffee", "c0": "c0ffee", "b0b0b0": "b0b0b0"}.items():
        assert at(cache, revision) == commit
    assert "has no revision step20" in refusal(cache, revision="step20")


@pytest.mark.parametrize(
    ("commits", "words"), [({"step1": "aa11", "step2": "bb22"}, "several revisions"), ({}, "no rev")]
)
def test_a_cache_without_main(tmp_path: Path, commits: dict[str, str], words: str) -> None:
    cache = cache_of(tmp_path / "models--org--name", commits)
    (cache / "snapshots").mkdir(exist_ok=True)
    assert words in refusal(cache)
    shutil.rmtree(cache)
    assert at(cache_of(cache, {"step1": "aa11"})) == "aa11"


def test_links_to_nothing_are_named(tmp_path: Path) -> None:
    cache = cache_of(tmp_path / "models--org--name", {"main": "9f00c1"})
    (cache / "blobs" / "9f00c1-model.safetensors").unlink()
    assert "9f00c1/model.safetensors is a link to a file that is not there" in refusal(cache)
    assert describe(ModelSpec(source=str(cache), twin=True)).revision == "9f00c1"
    (cache / "blobs" / "9f00c1-config.json").unlink()
    assert "9f00c1/config.json is a link to a file that is not there" in refusal(cache)
    for name in ("gone", "gone.gguf"):
        (tmp_path / name).symlink_to(tmp_path / "nowhere")
        assert f"{name} is a link to {tmp_path / 'nowhere'}, which is not there" in refusal(tmp_path / name)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "tiny.gguf").symlink_to(tmp_path / "nowhere")
    assert "tiny.gguf is a link to a file that is not there" in refusal(tmp_path / "folder")


def test_consolidated_weights_beside_shards_are_left_alone(tmp_path: Path) -> None:
    folder = shard(copy(pristine(), tmp_path / "with a space"))
    shutil.copy(folder / "model-00001-of-00003.safetensors", folder / "consolidated.safetensors")
    model, plain = open_model(ModelSpec(source=str(folder))), open_model(ModelSpec(source=str(pristine())))
    assert model.layer_hash(1) == plain.layer_hash(1)
    for file in folder.glob("model*"):
        file.unlink()
    assert "only consolidated.safetensors" in refusal(folder)


def test_a_damaged_config_counts_as_a_checkpoint(tmp_path: Path) -> None:
    for step in (1, 2):
        copy(pristine(), tmp_path / f"step{step}")
    (tmp_path / "step2" / "config.json").write_text("{")
    assert checkpoints(str(tmp_path)) == ("step1", "step2")
    assert "is not valid JSON" in refusal(tmp_path, revision="step2")
    edit_config(tmp_path / "step1", architectures=None)
    assert at(tmp_path, "step1") == "step1"


def test_a_base_belongs_to_an_adapter() -> None:
    assert "so it has no base" in refusal(pristine(), base="builtin")
