"""Quantised checkpoints: each format is packed here as its makers pack it, and opened as what was packed."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from numpy.typing import NDArray
from opening_models import copy, edit_config, refusal
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.models.opening import describe, open_model
from engine.request import ModelSpec

Array = NDArray[Any]
Packed = tuple[dict[str, Any], Tensor]
"""Tensors by what follows the module's name, and the weight that they stand for."""
GROUP = 32


@cache
def plain() -> Path:
    folder = Path(mkdtemp(prefix="eigenscope-"))
    torch.manual_seed(0)
    config = hf.LlamaConfig(
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=60,
    )
    hf.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def into_words(values: Array, bits: int, axis: int) -> Tensor:
    """Integers in 32-bit ones, the first in the lowest bits, along an axis."""
    moved = np.moveaxis(values.astype(np.uint32), axis, -1)
    per = 32 // bits
    parts = moved.reshape(*moved.shape[:-1], -1, per) << (np.arange(per, dtype=np.uint32) * bits)
    return torch.from_numpy(np.moveaxis(parts.sum(-1, dtype=np.uint32).view(np.int32), -1, axis).copy())


def integers(weight: Array, bits: int) -> tuple[Array, Array, Array]:
    """Unsigned integers, and a scale and a zero for each group of inputs of each output."""
    groups = weight.reshape(len(weight), -1, GROUP)
    low, high = groups.min(-1), groups.max(-1)
    scale = ((high - low) / (2**bits - 1)).astype(np.float16)
    zero = np.clip(np.round(-low / scale), 1, 2**bits - 1).astype(np.int64)
    q = np.clip(np.round(groups / scale[..., None]) + zero[..., None], 0, 2**bits - 1).astype(np.int64)
    return q, scale, zero


def stands_for(q: Array, scale: Array, zero: Array) -> Tensor:
    values = (q - zero[..., None]) * scale.astype(np.float32)[..., None]
    return torch.from_numpy(values.reshape(len(q), -1).astype(np.float32))


def gptq(weight: Array, bits: int = 4, first: int = 1, sorted_by: Array | None = None) -> Packed:
    q, scale, zero = integers(weight, bits)
    by_input, of = q.reshape(len(q), -1), np.arange(weight.shape[1]) // GROUP
    meant = stands_for(q, scale, zero)
    if sorted_by is not None:  # inputs in the order of their activations
        by_input, of, meant = by_input[:, sorted_by], of[sorted_by], meant[:, sorted_by.copy()]
    return {
        "qweight": into_words(by_input.T, bits, 0),
        "qzeros": into_words(zero.T - first, bits, 1),
        "scales": torch.from_numpy(scale.T.copy()),
        "g_idx": torch.from_numpy(of.astype(np.int32)),
    }, meant


def awq(weight: Array) -> Packed:
    q, scale, zero = integers(weight, 4)
    order = [0, 2, 4, 6, 1, 3, 5, 7]

    def words(values: Array) -> Tensor:
        return into_words(values.reshape(len(values), -1, 8)[..., order].reshape(values.shape), 4, 1)

    return {
        "qweight": words(q.reshape(len(q), -1).T),
        "qzeros": words(zero.T),
        "scales": torch.from_numpy(scale.T.copy()),
    }, stands_for(q, scale, zero)


def words_of(weight: Array, bits: int, symmetric: bool) -> Packed:
    """compressed-tensors, pack-quantized."""
    q, scale, zero = integers(weight, bits)
    middle = 2 ** (bits - 1)
    if symmetric:
        zero = np.full_like(zero, middle)
    parts: dict[str, Any] = {
        "weight_packed": into_words(q.reshape(len(q), -1), bits, 1),
        "weight_scale": torch.from_numpy(scale.copy()),
        "weight_shape": torch.tensor(weight.shape),
    }
    return parts | ({} if symmetric else {"weight_zero_point": into_words(zero, bits, 0)}), stands_for(q, scale, zero)


def blocks_of_fp8(weight: Array, name: str = "weight_scale_inv", block: tuple[int, int] = (40, 32)) -> Packed:
    """fp8 in blocks, the last of which may be smaller."""
    grid = [-(-size // width) for size, width in zip(weight.shape, block, strict=True)]
    scale = torch.rand(grid, generator=torch.Generator().manual_seed(0)) * 1e-3 + 1e-4
    each = scale.repeat_interleave(block[0], 0).repeat_interleave(block[1], 1)[: weight.shape[0], : weight.shape[1]]
    q = (torch.from_numpy(weight) / each).to(torch.float8_e4m3fn)
    return {"weight": q, name: scale, "input_scale": torch.ones(1)}, q.float() * each


def rows_of(weight: Array, dtype: torch.dtype, largest: float, name: str, divided: float = 1.0) -> Packed:
    tensor = torch.from_numpy(weight)
    scale = tensor.abs().amax(1, keepdim=True) / largest
    q = (tensor / scale).round().to(dtype) if dtype == torch.int8 else (tensor / scale).to(dtype)
    stored = scale.flatten() * divided if name == "SCB" else scale
    return {"weight": q, name: stored}, q.float() * scale


def codes(weight: Array, nested: bool) -> Packed:
    """bitsandbytes, NF4: the first of two codes in the upper half of a byte."""
    table = torch.linspace(-1, 1, 16) ** 3
    flat = torch.from_numpy(weight).reshape(-1, 64)
    absmax = flat.abs().amax(1)
    state: dict[str, Any] = {"quant_type": "nf4", "blocksize": 64, "dtype": "float32", "shape": list(weight.shape)}
    extra: dict[str, Any] = {"weight.absmax": absmax}
    if nested:
        again = torch.linspace(-1, 1, 256)
        offset, outer = float(absmax.mean()), (absmax - absmax.mean()).reshape(-1, 16).abs().amax(1)
        coded = ((absmax - offset) / outer.repeat_interleave(16))[:, None].sub(again).abs().argmin(1)
        state |= {"nested_blocksize": 16, "nested_dtype": "float32", "nested_offset": offset}
        absmax = again[coded] * outer.repeat_interleave(16) + offset
        extra = {
            "weight.absmax": coded.to(torch.uint8),
            "weight.nested_absmax": outer,
            "weight.nested_quant_map": again,
        }
    q = (flat / absmax[:, None])[..., None].sub(table).abs().argmin(-1)
    halves = q.flatten().reshape(-1, 2)
    return extra | {
        "weight": (halves[:, :1] * 16 + halves[:, 1:]).to(torch.uint8),
        "weight.quant_map": table,
        "weight.quant_state.bitsandbytes__nf4": torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8),
    }, (table[q] * absmax[:, None]).reshape(weight.shape)


GROUPS = {"config_groups": {"group_0": {"weights": {"num_bits": 4}}}}
CT = {"quant_method": "compressed-tensors", "format": "pack-quantized", **GROUPS}
PERMUTED = np.random.default_rng(0).permutation
FORMATS: dict[str, tuple[dict[str, Any], Callable[[Array], Packed], str]] = {
    "gptq": ({"quant_method": "gptq", "bits": 4, "group_size": GROUP}, gptq, "INT4"),
    "gptq v2": (
        {"quant_method": "gptq", "bits": 8, "group_size": GROUP, "checkpoint_format": "gptq_v2"},
        lambda weight: gptq(weight, 8, 0),
        "INT8",
    ),
    "gptq by activation": (
        {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": True},
        lambda weight: gptq(weight, sorted_by=PERMUTED(weight.shape[1])),
        "INT4",
    ),
    "awq": ({"quant_method": "awq", "bits": 4, "group_size": GROUP, "version": "gemm"}, awq, "INT4"),
    "packed": (CT, lambda weight: words_of(weight, 4, True), "INT4"),
    "packed, with zeros": (CT, lambda weight: words_of(weight, 4, False), "INT4"),
    "fp8 blocks": ({"quant_method": "fp8", "weight_block_size": [40, 32]}, blocks_of_fp8, "F8_E4M3"),
    "fp8 rows": (
        {"quant_method": "compressed-tensors", "format": "float-quantized"},
        lambda weight: rows_of(weight, torch.float8_e4m3fn, 448, "weight_scale"),
        "F8_E4M3",
    ),
    "fp8 e5m2": (
        {"quant_method": "fbgemm_fp8"},
        lambda w: rows_of(w, torch.float8_e5m2, 5e4, "weight_scale"),
        "F8_E5M2",
    ),
    "one scale": (
        {"quant_method": "modelopt", "quant_algo": "FP8"},
        lambda weight: blocks_of_fp8(weight, "weight_scale", (1000, 1000)),
        "F8_E4M3",
    ),
    "int8 rows": (
        {"quant_method": "bitsandbytes", "load_in_8bit": True},
        lambda weight: rows_of(weight, torch.int8, 127, "SCB", 127),
        "INT8",
    ),
    "codes": ({"quant_method": "bitsandbytes", "load_in_4bit": True}, lambda weight: codes(weight, False), "NF4"),
    "nested codes": ({"load_in_4bit": True}, lambda weight: codes(weight, True), "NF4"),
}


def quantise(to: Path, config: dict[str, Any], pack: Callable[[Array], Packed]) -> dict[str, Tensor]:
    """Write the plain model with its linear layers packed, and return the weights that are meant."""
    copy(plain(), to)
    edit_config(to, quantization_config=config)
    stored, meant = {}, {}
    for name, tensor in load_file(plain() / "model.safetensors").items():
        meant[name] = tensor
        stored[name] = tensor
        if "_proj" in name:
            parts, meant[name] = pack(tensor.numpy())
            del stored[name]
            stored |= {f"{name.removesuffix('weight')}{end}": part.contiguous() for end, part in parts.items()}
    save_file(stored, to / "model.safetensors", metadata={"format": "pt"})
    return meant


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_packed_is_what_is_opened(form: str, tmp_path: Path) -> None:
    config, pack, name = FORMATS[form]
    meant = quantise(tmp_path / "model", config, pack)
    model = open_model(ModelSpec(source=str(tmp_path / "model")))
    assert model.info.storage_dtype == name
    assert f"{name} (14), float32 (7) and dequantised" in model.info.notices[0]
    module = model.module().state_dict()
    for key, expected in meant.items():
        assert torch.allclose(model.tensor(key), expected, rtol=1e-6, atol=1e-9), key
        assert torch.equal(module[key], model.tensor(key)), key
    assert model.block(1).heads.w_q.dtype == torch.float32
    before = describe(ModelSpec(source=str(plain())))
    assert model.info.identity != before.identity
    assert model.info.n_parameters == before.n_parameters


def test_blocks_of_four_bit_floats(tmp_path: Path) -> None:
    config = hf.GptOssConfig(
        hidden_size=64,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        num_local_experts=4,
        vocab_size=60,
    )
    model = hf.GptOssForCausalLM(config)
    model.save_pretrained(tmp_path)
    values = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    values = np.concatenate([values, -values])
    rng = np.random.default_rng(0)
    stored, meant = {}, {}
    for name, tensor in model.state_dict().items():
        if not name.endswith(("gate_up_proj", "down_proj")):
            stored[name] = meant[name] = tensor.to(torch.bfloat16)
            continue
        experts, inputs, outputs = tensor.shape
        blocks = rng.integers(0, 256, (experts, outputs, inputs // 32, 16), np.uint8)
        scales = rng.integers(118, 124, blocks.shape[:3], np.uint8)
        both = np.stack((values[blocks & 15], values[blocks >> 4]), -1).reshape(*scales.shape, 32)
        weight = (both * np.exp2(scales.astype(float) - 127)[..., None]).reshape(experts, outputs, inputs)
        meant[name] = torch.from_numpy(weight).mT.to(torch.bfloat16)
        stored |= {f"{name}_blocks": torch.from_numpy(blocks), f"{name}_scales": torch.from_numpy(scales)}
    save_file({name: part.contiguous() for name, part in stored.items()}, tmp_path / "model.safetensors")
    edit_config(tmp_path, quantization_config={"quant_method": "mxfp4"})
    opened = open_model(ModelSpec(source=str(tmp_path), dtype="bfloat16"))
    assert all(torch.equal(opened.tensor(name), tensor) for name, tensor in meant.items())
    module = opened.module().state_dict()
    assert all(torch.equal(module[name], tensor) for name, tensor in meant.items())


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            {"quant_method": "hqq"},
            "(hqq), which is not read here. Load them with transformers where the package hqq is",
        ),
        ({"quant_method": "quanto"}, "the package optimum-quanto"),
        ({"quant_method": "gptq", "bits": 3}, "(GPTQ of 3 bits)"),
        ({"quant_method": "awq", "version": "gemv"}, "(AWQ of 4 bits in the layout gemv)"),
        ({"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"}, "nvfp4-pack-quantized"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "the package nvidia-modelopt"),
        ({"quant_method": "gptq", "bits": "many"}, "do not fit together"),
        (
            CT | {"config_groups": [4]},
            "do not fit together",
        ),
        ({"bits": 4}, "(unknown)"),
    ],
)
def test_what_is_not_read_names_its_package_and_file(config: dict[str, Any], words: str, tmp_path: Path) -> None:
    folder = edit_config(copy(plain(), tmp_path / "model"), quantization_config=config)
    message = refusal(folder)
    assert words in message
    assert "model.safetensors" in message or "config.json" in message


def test_scales_that_do_not_fit_are_said_when_read(tmp_path: Path) -> None:
    config, _, _ = FORMATS["fp8 blocks"]
    quantise(tmp_path / "model", config, lambda weight: blocks_of_fp8(weight, block=(16, 16)))
    assert "cannot be made by scaling F8_E4M3" in refusal(tmp_path / "model", of="block")
    assert "cannot be made by scaling F8_E4M3" in refusal(tmp_path / "model", of="module")


def test_a_description_that_is_damaged(tmp_path: Path) -> None:
    def pack(weight: Array) -> Packed:
        parts, meant = codes(weight, False)
        return parts | {"weight.quant_state.bitsandbytes__nf4": torch.zeros(9, dtype=torch.uint8)}, meant

    quantise(tmp_path / "model", {"load_in_4bit": True}, pack)
    assert "is damaged" in refusal(tmp_path / "model")
