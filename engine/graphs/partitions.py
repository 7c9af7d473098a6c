"""Similarity of two partitions of the same units, and the fate of communities from one layer to the next."""

from itertools import combinations

import numpy as np
from igraph import compare_communities
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Labels = NDArray[np.int64]

# Communities with fewer units are degenerate (methods §7.3).
SMALLEST = 3


def by_size(labels: Labels) -> Labels:
    """The same partition, communities numbered from 0 by descending size; of equal ones, the one of the first unit."""
    _, first, group, sizes = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    rank = np.empty(len(sizes), np.int64)
    rank[np.lexsort((first, -sizes))] = np.arange(len(sizes))
    return rank[group]


def proper(labels: Labels) -> Labels:
    """The labels with −1 for units in degenerate communities; they must be those of `by_size`."""
    sizes = np.bincount(labels)
    return np.where(sizes[labels] >= SMALLEST, labels, -1) if len(labels) else labels


def nmi(a: Labels, b: Labels) -> float:
    """Mutual information over the mean of the two entropies: 1 if equal, 0 if independent; NaN without units.

    One community in both is 1; in only one of them, 0.
    """
    if not len(a):
        return float("nan")
    return float(np.clip(compare_communities(a.tolist(), b.tolist(), method="nmi"), 0, 1))


def ari(a: Labels, b: Labels) -> float:
    """Adjusted Rand index (Hubert and Arabie 1985): 1 if equal, 0 expected by chance; NaN without units."""
    if not len(a):
        return float("nan")
    if len(a) == 1 or np.array_equal(by_size(a), by_size(b)):
        return 1.0
    return float(compare_communities(a.tolist(), b.tolist(), method="adjusted_rand"))


def mean_pairwise_nmi(partitions: list[Labels]) -> float:
    """Over all pairs; NaN for fewer than two partitions."""
    values = [nmi(a, b) for a, b in combinations(partitions, 2)]
    return float(np.mean(values)) if values else float("nan")


def flow(a: Labels, b: Labels) -> tuple[Labels, Labels, Labels]:
    """Units that pass from each community of `a` to each of `b`: source, target and count; absent pairs are left out.

    A label of −1 stands for the degenerate communities of its side.
    """
    pairs, units = np.unique(np.stack([a, b]), axis=1, return_counts=True)
    return pairs[0], pairs[1], units


def lineage(a: Labels, b: Labels, lines: Labels) -> Labels:
    """Number the communities of `b` so that each continues the one of `a` with which it shares most.

    One to one, by the assignment under which most units stay; a community without a predecessor gets a new number.

    Parameters
    ----------
    a, b : int array, (n,)
        −1 belongs to none.
    lines : int array, (communities of a,)
        Their numbers.

    Returns
    -------
    int array, (communities of b,)
    """
    shared = np.zeros((len(lines), int(b.max(initial=-1)) + 1), np.int64)
    both = (a >= 0) & (b >= 0)
    np.add.at(shared, (a[both], b[both]), 1)
    numbers = np.full(shared.shape[1], -1, np.int64)
    rows, columns = linear_sum_assignment(shared, maximize=True)
    continued = shared[rows, columns] > 0
    numbers[columns[continued]] = lines[rows[continued]]
    new = numbers < 0
    numbers[new] = int(lines.max(initial=-1)) + 1 + np.arange(new.sum())
    return numbers
