"""Sizes that a model only claims: compared with what is there before anything is built or read."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opening_models import copy, edit_config, pristine, refusal, shard

from engine.errors import UserError
from engine.models import checkpoint, header
from engine.models.building import MOST_MODULES, at_most
from engine.models.checkpoint import INDEX, read_header, read_headers
from engine.models.opening import describe
from engine.request import ModelSpec

A_TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return copy(pristine(), tmp_path / "model")


def write(file: Path, content: Any, data: int = 8) -> Path:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text)
    with file.open("ab") as stream:
        stream.truncate(8 + len(text) + data)
    return file


def seconds(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


# Headers

DAMAGED = {
    "one offset": A_TENSOR | {"data_offsets": [8]},
    "three offsets": A_TENSOR | {"data_offsets": [0, 4, 8]},
    "no offsets": {"dtype": "F32", "shape": [2]},
    "offsets that are no list": A_TENSOR | {"data_offsets": 8},
    "offsets of another kind": A_TENSOR | {"data_offsets": [0, "8"]},
    "offsets that are no whole numbers": A_TENSOR | {"data_offsets": [0, 8.0]},
    "offsets that are true": A_TENSOR | {"data_offsets": [False, 8]},
    "negative offsets": A_TENSOR | {"data_offsets": [-8, 0]},
    "offsets the wrong way round": A_TENSOR | {"data_offsets": [8, 0]},
    "huge offsets": A_TENSOR | {"data_offsets": [0, 2**63]},
    "offsets that no array can hold": A_TENSOR | {"data_offsets": [0, 10**30]},
    "a gap before it": A_TENSOR | {"data_offsets": [4, 12]},
    "a negative shape": A_TENSOR | {"shape": [-2]},
    "two negative shapes": A_TENSOR | {"shape": [-2, -1]},
    "a shape of another kind": A_TENSOR | {"shape": ["2"]},
    "a shape that is a number": A_TENSOR | {"shape": 2},
    "a shape that takes more bytes": A_TENSOR | {"shape": [3]},
    "a huge shape": A_TENSOR | {"shape": [2**40, 2**40]},
    "a shape of many axes": A_TENSOR | {"shape": [1] * 1000 + [2]},
    "a dtype of another kind": A_TENSOR | {"dtype": 32},
    "a dtype of another width": A_TENSOR | {"dtype": "F16"},
    "more than there is": A_TENSOR | {"more": 1},
    "nothing": {},
    "a list": [],
    "a text": "x",
    "a number": 10**30,
    "half of a surrogate pair": A_TENSOR | {"dtype": "\ud800"},
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_header_that_cannot_be_true(case: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has a damaged header") as caught:
        read_header(write(tmp_path / "model.safetensors", {"a": DAMAGED[case]}))
    assert str(tmp_path / "model.safetensors") in caught.value.message
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 700


def test_tensors_that_overlap(tmp_path: Path) -> None:
    file = write(tmp_path / "model.safetensors", {"a": A_TENSOR, "b": A_TENSOR})
    with pytest.raises(UserError, match="tensor b does not begin where the one before it ends"):
        read_header(file)
    parts = {
        "a": A_TENSOR,
        "empty": A_TENSOR | {"shape": [0], "data_offsets": [8, 8]},
        "__metadata__": {"format": "pt"},
    }
    assert set(read_header(write(file, parts))) == {"a", "empty"}


@pytest.mark.parametrize(
    "text",
    [
        b"null",
        b"[]",
        b"[" * 100_000,
        b'{"a": ' * 70 + b"1" + b"}" * 70,
        b'{"a": 1, "a": 1}',
        b"\xff",
        b'{"\\ud800": {}}',
    ],
)
def test_a_header_that_is_no_header(text: bytes, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has a damaged header"):
        read_header(write(tmp_path / "model.safetensors", text))


@pytest.mark.parametrize("length", [0, 1, 99_999_999, 100_000_001, 20_000_000_000, 2**63, 2**64 - 1])
def test_the_length_of_a_header_is_compared_with_the_file(length: int, tmp_path: Path) -> None:
    """The file is sparse: it has 20 GB and takes none."""
    file = tmp_path / "model.safetensors"
    for size in (8, 30, 20_000_000_008):
        with file.open("wb") as stream:
            stream.write(length.to_bytes(8, "little"))
            stream.truncate(size)
        before = psutil.Process().memory_info().rss
        with pytest.raises(UserError, match="Download it again"):
            read_header(file)
        assert psutil.Process().memory_info().rss - before < 500_000_000


def test_a_large_header_is_compared_with_the_memory_that_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "model.safetensors", b'{"__metadata__": {"a": "' + b" " * 2_000_000 + b'"}}', 0)
    assert read_header(file) == {}
    free = psutil.virtual_memory()._replace(available=30_000_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    with pytest.raises(UserError, match=r"The header of .* needs 40\.0 MB and this machine has 30\.0 MB free"):
        read_header(file)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_mutated_header_is_read_or_refused(data: st.DataObject, tmp_path: Path) -> None:
    """Whatever bytes a header has, and whatever follows it."""
    sound = (pristine() / "model.safetensors").read_bytes()
    text = bytearray(sound[: 8 + int.from_bytes(sound[:8], "little")])
    for _ in range(data.draw(st.integers(1, 4))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    file = tmp_path / "model.safetensors"
    file.write_bytes(bytes(text) + sound[len(text) :])
    try:
        names = read_header(file)
    except UserError as error:
        message = error.message
    else:
        message = f"{file}." if names else ""
    assert str(file) in message
    assert message.isprintable()


@pytest.mark.parametrize(
    "name", ["../a.safetensors", "/a.safetensors", "..", "", "a/b.safetensors", "a\\b", "C:a", "a\0b", "x" * 5000]
)
def test_an_index_whose_shards_lie_elsewhere(name: str, folder: Path) -> None:
    shard(folder)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    message = refusal(folder)
    assert str(folder) in message
    assert len(message) < 1300


@pytest.mark.parametrize("entry", [3, None, ["a"], {"a": 1}, True])
def test_an_index_whose_shards_have_no_names(entry: Any, folder: Path) -> None:
    shard(folder)
    for weight_map in ({"a": entry}, entry):
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
        with pytest.raises(UserError, match="weight_map"):
            read_headers(folder)


def test_more_tensors_and_shards_than_any_model_has(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header, "MOST_TENSORS", 100)
    monkeypatch.setattr(checkpoint, "MOST_TENSORS", 100)
    monkeypatch.setattr(checkpoint, "MOST_SHARDS", 20)
    many = {f"a{index}": A_TENSOR | {"shape": [0], "data_offsets": [0, 0]} for index in range(101)}
    with pytest.raises(UserError, match="names 101 tensors, and no model has more than 100"):
        read_header(write(folder / "model.safetensors", many, 0))
    half = dict(list(many.items())[:51])
    (folder / "model.safetensors").unlink()
    write(folder / "0.safetensors", half, 0)
    write(folder / "1.safetensors", {f"b{index}": half["a0"] for index in range(51)}, 0)
    for weight_map, words in (
        (dict.fromkeys(many, "0.safetensors"), "101 tensors"),
        ({f"a{index}": f"{index}.safetensors" for index in range(21)}, "21 shards"),
        ({"a0": "0.safetensors", "b0": "1.safetensors"}, "102 tensors"),
    ):
        (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))
        assert words in refusal(folder)


# Configs

CLAIMS: list[tuple[str, dict[str, Any]]] = [
    *(("n_layer", {"n_layer": count}) for count in (10**4, 10**6, 10**9, 10**15)),
    *(("num_labels", {"num_labels": count}) for count in (10**6, 10**8, 10**15)),
    *(("vocab_size", {"vocab_size": count}) for count in (10**10, 2**62)),
    *(("n_embd", {"n_embd": count}) for count in (10**10, 2**62)),
    ("num_hidden_layers", {"model_type": "llama", "num_hidden_layers": 10**9}),
    ("num_hidden_layers", {"model_type": "albert", "num_hidden_layers": 10**9}),
    ("encoder_layers", {"model_type": "bart", "encoder_layers": 10**5}),
    ("num_layers", {"model_type": "t5", "num_layers": 10**5}),
    ("num_hidden_layers", {"model_type": "llava", "text_config": {"model_type": "llama", "num_hidden_layers": 10**7}}),
    ("attention_types", {"model_type": "gpt_neo", "attention_types": [[["global", "local"], 10**8]]}),
    ("attention_types", {"model_type": "gpt_neo", "attention_types": [[["global"], 600]] * 3, "num_layers": 1800}),
    ("depths", {"model_type": "swin", "depths": [2, 10**7]}),
]


@pytest.mark.parametrize("twin", [False, True])
@pytest.mark.parametrize(("field", "changes"), CLAIMS)
def test_what_would_take_minutes_to_build_is_refused_by_its_name(
    field: str, changes: dict[str, Any], twin: bool, folder: Path
) -> None:
    edit_config(folder, architectures=None, **changes)
    message = ""

    def attempt() -> None:
        nonlocal message
        with pytest.raises(UserError) as caught:
            describe(ModelSpec(source=str(folder), twin=twin))
        message = caught.value.message

    assert seconds(attempt) < 5
    assert field in message
    assert str(folder / "config.json") in message


def test_no_more_layers_than_tensors(folder: Path) -> None:
    assert "n_layer in " in refusal(edit_config(folder, n_layer=500))
    assert f"the checkpoint holds only {len(read_headers(folder))} tensors" in refusal(folder)
    assert "Tensors transformer.h.3.attn" in refusal(edit_config(folder, n_layer=5))


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "mixtral", "num_hidden_layers": 900, "num_local_experts": 4},
        {
            "model_type": "switch_transformers",
            "num_layers": 500,
            "num_experts": 100_000,
            "num_sparse_encoder_layers": 500,
        },
        {"model_type": "resnet", "depths": [900, 3, 3, 3]},
    ],
)
def test_whatever_field_asks_for_it_no_more_is_built_than_the_checkpoint_can_fill(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(changes))
    write(tmp_path / "model.safetensors", {"a": A_TENSOR})
    assert "config.json" in refusal(tmp_path)


def test_building_stops_at_the_limit_in_its_own_thread_only() -> None:
    from torch import nn

    with at_most(3):
        assert len(nn.Sequential(nn.Identity(), nn.Identity(), nn.Identity())) == 3
        with pytest.raises(UserError, match="more than 3 parts"):
            nn.Sequential(nn.Identity())
    assert len(nn.Sequential(*(nn.Identity() for _ in range(10)))) == 10
    assert MOST_MODULES > 16 * 126  # the deepest model there is has 126 layers
