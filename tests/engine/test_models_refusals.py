"""What must not be opened: each is refused with a sentence that names the culprit and says what to do."""

import json
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
import transformers as hf
from opening_models import copy, edit_config, edit_weights, pristine, shard, tokenizer_of
from safetensors.torch import load_file, save_file

from engine.errors import UserError
from engine.models.opening import describe, open_model
from engine.request import ModelSpec


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return copy(pristine(), tmp_path / "model")


def refusal(source: Path | str, *, of: str = "describe", **more: object) -> str:
    """The sentence with which opening (or what comes after it) is refused."""
    spec = ModelSpec.model_validate({"source": str(source), **more})
    act: dict[str, Callable[[], object]] = {
        "describe": lambda: describe(spec),
        "block": lambda: open_model(spec).block(1),
        "module": lambda: open_model(spec).module(),
    }
    with pytest.raises(UserError) as caught:
        act[of]()
    message = caught.value.message
    assert "Traceback" not in message
    assert "\n" not in message
    assert message.endswith((".", "?"))
    assert ". " in message, "says what to do"
    if of == "describe":
        with pytest.raises(UserError) as again:
            open_model(spec)
        assert again.value.message == message
    return message


# The folder


def test_no_such_folder_names_its_neighbours(folder: Path) -> None:
    message = refusal(folder.parent / "modle")
    assert f"no folder {folder.parent / 'modle'}" in message
    assert "Did you mean model?" in message
    assert "Check the path" in refusal("/nowhere/at/all")
    assert "No model was given" in refusal(" ")
    assert "no folder a/b/c" in refusal("a/b/c")


def test_a_file_instead_of_its_folder(folder: Path) -> None:
    assert "is a file. Give the folder that holds it" in refusal(folder / "model.safetensors")


def test_an_empty_folder(tmp_path: Path) -> None:
    assert f"{tmp_path} is empty. Choose the folder of a model" in refusal(tmp_path)


def test_a_folder_that_holds_something_else(tmp_path: Path) -> None:
    for name in ("a.py", "b.txt", "c.md", "d.md", "e.md"):
        (tmp_path / name).touch()
    message = refusal(tmp_path)
    assert "no config.json (it holds a.py, b.txt, c.md, d.md and 1 more)" in message


def test_an_adapter_is_not_a_model(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    assert "PEFT adapter" in refusal(folder)
    (folder / "config.json").unlink()
    assert "merge_and_unload()" in refusal(folder)


def test_a_revision_of_a_plain_folder(folder: Path) -> None:
    assert "has no checkpoint main. There are none to choose from: leave the revision empty." in refusal(
        folder, revision="main"
    )


# The config


@pytest.mark.parametrize("content", ["{", "[1]", "\x00\x01"])
def test_a_damaged_config(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content)
    message = refusal(folder)
    assert f"{folder / 'config.json'}" in message
    assert "Download it again" in message


def test_a_config_naming_remote_code(folder: Path) -> None:
    (folder / "modeling.py").write_text("raise SystemExit('ran')")
    edit_config(folder, auto_map={"AutoModelForCausalLM": "modeling.Model"})
    assert "names Python code to run with the model (auto_map), and Eigenscope runs no code" in refusal(folder)


def test_a_part_of_a_config_naming_remote_code(folder: Path) -> None:
    edit_config(folder, text_config={"auto_map": {"AutoConfig": "someone/else--configuration.Config"}})
    assert "auto_map" in refusal(folder)


@pytest.mark.parametrize("key", ["_attn_implementation", "attn_implementation", "experts_implementation"])
def test_a_config_naming_a_kernel_repository(folder: Path, key: str) -> None:
    edit_config(folder, **{key: "someone/kernel@main:attention"})
    message = refusal(folder)
    assert f"({key}: someone/kernel@main:attention)" in message
    assert f"Remove {key} from config.json" in message
    edit_config(folder, **{key: {"text_config": "someone/kernel"}})
    assert key in refusal(folder)


def test_an_ordinary_attention_in_the_config_is_replaced_by_the_eager_one(folder: Path) -> None:
    edit_config(folder, _attn_implementation="sdpa", dtype="float16", transformers_weights="other.safetensors")
    module = open_model(ModelSpec(source=str(folder))).module()
    assert module.config._attn_implementation == "eager"
    assert next(module.parameters()).dtype == torch.float32


def test_a_quantised_model(folder: Path) -> None:
    edit_config(folder, quantization_config={"quant_method": "gptq", "bits": 4})
    assert "quantised (gptq)" in refusal(folder)
    edit_config(folder, quantization_config={"quant_method": "some-new-method"})
    assert "Open the unquantised model" in refusal(folder)


def test_quantised_tensors_that_no_config_names(folder: Path) -> None:
    name = "transformer.h.1.mlp.c_fc.weight"
    edit_weights(folder, lambda tensors: tensors.update({name: (tensors[name] * 10).to(torch.int8)}))
    assert f"Tensor {name} is stored as I8: the weights are quantised" in refusal(folder)


def test_an_unknown_architecture(folder: Path) -> None:
    edit_config(folder, model_type="hyena_next")
    message = refusal(folder)
    assert f"architecture hyena_next, which transformers {hf.__version__} does not know. Update" in message
    edit_config(folder, model_type=None)
    assert "names no architecture" in refusal(folder)


@pytest.mark.parametrize("name", ["GPT9LMHeadModel", "pipeline", "GPT2Config", "__builtins__"])
def test_an_unknown_model_class(folder: Path, name: str) -> None:
    edit_config(folder, architectures=[name])
    assert f"model class {name}, which transformers {hf.__version__} does not have. Update" in refusal(folder)


def test_without_a_model_class_the_likeliest_head_is_taken(folder: Path) -> None:
    edit_config(folder, architectures=None)
    assert describe(ModelSpec(source=str(folder))).architecture == "GPT2LMHeadModel"


@pytest.mark.parametrize("change", [{"n_head": 5}, {"n_embd": "wide"}, {"activation_function": "gelux"}])
def test_a_config_that_makes_no_model(folder: Path, change: dict[str, object]) -> None:
    assert "config.json" in refusal(edit_config(folder, **change))


def test_code_for_generation_is_not_run(folder: Path, tmp_path: Path) -> None:
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\ngenerate = None")
    open_model(ModelSpec(source=str(folder))).module()
    assert not (tmp_path / "ran").exists()


# The weights


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


# The tokenizer


def test_a_vocabulary_larger_than_the_embedding(folder: Path) -> None:
    tokenizer = tokenizer_of(60)
    tokenizer.add_tokens([f"word{index}" for index in range(40)])
    tokenizer.save_pretrained(folder)
    message = refusal(folder)
    assert f"{len(tokenizer) - 1:,}" in message
    assert "embedding has only 60 rows" in message


def test_a_special_token_past_the_embedding_is_only_noticed(folder: Path) -> None:
    tokenizer = tokenizer_of(60)
    tokenizer.add_tokens([f"w{index}" for index in range(60 - len(tokenizer))])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.save_pretrained(folder)
    assert "no row for the special token <image>" in describe(ModelSpec(source=str(folder))).notices[0]


def test_a_much_smaller_vocabulary_is_noticed(tmp_path: Path) -> None:
    config = hf.GPT2Config(n_embd=24, n_layer=1, n_head=4, vocab_size=500, n_positions=32)
    hf.GPT2LMHeadModel(config).save_pretrained(tmp_path)
    tokenizer_of(60).save_pretrained(tmp_path)
    assert (
        "of the embedding's 500 tokens; it may be another model's"
        in describe(ModelSpec(source=str(tmp_path))).notices[0]
    )


def test_a_tokenizer_that_cannot_be_loaded_leaves_the_weights(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")
    model = open_model(ModelSpec(source=str(folder)))
    model.block(0)
    with pytest.raises(UserError, match=r"tokenizer in .* cannot be loaded"):
        model.tokenizer()


def test_a_tokenizer_that_names_code_is_not_run(folder: Path, tmp_path: Path) -> None:
    (folder / "tok.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Tok: pass")
    edit = json.loads((folder / "tokenizer_config.json").read_text())
    edit |= {"auto_map": {"AutoTokenizer": [None, "tok.Tok"]}, "tokenizer_class": "Tok"}
    (folder / "tokenizer_config.json").write_text(json.dumps(edit))
    open_model(ModelSpec(source=str(folder)))
    assert not (tmp_path / "ran").exists()


def test_the_module_is_not_tied_to_the_file(folder: Path) -> None:
    module = open_model(ModelSpec(source=str(folder))).module()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    file = folder / "model.safetensors"
    size = file.stat().st_size
    with file.open("r+b") as stream:
        stream.seek(6000)
        stream.write(bytes(size - 6000))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
