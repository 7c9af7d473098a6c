"""Quantised checkpoints: each weight is made of its stored parts (integers or small floats, scales) when it is read.

The formats are those of the releases themselves: block-scaled fp8 (DeepSeek), MXFP4 (gpt-oss), bitsandbytes, GPTQ, AWQ,
and compressed-tensors. None of them needs the package that wrote it, which would load the whole model, often on a GPU.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from engine.errors import UserError, reason
from engine.models.bits_and_bytes import bitsandbytes
from engine.models.checkpoint import Stored
from engine.models.derived import derive
from engine.models.packed import awq, gptq, packed_integers
from engine.models.scales import Tensors, scaled, together

# What a quantised checkpoint stores for its activations and its cache, which weights do not need.
ACTIVATIONS = (
    *(".input_scale", ".output_scale", ".activation_scale", ".input_zero_point", ".output_zero_point"),
    *(".k_scale", ".v_scale", ".q_scale", ".input_global_scale", ".weight_format"),
)
# The packages that read what is not read here.
PACKAGES = {
    "hqq": "hqq",
    "quanto": "optimum-quanto",
    "aqlm": "aqlm",
    "eetq": "eetq",
    "higgs": "flute-kernel",
    "vptq": "vptq",
    "spqr": "spqr_quant",
    "torchao": "torchao",
    "quark": "amd-quark",
    "auto-round": "auto-round",
    "fp_quant": "fp_quant",
    "sinq": "sinq",
    "intel/auto-round": "auto-round",
    "modelopt": "nvidia-modelopt",
}


def settings(raw: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What a config says about quantisation; None where it is silent."""
    found = raw.get("quantization_config") or raw.get("compression_config")
    return found or None


def dequantised(raw: Mapping[str, Any], stored: Tensors, folder: Path) -> dict[str, Stored]:
    """The weights of a checkpoint by the names that they have in one that is not quantised.

    Raises
    ------
    UserError
        If the format is not read here; the sentence names the package that reads it.
    """
    config = settings(raw)
    if config is None:
        return dict(stored)
    if not isinstance(config, Mapping):
        raise UserError(
            f"quantization_config in {folder / 'config.json'} is {config!r}, where the settings of a quantisation "
            "belong. Download it again."
        )
    method = str(config.get("quant_method") or ("bitsandbytes" if "load_in_4bit" in config else "unknown"))
    kept = {key: tensor for key, tensor in stored.items() if not key.endswith(ACTIVATIONS)}
    try:
        if method not in READERS:
            raise NotImplementedError(method)
        made = READERS[method](config)(kept)
    except NotImplementedError as error:
        file = folder / min((tensor.file.name for tensor in stored.values()), default="config.json")
        raise UserError(
            f"The weights in {file} are quantised ({error}), which is not read here. Load them with transformers "
            f"where the package {PACKAGES.get(method, method)} is installed, save what dequantize() gives and open "
            "that, or open the unquantised model that they were made from."
        ) from error
    except (TypeError, ValueError, AttributeError, IndexError, ZeroDivisionError) as error:
        raise UserError(
            f"quantization_config in {folder / 'config.json'} and the weights do not fit together: "
            f"{reason(error)}. Download the model again.",
            repr(error),
        ) from error
    if all(tensor is kept.get(key) for key, tensor in made.items()):
        raise UserError(
            f"config.json in {folder} says that the weights are quantised ({method}), and none is stored so. Remove "
            "quantization_config from it if the weights are right, or download the model again."
        )
    return made


def small_floats(config: Mapping[str, Any]) -> Callable[[Tensors], dict[str, Stored]]:
    """fp8 or int8 weights with ``weight_scale_inv`` or ``weight_scale`` beside them."""
    size = config.get("weight_block_size")
    block = (int(size[0]), int(size[1])) if isinstance(size, list) and len(size) == 2 else None

    def make(stem: str, parts: dict[str, Stored]) -> Stored:
        weight, *others = parts.values()
        how = f"scaling {weight.dtype}" + (f" in blocks of {block[0]} × {block[1]}" if block else "")
        stored_as = {"I8": "INT8"}.get(weight.dtype, weight.dtype)
        return derive(stem, (weight, *others), weight.shape, how, partial(scaled, block=block), stored_as=stored_as)

    def read(stored: Tensors) -> dict[str, Stored]:
        stored = together(stored, "_scale_inv", ("", "_scale_inv"), make)
        return together(stored, "_scale", ("", "_scale", "_zero_point"), make)

    return read


def mxfp4(config: Mapping[str, Any]) -> Callable[[Tensors], dict[str, Stored]]:
    """gpt-oss: blocks of 32 four-bit floats and their exponents, for the experts."""

    def make(stem: str, parts: dict[str, Stored]) -> Stored:
        blocks, scales = parts.values()
        shape = (*blocks.shape[:-3], 2 * math.prod(blocks.shape[-2:]), blocks.shape[-3])
        # Exact in bfloat16, and half the memory of the largest tensors that there are.
        return derive(
            stem,
            (blocks, scales),
            shape,
            "unpacking MXFP4",
            convert_moe_packed_tensors,
            dtype="BF16",
            stored_as="MXFP4",
        )

    return lambda stored: together(stored, "_scales", ("_blocks", "_scales"), make)


def compressed_tensors(config: Mapping[str, Any]) -> Callable[[Tensors], dict[str, Stored]]:
    """compressed-tensors: small floats or integers with scales, or integers packed into 32-bit ones."""
    form = str(config.get("format"))
    groups = [group.get("weights") or {} for group in (config.get("config_groups") or {}).values()]
    sparsity = (config.get("sparsity_config") or {}).get("format", "dense")
    if sparsity != "dense" or form not in ("float-quantized", "int-quantized", "naive-quantized", "pack-quantized"):
        raise NotImplementedError(f"compressed-tensors, {form if sparsity == 'dense' else sparsity}")
    if form != "pack-quantized":
        sizes = [group.get("block_structure") for group in groups if group.get("block_structure")]
        return small_floats({"weight_block_size": sizes[0] if sizes else None})
    widths = {int(group.get("num_bits", 4)) for group in groups}
    if len(widths) != 1 or not widths <= {2, 4, 8}:
        raise NotImplementedError(f"compressed-tensors of {sorted(widths)} bits")
    return partial(packed_integers, widths.pop())


def modelopt(config: Mapping[str, Any]) -> Callable[[Tensors], dict[str, Stored]]:
    """NVIDIA's fp8: one scale for a weight."""
    if (algorithm := str(config.get("quant_algo", "FP8"))) != "FP8":
        raise NotImplementedError(f"modelopt, {algorithm}")
    return small_floats({})


READERS: dict[str, Callable[[Mapping[str, Any]], Callable[[Tensors], dict[str, Stored]]]] = {
    "fp8": small_floats,
    "fbgemm_fp8": small_floats,
    "mxfp4": mxfp4,
    "gptq": gptq,
    "awq": awq,
    "bitsandbytes": bitsandbytes,
    "compressed-tensors": compressed_tensors,
    "modelopt": modelopt,
}
