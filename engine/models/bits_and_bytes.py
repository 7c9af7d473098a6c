"""What bitsandbytes stores: rows of eight-bit integers, or blocks of four-bit codes."""

import json
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from engine.errors import UserError
from engine.models.checkpoint import Stored
from engine.models.derived import derive
from engine.models.scales import Tensors, scaled, together


def bitsandbytes(config: Mapping[str, Any]) -> Callable[[Tensors], dict[str, Stored]]:
    """bitsandbytes: eight-bit integers scaled by rows, or four-bit codes in blocks whose scales are coded too."""
    return four_bit if config.get("load_in_4bit") else eight_bit


def eight_bit(stored: Tensors) -> dict[str, Stored]:
    """LLM.int8(): ``SCB`` is each row's largest entry."""

    def make(stem: str, parts: dict[str, Stored]) -> Stored:
        shape, how = parts[".weight"].shape, "scaling rows of int8 by their largest entry"
        return derive(f"{stem}.weight", tuple(parts.values()), shape, how, by_row, stored_as="INT8")

    def by_row(weight: Tensor, largest: Tensor) -> Tensor:
        return scaled(weight, largest / 127)

    return together(stored, ".SCB", (".weight", ".SCB"), make)


def four_bit(stored: Tensors) -> dict[str, Stored]:
    """NF4 or FP4: ``absmax`` scales blocks of the flattened weight, and may itself be coded."""
    made = dict(stored)
    for key, state in stored.items():
        name, mark, kind = key.partition(".quant_state.bitsandbytes__")
        if not mark:
            continue
        described = _described(state)
        suffixes = ("", ".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map")
        parts = [stored[name + suffix] for suffix in suffixes if name + suffix in stored]
        dequantise = partial(_four_bit, described)
        made[name] = derive(
            name, parts, tuple(described["shape"]), f"decoding {kind}", dequantise, stored_as=kind.upper()
        )
        for suffix in (*suffixes[1:], key.removeprefix(name)):
            made.pop(name + suffix, None)
    return made


def _described(state: Stored) -> dict[str, Any]:
    """What a weight's own description says: its shape, and the sizes of its blocks."""
    if not state.file.is_file():
        raise UserError(
            "The weights are quantised by bitsandbytes, and their shapes stand in the files, which are not on this "
            "machine yet. Download the model first, with `hf download` and its name."
        )
    try:
        described = json.loads(bytes(state.read().tolist()))
        sizes = [int(size) for size in (*described["shape"], described["blocksize"])]
        if state.nbytes > 10_000 or min(sizes) < 1:
            raise ValueError(f"sizes {sizes}")
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"Tensor {state.key} in {state.file} is damaged. Download it again.", repr(error)) from error
    return dict(described)


def _four_bit(described: Mapping[str, Any], packed: Tensor, absmax: Tensor, codes: Tensor, *nested: Tensor) -> Tensor:
    if nested:
        width = int(described["nested_blocksize"])
        outer = nested[0].repeat_interleave(width)[: len(absmax)]
        absmax = nested[1][absmax.long()] * outer + float(described.get("nested_offset", 0))
    flat = packed.flatten()
    values = codes.float()[torch.stack((flat >> 4, flat & 15), -1).flatten().long()]
    count = math.prod(described["shape"])
    scales = absmax.float().repeat_interleave(int(described["blocksize"]))
    return (values[:count] * scales[:count]).reshape(described["shape"])
