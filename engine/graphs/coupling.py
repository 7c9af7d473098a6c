"""Three tests of the coupling between communities and an operator, each with its null (methods §7.5; S3, A.5)."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm, rankdata
from torch import Tensor

from engine.graphs.partitions import Labels
from engine.spectra import serial
from engine.spectra.p_values import two_sided_p

Array = NDArray[np.float64]

TAIL = 0.1
# Memory for the draws of one chunk.
CHUNK_BYTES = 2**24
# Data that stays in a processor's cache while it is read several times.
CACHE_BYTES = 2**20


@dataclass(frozen=True)
class Correlation:
    """Spearman's ρ of n pairs, its 95 % interval (Bonett and Wright 2000), and its two-sided permutation p."""

    rho: float
    low: float
    high: float
    p: float
    n: int


def spearman(x: Array, y: Array, permutations: int, rng: np.random.Generator) -> Correlation:
    """Rank correlation over the finite pairs; NaN for fewer than three of them or a constant.

    Four pairs at least, and ranks that do not agree throughout, have an interval.
    """
    finite = np.isfinite(x) & np.isfinite(y)
    n = int(finite.sum())
    nan = float("nan")
    if n < 3 or np.ptp(x[finite]) == 0 or np.ptp(y[finite]) == 0:
        return Correlation(nan, nan, nan, nan, n)
    u, v = (_unit(rankdata(values[finite])) for values in (x, y))
    rho = float(u @ v)
    draws = _permuted_sums(v, u, permutations, rng)
    # Rounded to keep ties: with few pairs, many permutations have the same ρ but for rounding.
    p = float(two_sided_p(draws.round(10), np.array(round(rho, 10))))
    return Correlation(rho, *_interval(rho, n), p, n)


def spearman_along_depth(x: Array, y: Array, permutations: int, rng: np.random.Generator) -> Correlation:
    """`spearman` of two series through the layers, whose neighbours are alike (methods §13).

    p is the larger of that of permutations and that of independent correlated series; the interval is that of as many
    independent pairs as the series are worth.
    """
    pairs = spearman(x, y, permutations, rng)
    if np.isnan(pairs.rho):
        return pairs
    finite = np.isfinite(x) & np.isfinite(y)
    low, high = _interval(pairs.rho, serial.effective_pairs(x[finite], y[finite]))
    return replace(pairs, low=low, high=high, p=max(pairs.p, serial.correlation_p(x[finite], y[finite])))


def _interval(rho: float, n: float) -> tuple[float, float]:
    """Of Spearman's ρ of n pairs (Bonett and Wright 2000); NaN for three or fewer, or ranks that agree throughout."""
    if n <= 3 or abs(rho) >= 1 - 1e-9:
        return float("nan"), float("nan")
    half = norm.isf(0.025) * np.sqrt((1 + rho**2 / 2) / (n - 3))
    low, high = np.tanh(np.arctanh(rho) + np.array([-half, half])).tolist()
    return low, high


def _unit(x: Array) -> Array:
    centred: Array = x - x.mean()
    return np.asarray(centred / np.linalg.norm(centred))


def _permuted_sums(values: Array, weights: Array, permutations: int, rng: np.random.Generator) -> Array:
    """Σ_i weights_i · values_π(i) for random permutations π, (permutations,)."""

    def sums(count: int) -> Array:
        return np.asarray(rng.permuted(np.broadcast_to(values, (count, len(values))), axis=1) @ weights)

    return _chunked(sums, permutations, 8 * len(values))


def _chunked(draw: Callable[[int], Array], draws: int, bytes_each: int, at_once: int = CHUNK_BYTES) -> Array:
    size = max(1, at_once // max(1, bytes_each))
    return np.concatenate([draw(min(size, draws - start)) for start in range(0, draws, size)])


@dataclass(frozen=True)
class Captured:
    """Share of ‖J‖_F² that the communities capture, that of random partitions, z, and the one-sided p of its rank."""

    share: float
    sigma: float  # the largest singular value of BᵀJB
    null_mean: float
    null_std: float
    z: float
    p: float


def variance_captured(jacobian: Tensor, labels: Labels, partitions: int, rng: np.random.Generator) -> Captured:
    """‖BᵀJB‖_F²/‖J‖_F², the columns of B the communities' normalised indicators, against partitions of the same sizes.

    Parameters
    ----------
    jacobian : Tensor, (n, n)
        Of the units that `labels` are of; products are made in its dtype on its device.
    labels : int array, (n,)
        −1 belongs to no community, and to none in a random partition, where other units are left out instead.
    partitions : int
        Random ones.

    Returns
    -------
    Captured
        NaN where there is no community, or the null does not vary (one community of all units).
    """
    nan = float("nan")
    count = int(labels.max(initial=-1)) + 1
    total = float(jacobian.double().square().sum())
    if count == 0 or total == 0:
        return Captured(nan, nan, nan, nan, nan, nan)
    own = _projected(jacobian, labels[None])
    share = float(own.square().sum()) / total
    sigma = float(torch.linalg.svdvals(own[0])[0])

    def draw(size: int) -> Array:
        permuted = rng.permuted(np.broadcast_to(labels, (size, len(labels))), axis=1)
        return np.asarray(_projected(jacobian, permuted).square().sum((1, 2)).cpu().numpy()) / total

    # A draw takes B and JB, both (n, communities).
    draws = _chunked(draw, partitions, 2 * len(labels) * count * jacobian.element_size())
    mean, std = float(draws.mean()), float(draws.std(ddof=1))
    # Partitions that all capture the same differ by rounding only.
    z = (share - mean) / std if std > 1e-6 * max(mean, 1e-300) else nan
    # Massive units make the null far from normal: p is from ranks.
    p = (
        (1 + np.count_nonzero(draws >= share * (1 - 1e-12))) / (1 + partitions)
        if std > 1e-6 * max(mean, 1e-300)
        else nan
    )
    return Captured(share, sigma, mean, std, z, p)


def _projected(jacobian: Tensor, labels: Labels) -> Tensor:
    """BᵀJB of several partitions with the same sizes, (draws, communities, communities) float64."""
    draws, n = labels.shape
    count = int(labels.max()) + 1
    sizes = np.bincount(labels[0][labels[0] >= 0], minlength=count)
    row, unit = np.nonzero(labels >= 0)
    community = torch.as_tensor(labels[row, unit], device=jacobian.device)
    rows, units = (torch.as_tensor(index, device=jacobian.device) for index in (row, unit))
    scale = torch.as_tensor(sizes, device=jacobian.device).to(jacobian).rsqrt()
    b = jacobian.new_zeros(n, draws, count)
    b[units, rows, community] = scale[community]
    jb = (jacobian @ b.flatten(1)).view(n, draws, count)
    return torch.einsum("nsa,nsb->sab", b, jb).double()


@dataclass(frozen=True)
class Effect:
    """Cohen's d between the tails, its large-sample 95 % interval (Hedges and Olkin 1985), and its permutation p."""

    d: float
    low: float
    high: float
    p: float
    top: int  # units in the upper tail
    bottom: int


def boundary_effect(participation: Array, column_norm: Array, permutations: int, rng: np.random.Generator) -> Effect:
    """Test whether units that bridge communities are passed on more strongly than those within one.

    Cohen's d (pooled SD) of the column norms of the top and the bottom 10 % of participation; two-sided p from
    random divisions of the units of both tails.

    Parameters
    ----------
    participation, column_norm : (n,)
        Units without participation (NaN) are left out.
    """
    top, bottom = tails(participation)
    high, low = column_norm[top], column_norm[bottom]
    m, n = len(high), len(low)
    nan = float("nan")
    if m < 2 or n < 2:
        return Effect(nan, nan, nan, nan, m, n)
    values = np.concatenate([high, low])
    # d depends on neither scale nor origin; sums of squares in fp32 are most precise for values of order 1 around 0.
    spread = values.std()
    if not spread > 1e-12 * np.abs(values).max():
        return Effect(nan, nan, nan, nan, m, n)
    values = (values - values.mean()) / spread
    d = float(_cohens_d(values[:m].sum(), np.square(values[:m]).sum(), values, m))
    draws = _divided(values, m, permutations, rng)
    half = norm.isf(0.025) * np.sqrt((m + n) / (m * n) + d**2 / (2 * (m + n)))
    return Effect(d, d - half, d + half, float(two_sided_p(draws, np.array(d))), m, n)


def tails(participation: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Units of the top and of the bottom 10 % of participation; ties with the last of a tail belong to it.

    Both are empty where all units are alike, or so many that the tails would meet.
    """
    ordered = np.sort(participation[np.isfinite(participation)])
    count = max(2, round(TAIL * len(ordered)))
    nobody = np.empty(0, np.int64)
    if len(ordered) < 2 * count or ordered[count - 1] >= ordered[-count]:
        return nobody, nobody
    return np.flatnonzero(participation >= ordered[-count]), np.flatnonzero(participation <= ordered[count - 1])


def _cohens_d(total: Array, squares: Array, values: Array, m: int) -> Array:
    """From Σx and Σx² of the m units of the first group; the second group is the rest of `values`."""
    n = len(values) - m
    rest, rest_squares = values.sum() - total, np.square(values).sum() - squares
    within = (squares - total**2 / m) + (rest_squares - rest**2 / n)
    return np.asarray((total / m - rest / n) / np.sqrt(within / (m + n - 2)))


def _divided(values: Array, m: int, permutations: int, rng: np.random.Generator) -> Array:
    """Cohen's d of random divisions of `values` into m and the rest, (permutations,)."""
    n = len(values)
    moments = np.stack([values, np.square(values)], axis=1).astype(np.float32)
    number = np.arange(n, dtype=np.uint32)

    def draw(size: int) -> Array:
        # The m smallest of random keys are a random subset, for which a partition at the m-th suffices. The value's
        # number in the low bits makes all keys different.
        keys = rng.integers(2**32, size=(size, n), dtype=np.uint32)
        keys <<= n.bit_length()
        keys |= number
        chosen = keys <= np.partition(keys, m - 1, axis=1)[:, m - 1 : m]
        sums = (chosen.astype(np.float32) @ moments).astype(float)
        return _cohens_d(sums[:, 0], sums[:, 1], values, m)

    return _chunked(draw, permutations, 4 * n, CACHE_BYTES)
