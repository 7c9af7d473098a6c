"""Singular values of a matrix G (n×p) with few rows and very many columns, from blocks of its columns (methods §4).

G is never in memory whole. `gram` sums GGᵀ, n×n, in fp64, which squares the spectrum and loses what lies below about
1e-8 σ_max. `triangular` updates a triangle R with RᵀR = GGᵀ by orthogonal steps, which squares nothing.
"""

from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]
Route = Literal["gram", "svd"]


def gram(blocks: Iterable[Tensor]) -> Tensor:
    """GGᵀ (n, n) in fp64; `blocks` are (n, w), of any widths."""
    total: Tensor | None = None
    for block in blocks:
        wide = block.double()
        # Accumulate in place: n may be thousands.
        total = wide @ wide.mT if total is None else total.addmm_(wide, wide.mT)
    if total is None:
        raise ValueError("G has no columns")
    return total


def triangular(blocks: Iterable[Tensor]) -> Tensor:
    """R, upper triangular with at most n rows, in fp64, whose singular values are those of G."""
    triangle: Tensor | None = None
    for block in blocks:
        below = block.double().mT
        stacked = below if triangle is None else torch.cat((triangle, below))
        triangle = torch.linalg.qr(stacked, mode="r").R
    if triangle is None:
        raise ValueError("G has no columns")
    return triangle


def singular_values(blocks: Iterable[Tensor], route: Route = "gram") -> Array:
    """σ of G, (n,), descending; a G of fewer than n columns ends in zeros."""
    if route == "svd":
        sigma = torch.linalg.svdvals(triangle := triangular(blocks))
        return torch.nn.functional.pad(sigma, (0, triangle.shape[1] - len(sigma))).cpu().numpy()
    return torch.linalg.eigvalsh(gram(blocks)).flip(-1).clamp_min(0).sqrt().cpu().numpy()


def relative_floor(route: Route, stored: torch.dtype) -> float:
    """Share of σ_max below which singular values are rounding, of the sum (1e-8 for fp64) or of G's own entries.

    Parameters
    ----------
    route : ``gram`` or ``svd``
    stored : torch.dtype
        Precision in which the entries of G were computed.
    """
    unit = torch.finfo(torch.float64).eps / 2
    return max(unit**0.5 if route == "gram" else unit, torch.finfo(stored).eps / 2)
