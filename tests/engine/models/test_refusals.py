"""What must not be opened: each is refused with a sentence that names the culprit and says what to do."""

import json
from pathlib import Path

import pytest
import torch
import transformers as hf
from opening_models import copy, edit_config, edit_weights, pristine, refusal, tokenizer_of

from engine.errors import UserError
from engine.models.opening import describe, open_model
from engine.request import ModelSpec


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return copy(pristine(), tmp_path / "model")


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
    (folder / "model.safetensors").unlink()
    assert "does not name the model that it was made for" in refusal(folder)


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
    assert "or open the unquantised model" in refusal(folder)


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
