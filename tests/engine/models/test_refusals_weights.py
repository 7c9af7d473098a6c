"""Weights that must not be opened: each is refused with a sentence that names the culprit and says what to do."""

import json
from pathlib import Path

import psutil
import pytest
import torch
import transformers as hf
from opening_models import copy, edit_config, edit_weights, pristine, refusal, shard
from safetensors.torch import load_file, save_file

from engine.errors import UserError
from engine.models.opening import open_model
from engine.request import ModelSpec


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return copy(pristine(), tmp_path / "model")


def test_only_pickled_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    message = refusal(folder)
    assert "pickled weights (pytorch_model.bin), which can run code" in message
    assert "save_pretrained(NEW_FOLDER)" in message


def test_no_weights_at_all(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "holds no weights: model.safetensors or model.safetensors.index.json is needed" in refusal(folder)
    (folder / "model-q4.gguf").touch()
    assert "holds only model-q4.gguf" in refusal(folder)


def test_a_config_alone_is_enough_for_a_twin(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    model = open_model(ModelSpec(source=str(folder), twin=True))
    assert model.info.label == "model (random twin)"
    assert model.block(2).heads.w_q.shape == (4, 6, 24)


def test_lfs_pointers(folder: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    (folder / "model.safetensors").write_text(pointer)
    message = refusal(folder)
    assert f"{folder / 'model.safetensors'} is a Git LFS pointer" in message
    assert "git lfs pull" in message
    (folder / "config.json").write_text(pointer)
    assert f"{folder / 'config.json'} is a Git LFS pointer" in refusal(folder)


@pytest.mark.parametrize(
    ("keep", "words"),
    [(0, "is empty"), (5, "ends inside its header"), (200, "ends inside its header"), (-1, "is truncated: it holds")],
)
def test_truncated_weights(folder: Path, keep: int, words: str) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    message = refusal(folder)
    assert f"{file} {words}" in message
    assert "Download it again" in message


def test_weights_that_are_something_else(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(b"<!DOCTYPE html><html>404</html>" * 10)
    assert "does not begin with a safetensors header" in refusal(folder)
    header = b"[1, 2, 3]"
    file.write_bytes(len(header).to_bytes(8, "little") + header)
    assert "damaged header" in refusal(folder)
    file.write_bytes(copy(pristine(), folder / "again").joinpath("model.safetensors").read_bytes() + b"more")
    assert "longer than its header says" in refusal(folder)


def test_missing_shards_are_named(folder: Path) -> None:
    shard(folder)
    (folder / "model-00002-of-00003.safetensors").unlink()
    message = refusal(folder)
    assert "Of 3 shards" in message
    assert f"shard model-00002-of-00003.safetensors is missing from {folder}: the download is incomplete" in message


def test_a_shard_that_is_truncated(folder: Path) -> None:
    file = shard(folder) / "model-00003-of-00003.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    assert f"{file} is truncated" in refusal(folder)


def test_an_index_of_other_shards(folder: Path) -> None:
    index = shard(folder) / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["transformer.h.7.ln_1.weight"] = "model-00001-of-00003.safetensors"
    index.write_text(json.dumps(content))
    assert "tensor transformer.h.7.ln_1.weight is not in the shard that it names" in refusal(folder)
    index.write_text('{"weight_map": {"transformer.wte.weight": "../../secret.safetensors"}}')
    assert "shard ../../secret.safetensors" in refusal(folder)
    index.write_text("{}")
    assert "no weight_map" in refusal(folder)


def test_a_missing_tensor_is_not_made_up(folder: Path) -> None:
    edit_weights(folder, lambda tensors: tensors.pop("transformer.h.1.attn.c_attn.weight"))
    message = refusal(folder)
    assert "Tensor transformer.h.1.attn.c_attn.weight is missing from the checkpoint" in message
    edit_weights(folder, lambda tensors: [tensors.pop(name) for name in list(tensors) if ".h.2." in name])
    assert "transformer.h.1.attn.c_attn.weight, transformer.h.2.attn.c_attn" in refusal(folder)
    assert "and 10 more are missing" in refusal(folder)


def test_a_file_without_tensors(folder: Path) -> None:
    edit_weights(folder, lambda tensors: tensors.clear())
    assert "and 38 more are missing" in refusal(folder)


def test_an_extra_tensor(folder: Path) -> None:
    edit_weights(folder, lambda tensors: tensors.update({"transformer.h.0.attn.gate.weight": torch.ones(3)}))
    message = refusal(folder)
    assert "Tensor transformer.h.0.attn.gate.weight is in the checkpoint but not in GPT2LMHeadModel" in message


def test_more_layers_stored_than_configured(folder: Path) -> None:
    edit_config(folder, n_layer=2)
    assert "Tensors transformer.h.2.attn.c_attn.weight, " in refusal(folder)


def test_a_tensor_of_another_shape(folder: Path) -> None:
    edit_weights(folder, lambda tensors: tensors.update({"transformer.wpe.weight": torch.ones(16, 24)}))
    assert "Tensor transformer.wpe.weight has shape (16, 24) in model.safetensors" in refusal(folder)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_values_that_are_not_finite_are_refused_when_read(folder: Path, value: float, dtype: torch.dtype) -> None:
    name = "transformer.h.1.attn.c_proj.weight"

    def damage(tensors: dict[str, torch.Tensor]) -> None:
        tensors[name] = tensors[name].to(dtype)
        tensors[name][7, 5] = value

    edit_weights(folder, damage)
    message = refusal(folder, of="block")
    assert f"Tensor {name} in {folder / 'model.safetensors'} holds values that are not finite" in message
    open_model(ModelSpec(source=str(folder))).block(0)
    assert name in refusal(folder, of="module")


def test_a_dtype_that_overflows(folder: Path) -> None:
    edit_weights(folder, lambda tensors: tensors["transformer.h.0.mlp.c_fc.weight"].fill_(1e6))
    assert "transformer.h.0.mlp.c_fc.weight holds values that are not finite in float16" in refusal(
        folder, of="module", dtype="float16"
    )
    assert open_model(ModelSpec(source=str(folder), dtype="bfloat16")).module().dtype == torch.bfloat16


def test_a_file_that_changes_while_it_is_open(folder: Path) -> None:
    model = open_model(ModelSpec(source=str(folder)))
    file = folder / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
    file.write_bytes(file.read_bytes()[:-50_000])
    with pytest.raises(UserError, match=r"damaged or changed while it was open"):
        model.block(0)
    save_file({name: tensor.double() for name, tensor in tensors.items()}, file)
    with pytest.raises(UserError, match="changed while it was open"):
        model.block(0)
    file.unlink()
    with pytest.raises(UserError, match=r"model.safetensors cannot be read \(No such file"):
        model.block(0)


def test_a_library_that_changes_weights_is_noticed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = hf.GPT2LMHeadModel.from_pretrained

    def meddling(*args: object, **kwargs: object) -> object:
        model, report = load(*args, **kwargs)
        with torch.no_grad():
            model.transformer.wte.weight[0, 0] += 1
        return model, report

    monkeypatch.setattr(hf.GPT2LMHeadModel, "from_pretrained", meddling)
    assert "the library changed it on loading" in refusal(folder, of="module")


def test_a_model_larger_than_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = psutil.virtual_memory()._replace(available=40_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    message = refusal(folder, of="module")
    assert "model needs 0.1 MB and this machine has 0.0 MB free" in message
    assert "choose bfloat16 or a smaller model" in refusal(folder, of="module", twin=True)
    assert open_model(ModelSpec(source=str(folder))).block(0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there() -> None:
    with pytest.raises(UserError, match="no usable CUDA GPU"):
        open_model(ModelSpec(source=str(pristine())), device="cuda")
