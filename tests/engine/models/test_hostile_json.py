"""Models whose JSON somebody made up: each opens as it says, or is refused with one sentence."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from json_values import json_values, places
from opening_models import copy, edit_config, pristine, refusal
from transformers import CONFIG_MAPPING

from engine.errors import UserError
from engine.gate import parse
from engine.models.config import read_config
from engine.models.config_values import require_sound
from engine.models.folder import MOST_INTEGER
from engine.models.opening import describe, open_model
from engine.models.progress import trained
from engine.models.source import Source
from engine.request import ModelSpec

DEEP = b"[" * 100_000 + b"]" * 100_000
TEXTS = [
    b"",
    b"[",
    b"null",
    b"\xff\xfe",
    DEEP,
    b'{"a": ' + DEEP + b"}",
    b"[" * 65 + b"]" * 65,
    b'{"a": 1e400}',
    b'{"a": ' + b"9" * 100_000 + b"}",
    b'{"a": "\\ud800"}',
    b'{"a": 1, "a": 2}',
]
FEW = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
MANY = settings(FEW, max_examples=3000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy(pristine(), tmp_path_factory.mktemp("json") / "model")


def tried(folder: Path) -> str:
    """The sentence with which a model is refused, or empty; whatever else comes out fails the test."""
    try:
        open_model(ModelSpec(source=str(folder))).block(0)
    except UserError as error:
        return error.message
    return ""


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json"])
def test_text_that_is_no_config_and_no_index(name: str, text: bytes, folder: Path, tmp_path: Path) -> None:
    mine = copy(folder, tmp_path / "model")
    if name != "config.json":
        (mine / "model.safetensors").unlink()
    (mine / name).write_bytes(text)
    assert str(mine / name) in refusal(mine)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"])
def test_text_that_is_no_tokenizer(name: str, text: bytes, folder: Path, tmp_path: Path) -> None:
    """The weights can be analysed all the same; what happened to the tokenizer is a notice."""
    mine = copy(folder, tmp_path / "model")
    (mine / name).write_bytes(text)
    model = open_model(ModelSpec(source=str(mine)))
    assert model.block(0)
    if name == "tokenizer.json":
        assert any("token ids (a .npy file)" in notice for notice in model.info.notices)
        with pytest.raises(UserError, match=r"token ids \(a \.npy file\)"):
            model.tokenizer()


@pytest.mark.parametrize("text", [*TEXTS, b'{"global_step": 1e3}', b'{"global_step": true, "log_history": []}'])
def test_a_record_that_cannot_be_understood_says_nothing(text: bytes, tmp_path: Path) -> None:
    checkpoint = tmp_path / "model"
    checkpoint.mkdir()
    for file in (checkpoint / "trainer_state.json", tmp_path / "training.json"):
        file.write_bytes(text)
        assert trained(Source(checkpoint, None), None) == (None, None)


def test_a_record_may_hold_nan(tmp_path: Path) -> None:
    checkpoint = tmp_path / "model"
    checkpoint.mkdir()
    record = '{"global_step": 500, "log_history": [{"eval_loss": NaN, "step": 500}, {"loss": Infinity, "step": 1}]}'
    (checkpoint / "trainer_state.json").write_text(record)
    assert trained(Source(checkpoint, None), None) == (500, None)


@pytest.mark.parametrize("step", [-1, 2**70, "12x", None, [1], {}, float("nan"), float("inf"), True])
def test_a_step_is_a_number_of_steps(step: Any, tmp_path: Path) -> None:
    checkpoint = tmp_path / "model"
    checkpoint.mkdir()
    (checkpoint / "trainer_state.json").write_text(json.dumps({"global_step": step, "log_history": []}))
    assert trained(Source(checkpoint, None), None) == (None, None)
    (checkpoint / "trainer_state.json").unlink()
    record = {"checkpoints": [{"name": "model", "step": step, "held_out_loss": 2.0}]}
    (tmp_path / "training.json").write_text(json.dumps(record))
    assert trained(Source(checkpoint, None), None) == (None, None)


WRONG: dict[str, list[Any]] = {
    "architectures": ["GPT2LMHeadModel", 3, [3], {"a": 1}, [["GPT2LMHeadModel"]]],
    "quantization_config": ["gptq-4bit", 4, [1], True],
    "model_type": [3, ["gpt2"], {}, True],
    "id2label": ["x", [1], True],
    "text_config": [3, "x", []],
    "n_layer": [0, -1, True, 2.0, "3", [], {}, None, 2**31, 10**30],
    "n_head": [0, -4, True, 4.0, "4", [4.5], None],
    "n_embd": [0, -24, True, "24", 2**62, None],
    "vocab_size": [0, -1, True, 60.5, "60", 2**62, None],
    "n_positions": [0, -5, True, "32", 2**62, None],
    "layer_norm_epsilon": [-1e-5, float("nan"), float("inf"), "x", True, None],
    "initializer_range": [float("nan"), "x"],
    "num_labels": [-1, -(2**70), 100_001, 10**9],
    "activation_function": [3, None, ["gelu"]],
    "tie_word_embeddings": ["no", 3, None],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in WRONG.items() for value in values])
def test_a_value_of_the_wrong_kind_is_refused_by_the_name_of_its_field(
    key: str, value: Any, folder: Path, tmp_path: Path
) -> None:
    mine = copy(folder, tmp_path / "model")
    config = json.loads((mine / "config.json").read_text())
    (mine / "config.json").write_text(json.dumps(config | {key: value}))
    assert key in refusal(mine)


@pytest.mark.parametrize(
    ("model_type", "changes"),
    [
        ("gemma2", {"layer_types": ["full_attention"]}),
        ("gemma2", {"layer_types": ["full_attention", 3]}),
        ("gemma2", {"layer_types": "full_attention"}),
        ("gemma2", {"sliding_window": "4096"}),
        ("gemma2", {"sliding_window": [4096]}),
        ("llama", {"num_key_value_heads": -2}),
        ("llama", {"rope_parameters": "x"}),
        ("llama", {"rope_parameters": {"rope_type": 3, "rope_theta": "x"}}),
        ("llama", {"rope_parameters": {"rope_theta": float("nan"), "rope_type": "default"}}),
        ("gpt_neo", {"attention_types": [[["global"], 10**9]]}),
        ("gpt_neo", {"attention_types": "global"}),
        ("gpt_neo", {"attention_types": [3]}),
        ("llava", {"text_config": {"model_type": "llama", "num_hidden_layers": -1}}),
        ("llava", {"text_config": {"model_type": "llama", "num_hidden_layers": 10**9}}),
        ("bert", {"pruned_heads": "x", "hidden_size": "x"}),
    ],
)
def test_lists_and_parts_of_the_wrong_kind(model_type: str, changes: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type} | changes))
    message = refusal(tmp_path, twin=True)
    assert "config.json" in message


VALUES = json_values(10**9, "\ud800", "x" * 10_000)
# Names that mean something to the library, or to Python.
KEYS = st.sampled_from(
    [
        *("num_labels", "text_config", "sub_configs", "rope_scaling", "tokenizer_class", "is_encoder_decoder"),
        *("to_dict", "validate", "get_text_config", "attribute_map", "name_or_path", "__class__", "__dict__"),
    ]
)


def mutated(data: st.DataObject, content: Any) -> bytes:
    """JSON in which some values were changed, added or taken out."""
    for _ in range(data.draw(st.integers(1, 3))):
        node, key = data.draw(st.sampled_from(list(places(content)) or [(content, "a")]))
        match data.draw(st.integers(0, 3)):
            case 0:
                node.pop(key)
            case 1 if isinstance(content, dict):
                content[data.draw(KEYS)] = data.draw(VALUES)
            case _:
                node[key] = data.draw(VALUES)
        if not content:
            break
    return json.dumps(content).encode()


def anything_goes(data: st.DataObject, folder: Path, name: str, change: Callable[[bytes], Any] = json.loads) -> None:
    file = folder / name
    before = file.read_bytes()
    file.write_bytes(mutated(data, change(before)))
    try:
        message = tried(folder)
        assert message.isprintable()
        assert not message or message.endswith((".", "?"))
    finally:
        file.write_bytes(before)


MUTATED = ["config.json", "tokenizer_config.json", "tokenizer.json"]


@pytest.mark.parametrize("name", MUTATED)
@FEW
@given(data=st.data())
def test_values_of_any_kind_end_in_a_sentence_or_are_read(name: str, data: st.DataObject, folder: Path) -> None:
    anything_goes(data, folder, name)


@pytest.mark.long
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", MUTATED)
@MANY
@given(data=st.data())
def test_thousands_of_values_of_any_kind(name: str, data: st.DataObject, folder: Path) -> None:
    anything_goes(data, folder, name)


@pytest.mark.long
def test_no_config_of_the_library_itself_is_refused() -> None:
    examined = 0
    for model_type in CONFIG_MAPPING:
        try:
            text = CONFIG_MAPPING[model_type]().to_json_string(use_diff=False)
        except Exception:
            continue
        require_sound(parse(text.encode(), MOST_INTEGER), Path(model_type))
        examined += 1
    assert examined > 500


@pytest.mark.parametrize("name", ["../../tokenizer.4.0.json", "/tokenizer.4.0.json", "a/tokenizer.4.0.json", 3])
def test_a_tokenizer_in_another_folder_is_not_read(name: Any, folder: Path, tmp_path: Path) -> None:
    mine = copy(folder, tmp_path / "a" / "b" / "model")
    shutil.copy(mine / "tokenizer.json", tmp_path / "tokenizer.4.0.json")
    config = json.loads((mine / "tokenizer_config.json").read_text())
    (mine / "tokenizer_config.json").write_text(json.dumps(config | {"fast_tokenizer_files": [name]}))
    with pytest.raises(UserError, match="is no list of names of files beside it"):
        open_model(ModelSpec(source=str(mine))).tokenizer()


def test_numbers_that_tokenizers_of_the_hub_hold(folder: Path, tmp_path: Path) -> None:
    mine = copy(folder, tmp_path / "model")
    config = json.loads((mine / "tokenizer_config.json").read_text())
    (mine / "tokenizer_config.json").write_text(json.dumps(config | {"model_max_length": int(1e30)}))
    edit_config(mine, time_step_limit=[0.0, float("inf")], vision_feature_layer=-2, num_nextn_predict_layers=0)
    assert open_model(ModelSpec(source=str(mine))).tokenizer()
    (mine / "config.json").write_bytes(b"\xef\xbb\xbf" + (mine / "config.json").read_bytes())
    assert describe(ModelSpec(source=str(mine))).n_layers == 3


def test_a_config_is_bounded_in_size(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    with (tmp_path / "config.json").open("r+b") as file:
        file.truncate(20_000_000_000)
    with pytest.raises(UserError, match=r"has 20\.0 GB|has 20\.00 GB"):
        read_config(tmp_path)
    mine = copy(folder, tmp_path / "model")
    for name in ("tokenizer.json", "merges.txt", "spiece.model", "generation_config.json"):
        with (mine / name).open("ab") as file:
            file.truncate(20_000_000_000)
        assert f"{mine / name} has 20.0 GB" in refusal(mine)
        (mine / name).unlink()
