"""Where to draw the units of a graph, so that neighbouring layers look alike."""

from random import Random

import igraph
import numpy as np
from numpy.typing import NDArray

from engine.graphs.correlation import SignedGraph
from engine.graphs.partitions import Labels

Array = NDArray[np.float64]

ROUNDS = 40
# Largest move of a unit in the first round, in radii of the whole; a third of it where the previous layer is known.
HEAT = 0.1
# Factor on the attraction of edges within a community, which separates communities.
TOGETHER = 8
# Largest distance of a unit from the centre, in units of the root mean square distance.
REACH = 2.5
GOLDEN = np.pi * (3 - np.sqrt(5))


def place(graph: SignedGraph, labels: Labels, seed: int, before: Array | None = None) -> Array:
    """Positions of all units, (n, 2), centred, of root mean square radius 1.

    Attraction along positive edges, above all within communities (Fruchterman and Reingold 1991), from where the units
    were in the layer before, or from their communities laid out first. The result is turned (and mirrored) onto the
    layer before.

    Parameters
    ----------
    before : (n, 2), optional
        NaN for units that were absent.
    """
    if graph.n == 0:
        return np.empty((0, 2))
    start, heat = _by_community(graph, labels, seed), HEAT
    if before is not None:
        start, heat = _around(labels, before, _turned(start, before)), HEAT / 3
    positive = graph.weight > 0
    edges = np.stack([graph.source[positive], graph.target[positive]], axis=1)
    within = labels[edges[:, 0]] == labels[edges[:, 1]]
    pull = graph.weight[positive] * np.where(within, TOGETHER, 1)
    positions = _spring(graph.n, edges, pull, start * np.sqrt(graph.n), seed, heat)
    positions = _scaled(positions)
    radius = np.linalg.norm(positions, axis=1, keepdims=True)
    # Units without attraction drift away: beyond 1 the radius grows ever more slowly.
    positions *= np.where(radius > 1, 1 + (REACH - 1) * np.tanh((radius - 1) / (REACH - 1)), radius) / np.maximum(
        radius, 1e-9
    )
    positions = _scaled(positions)
    return positions if before is None else _turned(positions, before)


def _by_community(graph: SignedGraph, labels: Labels, seed: int) -> Array:
    """Communities by the weight between them, and the units of each on a spiral around its place."""
    count = int(labels.max()) + 1
    a, b = labels[graph.source], labels[graph.target]
    between = (a != b) & (graph.weight > 0)
    pairs, pair = np.unique(np.sort(np.stack([a[between], b[between]]), axis=0), axis=1, return_inverse=True)
    weight = np.bincount(pair.ravel(), graph.weight[between], pairs.shape[1]).astype(float)
    angle = GOLDEN * np.arange(count)
    spiral = np.sqrt(np.arange(count) + 0.5)[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    centres = _scaled(_spring(count, pairs.T, weight, spiral, seed))
    sizes = np.bincount(labels, minlength=count)
    order = np.argsort(labels, kind="stable")
    rank = np.empty(len(labels), np.int64)
    rank[order] = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    turn, reach = GOLDEN * rank, np.sqrt((rank + 0.5) / len(labels))
    return centres[labels] + (reach * np.stack([np.cos(turn), np.sin(turn)])).T


def _around(labels: Labels, before: Array, other: Array) -> Array:
    """Each unit half-way between where it was and where its community is now.

    A community is put, as it is in `other`, at the median of where its units were before, if any was there.
    """
    start = other.copy()
    for label in np.unique(labels):
        units = labels == label
        earlier = before[units][np.isfinite(before[units]).all(axis=1)]
        if len(earlier):
            start[units] += np.median(earlier, axis=0) - other[units].mean(0)
    return np.where(np.isfinite(before), (start + before) / 2, start)


def _spring(n: int, edges: NDArray[np.int64], weights: Array, start: Array, seed: int, heat: float = HEAT) -> Array:
    igraph.set_random_number_generator(Random(seed))
    graph = igraph.Graph(n=n, edges=edges)
    layout = graph.layout_fruchterman_reingold(
        weights=weights.tolist(), niter=ROUNDS, seed=start.tolist(), start_temp=heat * float(np.sqrt(n)), grid="auto"
    )
    return np.array(layout.coords, float).reshape(n, 2)


def _scaled(positions: Array) -> Array:
    centred = positions - positions.mean(0)
    return np.asarray(centred / max(np.sqrt(np.square(centred).sum(1).mean()), 1e-12))


def _turned(positions: Array, onto: Array) -> Array:
    """Rotate or mirror `positions` so that they come closest to `onto` where that is known (Procrustes)."""
    shared = np.isfinite(onto).all(1)
    if shared.sum() < 2:
        return positions
    u, _, vt = np.linalg.svd(positions[shared].T @ onto[shared])
    return np.asarray(positions @ (u @ vt))
