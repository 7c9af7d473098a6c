"""Parts of quantised weights put together: scales spread over what they scale, and integers out of larger ones."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from engine.models.checkpoint import Stored

Tensors = Mapping[str, Stored]


def together(
    stored: Tensors, mark: str, suffixes: tuple[str, ...], make: Callable[[str, dict[str, Stored]], Stored]
) -> dict[str, Stored]:
    """Put tensors that share a name and end in one of `suffixes` together, and leave the others as they are.

    A weight is made where there is a tensor that ends in `mark`, and the first of `suffixes` beside it; `make` gets the
    name and the parts by suffix, in their order.
    """
    made = dict(stored)
    for key in stored:
        stem = key.removesuffix(mark)
        if stem == key or stem + suffixes[0] not in stored:
            continue
        parts = {suffix: stored[stem + suffix] for suffix in suffixes if stem + suffix in stored}
        for suffix in parts:
            del made[stem + suffix]
        tensor = make(stem, parts)
        made[tensor.key] = tensor
    return made


def scaled(
    weight: Tensor, scale: Tensor, zero: Tensor | None = None, *, block: tuple[int, int] | None = None
) -> Tensor:
    """Weights times their scale: one for all, for each row, or for each block of the last two dimensions."""
    values = weight.float() if zero is None else weight.float() - spread(zero.float(), weight.shape, block)
    scale = (scale.float() - 127).exp2() if scale.dtype == torch.uint8 else scale.float()  # bare exponents
    return values * spread(scale, weight.shape, block)


def spread(scale: Tensor, shape: torch.Size, block: tuple[int, int] | None) -> Tensor:
    """A grid of scales as large as the weights that it scales."""
    if scale.numel() == 1:
        return scale.reshape(())
    if scale.ndim == len(shape) - 1:
        scale = scale.unsqueeze(-1)
    for dim, size in ((-2, shape[-2]), (-1, shape[-1])):
        count = scale.shape[dim]
        if count in (1, size):
            continue
        width = block[dim] if block is not None else size // count
        if math.ceil(size / width) != count:
            raise ValueError(f"{count} scales for {size} entries in blocks of {width}")
        scale = scale.repeat_interleave(width, dim).narrow(dim, 0, size)
    return scale


def unpacked(packed: Tensor, bits: int, dim: int = -1) -> Tensor:
    """The integers in 32-bit ones, lowest bits first, along a dimension."""
    shifts = torch.arange(0, 32, bits, dtype=torch.int32)
    last = packed.movedim(dim, -1)
    values = (last.unsqueeze(-1) >> shifts) & (2**bits - 1)
    return values.flatten(-2).movedim(-1, dim)
