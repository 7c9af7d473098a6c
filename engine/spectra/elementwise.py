"""Distribution of the entries of weight matrices and of products AᵀB, the latter without keeping any d×d product."""

from typing import NamedTuple

import torch
from torch import Tensor

_BLOCK = 1 << 20  # entries of one block: small enough for the cache, large enough for the product


class Moments(NamedTuple):
    """Of the entries of each of H matrices, fp64 (H,): `kurtosis` is in excess of the Gaussian's 3.

    The shape of a constant matrix is undefined: its `skew` and `kurtosis` are NaN.
    """

    mean: Tensor
    std: Tensor
    skew: Tensor
    kurtosis: Tensor


def entry_moments(w: Tensor) -> Moments:
    """Moments of the entries of each matrix of `w` (H, r, d)."""
    return Moments(*torch.stack([_moments(x.double()) for x in w]).unbind(1))


def _moments(x: Tensor) -> Tensor:
    mean = x.mean()
    x = x - mean
    square = x.square()
    std = square.mean().sqrt()
    skew, kurtosis = (x * square).mean() / std**3, square.square_().mean() / std**4 - 3
    return torch.stack((mean, std, skew, kurtosis))


def entry_quantiles(w: Tensor, probabilities: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Quantiles of the standardised entries of each matrix of `w` (H, r, d): (H, probability), fp64.

    Where a matrix has more than `count` entries, from so many at random places, the same in every matrix.
    """
    x = w.flatten(1)
    if x.shape[1] > count:
        x = x[:, torch.randperm(x.shape[1], generator=generator)[:count].to(x.device)]
    return _standard_quantiles(x, probabilities)


def _standard_quantiles(x: Tensor, probabilities: Tensor) -> Tensor:
    x = x.double() - x.double().mean(1, keepdim=True)
    return torch.quantile(x / x.square().mean(1, keepdim=True).sqrt(), probabilities.to(x), dim=1).T


def product_moments(a: Tensor, b: Tensor, rows: Tensor | None = None) -> Moments:
    """Moments of the entries w_ij = a_i·b_j of each A_hᵀ B_h.

    Mean and standard deviation have closed forms in fp64: mean (Σa_i)·(Σb_j)/d², mean square tr(AAᵀBBᵀ)/d². The third
    and fourth need the entries: they are made in fp32, already standardised, in blocks that fit the cache, and
    summed by rows in fp32, over rows in fp64.

    Parameters
    ----------
    a : Tensor (H, r, d)
    b : Tensor (H_kv, r, d)
        H is a multiple of H_kv; factor h of `a` goes with factor h // (H // H_kv) of `b`.
    rows : Tensor of indices i, optional
        The rows from which `skew` and `kurtosis` are taken; all by default.
    """
    group, d = len(a) // len(b), a.shape[-1]
    a64, b64 = a.double(), b.double()
    sum_b, gram_b = (t.repeat_interleave(group, 0) for t in (b64.sum(-1), b64 @ b64.mT))
    mean = (a64.sum(-1) * sum_b).sum(-1) / d**2
    mean_square = ((a64 @ a64.mT) * gram_b).sum((-2, -1)) / d**2
    std = (mean_square - mean**2).clamp_min(0).sqrt()

    third, fourth = torch.zeros_like(mean), torch.zeros_like(mean)
    if rows is not None:
        a64 = a64[:, :, rows.to(a.device)]
    b32, step = b64.float(), max(1, _BLOCK // d)
    for h in range(len(a)):
        left = (a64[h] / std[h]).float().mT
        shift = (-mean[h] / std[h]).float()
        for start in range(0, len(left), step):
            z = torch.addmm(shift, left[start : start + step], b32[h // group])
            square = z.square()
            third[h] += torch.linalg.vecdot(square, z).sum(dtype=torch.float64)
            fourth[h] += torch.linalg.vecdot(square, square).sum(dtype=torch.float64)
    entries = a64.shape[-1] * d
    return Moments(mean, std, third / entries, fourth / entries - 3)


def product_quantiles(a: Tensor, b: Tensor, probabilities: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Quantiles of the standardised entries of each A_hᵀ B_h, shapes as in `product_moments`: (H, probability), fp64.

    Where a product has more than `count` entries, from 64×64 blocks of randomly chosen rows and columns, other ones for
    each block, the same in every product.
    """
    group, d, side = len(a) // len(b), a.shape[-1], 64
    if d * d <= count:
        product = a.double().mT @ b.double().repeat_interleave(group, 0)
        return _standard_quantiles(product.flatten(1), probabilities)
    blocks = max(1, count // side**2)
    i, j = torch.randint(d, (2, blocks * side), generator=generator).to(a.device)
    left = a[:, :, i].double().unflatten(-1, (blocks, side))
    right = b[:, :, j].double().repeat_interleave(group, 0).unflatten(-1, (blocks, side))
    return _standard_quantiles(torch.einsum("hrni,hrnj->hnij", left, right).flatten(1), probabilities)
