"""From activations to a sparse signed graph of units: z-scores, Pearson correlations, the strongest of each unit.

Methods §7.1–7.2 (S3, A.4). The matrix of all correlations is never held, only a block of its rows at a time.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import t as student
from torch import Tensor

# Memory for a block of rows of the correlation matrix.
BLOCK_BYTES = 2**26


@dataclass(frozen=True)
class SignedGraph:
    """An undirected graph without self-loops; each edge once, `source` < `target`, sorted.

    Attributes
    ----------
    n : int
        Units, also those without an edge.
    source, target : int64 array, (E,)
    weight : float64 array, (E,)
        Pearson's r, with its sign.
    """

    n: int
    source: NDArray[np.int64]
    target: NDArray[np.int64]
    weight: NDArray[np.float64]

    @property
    def density(self) -> float:
        """Σ of positive weights over the number of pairs: the γ⁺ at which the whole graph holds together in CPM."""
        return float(self.weight[self.weight > 0].sum() / max(1, self.n * (self.n - 1) / 2))

    @property
    def degree(self) -> NDArray[np.float64]:
        """Σ |weight| of every unit's edges, (n,)."""
        ends = np.concatenate([self.source, self.target])
        return np.bincount(ends, np.tile(np.abs(self.weight), 2), self.n).astype(float)


def standardise(activations: Tensor) -> tuple[Tensor, NDArray[np.bool_]]:
    """z-scores over the samples, and which units vary at all.

    Parameters
    ----------
    activations : Tensor, (N, d)

    Returns
    -------
    Tensor, (N, kept) float32
        Scaled so that ``zᵀ z`` is the correlation matrix; on the device of `activations`.
    bool array, (d,)
        False for a constant unit, which correlates with nothing.
    """
    varies = activations.amax(0) > activations.amin(0)
    x = activations[:, varies].double()
    x = x - x.mean(0)
    return (x / torch.linalg.vector_norm(x, dim=0)).float(), varies.cpu().numpy()


def correlation_graph(z: Tensor, k: int) -> SignedGraph:
    """The k largest |r| of every unit, an edge where either end chose it; signs kept, no self-loops.

    Parameters
    ----------
    z : Tensor, (N, n) float32
        Of `standardise`; products are made on its device.
    k : int
        Clipped to n − 1.
    """
    n = z.shape[1]
    k = min(k, n - 1)
    if k < 1:
        nothing = np.empty(0, np.int64)
        return SignedGraph(n, nothing, nothing, np.empty(0))
    rows = max(1, BLOCK_BYTES // (4 * n))
    own: list[Tensor] = []
    other: list[Tensor] = []
    weights: list[Tensor] = []
    for start in range(0, n, rows):
        r = z[:, start : start + rows].T @ z
        at = torch.arange(start, start + len(r), device=z.device)
        r[at - start, at] = 0
        chosen = torch.topk(r.abs(), k, dim=1, sorted=False).indices
        own.append(at[:, None].expand_as(chosen).reshape(-1).cpu())
        other.append(chosen.reshape(-1).cpu())
        weights.append(r.gather(1, chosen).reshape(-1).cpu())
    a, b, w = (torch.cat(parts).numpy() for parts in (own, other, weights))
    # r is symmetric but for rounding: of an edge that both ends chose, the larger |r|, first in this order, is kept.
    pair = np.minimum(a, b) * n + np.maximum(a, b)
    order = np.lexsort((-np.abs(w), pair))
    pair, w = pair[order], w[order].astype(float)
    first = np.r_[True, pair[1:] != pair[:-1]] & (w != 0)
    return SignedGraph(n, pair[first] // n, pair[first] % n, np.clip(w[first], -1, 1))


def noise_correlation(samples: int) -> float:
    """1/√N: the standard deviation of r, about its expected size, of unrelated units."""
    return float(samples**-0.5)


def significant_correlation(samples: int, units: int, level: float = 0.05) -> float:
    """The |r| above which any of all pairs of `units` is significant, Bonferroni over the pairs (Student's t)."""
    pairs = units * (units - 1) / 2
    if samples < 3 or pairs < 1:
        return 1.0
    t = student.isf(level / 2 / pairs, samples - 2)
    return float(t / np.hypot(t, np.sqrt(samples - 2)))


def mean_correlation(z: Tensor, groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean r between groups of units, (G, G), from the groups' mean z-scores: all pairs, each unit with itself too.

    Parameters
    ----------
    groups : int array, (n,)
        From 0; −1 belongs to none.
    """
    members = torch.as_tensor(np.flatnonzero(groups >= 0), device=z.device)
    group = torch.as_tensor(groups[groups >= 0], device=z.device)
    count = int(groups.max(initial=-1)) + 1
    sums = z.new_zeros(len(z), count, dtype=torch.float64).index_add_(1, group, z[:, members].double())
    means = sums / torch.bincount(group, minlength=count).clamp(min=1)
    return np.asarray((means.T @ means).cpu().numpy())
