"""Integers of a few bits packed into larger ones, as GPTQ, AWQ and compressed-tensors store weights."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from engine.models.checkpoint import Stored
from engine.models.derived import derive
from engine.models.scales import Tensors, scaled, together, unpacked

AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""Which of eight columns lies in each half-byte of one of AWQ's integers."""


def gptq(config: Mapping[str, Any]) -> Callable[[Tensors], dict[str, Stored]]:
    """GPTQ: integers of a few bits, with a scale and a zero for each group of inputs."""
    bits, group = int(config.get("bits", 4)), int(config.get("group_size", 128))
    if bits not in (2, 4, 8):
        raise NotImplementedError(f"GPTQ of {bits} bits")
    shift = 0 if config.get("checkpoint_format") == "gptq_v2" else 1  # the first version stores zeros less one

    def dequantise(weight: Tensor, zeros: Tensor, scales: Tensor, groups: Tensor | None = None) -> Tensor:
        values = unpacked(weight, bits, 0)
        of = torch.arange(len(values)) // (group if group > 0 else len(values)) if groups is None else groups.long()
        return ((values - unpacked(zeros, bits)[of] - shift) * scales.float()[of]).T.contiguous()

    def make(stem: str, parts: dict[str, Stored]) -> Stored:
        weight = parts[".qweight"]
        shape = (weight.shape[1], weight.shape[0] * 32 // bits)
        how = f"unpacking GPTQ of {bits} bits, groups of {group}, zero {shift}"
        return derive(f"{stem}.weight", tuple(parts.values()), shape, how, dequantise, stored_as=f"INT{bits}")

    return lambda stored: together(stored, ".qzeros", (".qweight", ".qzeros", ".scales", ".g_idx"), make)


def awq(config: Mapping[str, Any]) -> Callable[[Tensors], dict[str, Stored]]:
    """AWQ: four-bit integers packed along the outputs, with a scale and a zero for each group of inputs."""
    bits, version = int(config.get("bits", 4)), str(config.get("version", "gemm")).lower()
    if bits != 4 or version != "gemm":
        raise NotImplementedError(f"AWQ of {bits} bits in the layout {version}")

    def columns(packed: Tensor) -> Tensor:
        values = unpacked(packed, bits)
        return values.unflatten(-1, (-1, 8))[..., torch.tensor(AWQ_ORDER).argsort()].flatten(-2)

    def dequantise(weight: Tensor, zeros: Tensor, scales: Tensor) -> Tensor:
        values = columns(weight)
        group = len(values) // len(scales)
        spaced = columns(zeros).repeat_interleave(group, 0)
        return ((values - spaced) * scales.float().repeat_interleave(group, 0)).T.contiguous()

    def make(stem: str, parts: dict[str, Stored]) -> Stored:
        weight = parts[".qweight"]
        shape = (weight.shape[1] * 8, weight.shape[0])
        return derive(f"{stem}.weight", tuple(parts.values()), shape, "unpacking AWQ", dequantise, stored_as="INT4")

    return lambda stored: together(stored, ".qzeros", (".qweight", ".qzeros", ".scales"), make)


def packed_integers(bits: int, stored: Tensors) -> dict[str, Stored]:
    """Integers packed along the inputs, with a scale, and perhaps a zero, for each group of them."""
    middle = 2 ** (bits - 1)

    def make(stem: str, parts: dict[str, Stored]) -> Stored:
        packed = parts[".weight_packed"]
        shape = (packed.shape[0], packed.shape[1] * 32 // bits)
        names = tuple(parts)

        def dequantise(*tensors: Tensor) -> Tensor:
            by_name = dict(zip(names, tensors, strict=True))
            if tuple(by_name.get(".weight_shape", torch.tensor(shape)).tolist()) != shape:
                raise ValueError(f"it is padded to {shape}")
            values = unpacked(by_name[".weight_packed"], bits) - middle
            scale, zero = by_name[".weight_scale"], by_name.get(".weight_zero_point")
            if zero is not None:
                zero = unpacked(zero, bits, 0)[: shape[0]] - middle if zero.dtype == torch.int32 else zero
            if (of := by_name.get(".weight_g_idx")) is None:
                return scaled(values, scale, zero)
            centred = values if zero is None else values - zero[:, of.long()]
            return centred * scale.float()[:, of.long()]

        how = f"unpacking integers of {bits} bits"
        return derive(f"{stem}.weight", tuple(parts.values()), shape, how, dequantise, stored_as=f"INT{bits}")

    suffixes = (".weight_packed", ".weight_scale", ".weight_shape", ".weight_zero_point", ".weight_g_idx")
    return together(stored, ".weight_packed", suffixes, make)
