"""GGUF files: what is written in one is what is opened, and a damaged one is refused in a sentence."""

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers as hf
from gguf import GGMLQuantizationType as Kind
from numpy.typing import NDArray
from opening_models import refusal

from engine.models import gguf_file
from engine.models.opening import describe, open_model
from engine.models.source import checkpoints
from engine.request import ModelSpec

Array = NDArray[Any]
Written = Callable[[str, Array], Array]
SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 60,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
TIED = {"tie_word_embeddings": True}


def as_is(name: str, tensor: Array) -> Array:
    return tensor


def heads_of(name: str) -> int | None:
    return {"q_proj": 4, "k_proj": 2}.get(name.split(".")[-2])


def interleaved(name: str, tensor: Array) -> Array:
    """Queries and keys of a llama with their rows as llama.cpp rotates them."""
    if (heads := heads_of(name)) is None:
        return tensor
    return tensor.reshape(heads, 2, -1, tensor.shape[1]).swapaxes(1, 2).reshape(tensor.shape)


def separated(name: str, tensor: Array) -> Array:
    if (heads := heads_of(name)) is None:
        return tensor
    return tensor.reshape(heads, -1, 2, tensor.shape[1]).swapaxes(1, 2).reshape(tensor.shape)


def transposed(name: str, tensor: Array) -> Array:
    """GPT-2's matrices as other models have theirs."""
    return tensor.T if ".h." in name and tensor.ndim == 2 else tensor


def plus_one(name: str, tensor: Array) -> Array:
    """Gemma's norms with the one that the model adds."""
    return tensor + np.float32(1) if name.endswith("norm.weight") else tensor


def minus_one(name: str, tensor: Array) -> Array:
    return tensor - np.float32(1) if name.endswith("norm.weight") else tensor


FAMILIES: dict[str, tuple[Any, Written, Written]] = {
    "llama": (hf.LlamaConfig(**SIZES, **TIED), interleaved, separated),
    "qwen2": (hf.Qwen2Config(**SIZES, tie_word_embeddings=False), as_is, as_is),
    "qwen3": (hf.Qwen3Config(**SIZES, head_dim=16, **TIED), as_is, as_is),
    "gpt2": (hf.GPT2Config(n_embd=64, n_layer=2, n_head=4, n_positions=64, vocab_size=60), transposed, transposed),
    "gemma2": (hf.Gemma2Config(**SIZES, head_dim=16, **TIED), plus_one, minus_one),
    "starcoder2": (hf.Starcoder2Config(**SIZES, **TIED), as_is, as_is),
}


def write(
    file: Path, family: str = "llama", kind: Kind = Kind.F32, more: Callable[[gguf.GGUFWriter], Any] = lambda _: None
) -> dict[str, torch.Tensor]:
    """Write a random model as llama.cpp's converter does, and return its tensors, as `kind` rounds them, by name."""
    config, there, back = FAMILIES[family]
    torch.manual_seed(0)
    model = hf.AutoModelForCausalLM.from_config(config)
    writer = gguf.GGUFWriter(file, family)
    writer.add_context_length(64)
    writer.add_embedding_length(64)
    writer.add_block_count(2)
    writer.add_feed_forward_length(256 if family == "gpt2" else 96)
    writer.add_head_count(4)
    writer.add_head_count_kv(4 if family == "gpt2" else 2)
    writer.add_vocab_size(60)
    writer.add_layer_norm_eps(1e-5)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(5000.0)
    writer.add_rope_dimension_count(16)
    writer.add_key_length(16)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["<|endoftext|>", *map(chr, range(33, 91)), "!!"])
    writer.add_token_types([3] + [1] * 59)
    writer.add_token_merges(["! !"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    names = gguf.get_tensor_name_map(next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == family), 2)
    rounded = {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        stem, _, suffix = name.rpartition(".")
        values = np.ascontiguousarray(there(name, tensor.numpy()))
        into = kind if values.ndim == 2 else Kind.F32
        blocks = gguf.quantize(values, into)
        writer.add_tensor(f"{names.get_name(stem)}.{suffix}", blocks, raw_dtype=into)
        rounded[name] = torch.from_numpy(back(name, gguf.dequantize(blocks, into).reshape(values.shape)).copy())
    more(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return rounded


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_written_is_what_is_opened(family: str, tmp_path: Path) -> None:
    file = tmp_path / "tiny model.gguf"
    written = write(file, family)
    model = open_model(ModelSpec(source=str(file)))
    assert (model.info.family, model.info.n_layers, model.info.storage_dtype) == (family, 2, "float32")
    assert model._names == written.keys()
    for name, tensor in written.items():
        assert torch.equal(model.tensor(name), tensor), name
    state = model.module().state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in written.items())
    assert model.block(1).heads.w_q.shape[0] == 4


@pytest.mark.parametrize("kind", [Kind.Q4_1, Kind.Q8_0, Kind.F16, Kind.BF16])
def test_blocks_are_dequantised_and_their_rounding_is_said(kind: Kind, tmp_path: Path) -> None:
    file = tmp_path / "tiny.gguf"
    written = write(file, kind=kind)
    model = open_model(ModelSpec(source=str(file)))
    assert all(torch.equal(model.tensor(name), tensor) for name, tensor in written.items())
    assert model.info.storage_dtype == {"F16": "float16", "BF16": "bfloat16"}.get(kind.name, kind.name)
    said = [notice for notice in model.info.notices if "dequantised" in notice]
    assert len(said) == kind.name.startswith("Q")
    assert all(f"{kind.name} (" in notice and "float32 (" in notice for notice in said)


def test_the_library_s_own_reader_makes_the_same_model(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    write(tmp_path / "tiny.gguf", kind=Kind.Q4_0)
    theirs = hf.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="tiny.gguf", dtype=torch.float32)
    ours = open_model(ModelSpec(source=str(tmp_path))).module().state_dict()
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.state_dict().items())


def test_its_config_its_tokenizer_its_twin_and_its_stamp(tmp_path: Path) -> None:
    file = tmp_path / "tiny.gguf"
    write(file)
    model = open_model(ModelSpec(source=str(file)))
    config = model.config
    assert (config.rms_norm_eps, config.rope_parameters["rope_theta"]) == (pytest.approx(1e-6), 5000.0)
    assert (config.num_key_value_heads, config.vocab_size) == (2, 60)
    tokenizer = model.tokenizer()
    assert tokenizer.decode(tokenizer("ABC").input_ids) == "ABC"
    assert tokenizer.eos_token == "<|endoftext|>"
    twin = open_model(ModelSpec(source=str(file), twin=True))
    assert twin.block(0).heads.w_q.shape == model.block(0).heads.w_q.shape
    before, identity = model.stamp(), model.info.identity
    with file.open("r+b") as stream:
        stream.seek(-100, os.SEEK_END)
        stream.write(b"changed!")
    assert model.stamp() != before
    write(file, kind=Kind.Q8_0)
    assert describe(ModelSpec(source=str(file))).identity != identity


def test_of_several_files_one_is_named(tmp_path: Path) -> None:
    for name in ("tiny-Q4_0.gguf", "tiny-Q8_0.gguf", "mmproj-tiny.gguf"):
        write(tmp_path / name)
    assert checkpoints(str(tmp_path)) == ("tiny-Q4_0.gguf", "tiny-Q8_0.gguf")
    assert "holds several models: tiny-Q4_0.gguf, tiny-Q8_0.gguf." in refusal(tmp_path)
    assert describe(ModelSpec(source=str(tmp_path), revision="tiny-Q8_0.gguf")).revision == "tiny-Q8_0.gguf"
    (tmp_path / "tiny-Q4_0.gguf").unlink()
    assert describe(ModelSpec(source=str(tmp_path))).revision == "tiny-Q8_0.gguf"


def test_scaled_rotary_positions_are_said(tmp_path: Path) -> None:
    file = tmp_path / "tiny.gguf"
    write(file, more=lambda writer: writer.add_tensor("rope_freqs.weight", np.ones(8, np.float32)))
    assert any("scales its rotary positions" in notice for notice in describe(ModelSpec(source=str(file))).notices)


def header(*, tensors: int = 1, values: int = 1, rest: bytes = b"", magic: bytes = b"GGUF", version: int = 3) -> bytes:
    return magic + struct.pack("<IQQ", version, tensors, values) + rest


def string(text: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text


HUGE = 2**62
DAMAGED = {
    "empty": b"",
    "short": b"GGUF\x03",
    "pickle": b"PK\x03\x04" + bytes(60),
    "big-endian": struct.pack(">4sIQQ", b"GGUF", 3, 1, 1),
    "no tensors": header(tensors=0, values=0),
    "too many values": header(values=HUGE),
    "too many tensors": header(tensors=HUGE, values=0),
    "long name": header(rest=string(b"general.architecture", HUGE)),
    "long array": header(rest=string(b"a") + struct.pack("<IIQ", 9, 0, HUGE)),
    "many strings": header(rest=string(b"a") + struct.pack("<IIQ", 9, 8, HUGE) + bytes(4096)),
    "array of arrays": header(rest=string(b"a") + struct.pack("<IIQ", 9, 9, 1)),
    "unknown value": header(rest=string(b"a") + struct.pack("<I", 77)),
    "not text": header(rest=string(b"a") + struct.pack("<I", 8) + string(b"\xff\xfe")),
    "unknown type": header(values=0, rest=string(b"x") + struct.pack("<IQIQ", 1, 32, 999, 0)),
    "many dimensions": header(values=0, rest=string(b"x") + struct.pack("<I", 2**31)),
    "huge tensor": header(values=0, rest=string(b"x") + struct.pack("<IQQIQ", 2, HUGE, 32, 0, 0)),
    "odd blocks": header(values=0, rest=string(b"x") + struct.pack("<IQIQ", 1, 33, 2, 0)),
    "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 1\n",
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_refused_at_once(case: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.gguf"
    file.write_bytes(DAMAGED[case])
    assert str(file) in refusal(file)


def test_a_file_cut_short_and_an_architecture_without_a_reader(tmp_path: Path) -> None:
    file = tmp_path / "tiny.gguf"
    write(file)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) * 2 // 3])
    assert "is truncated: it holds" in refusal(file)
    file.write_bytes(whole.replace(b"llama", b"lamma"))
    assert "of the architecture lamma: GGUF model with architecture lamma is not supported yet" in refusal(file)
    file.write_bytes(whole.replace(b"blk.1.attn_q.weight", b"blk.1.attn_z.weight"))
    message = refusal(file)
    assert "model.layers.1.self_attn.q_proj.weight is missing" in message
    file.write_bytes(whole.replace(b"llama.embedding_length", b"llama.embedding_strength"[:22]))
    assert "do not belong together" in refusal(file)


def test_a_tensor_of_another_name_is_not_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "tiny.gguf"
    write(file, more=lambda writer: writer.add_tensor("blk.0.attn_sinks.weight", np.ones(4, np.float32)))
    assert "blk.0.attn_sinks.weight is in the checkpoint but not in LlamaForCausalLM" in refusal(file)


def test_parts_of_a_split_file_and_a_fifo(tmp_path: Path) -> None:
    part = tmp_path / "tiny-00001-of-00003.gguf"
    write(part, more=lambda writer: writer.add_uint16("split.count", 3))
    assert "one part of a model in several files" in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe.gguf")
    assert "a pipe, a socket or a device" in refusal(tmp_path / "pipe.gguf")


def test_without_the_package_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "tiny.gguf")
    monkeypatch.setattr(gguf_file, "is_gguf_available", lambda: False)
    assert "the package gguf that reads them is not installed" in refusal(tmp_path)
