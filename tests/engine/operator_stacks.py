"""Stacks of random square matrices near the identity, as Jacobians of layers in a row are."""

import torch
from torch import Tensor


def stack(d: int, layers: int, gain: float = 0.6, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(layers, d, d, generator=generator, dtype=torch.float64) / d**0.5
    return [torch.eye(d, dtype=torch.float64) + gain * part for part in noise]
