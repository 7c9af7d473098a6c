"""Communities of signed graphs, and how stable they are against the resolution (methods §7.3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

import igraph
import leidenalg
import numpy as np
from numpy.typing import NDArray

from engine.graphs.correlation import SignedGraph
from engine.graphs.partitions import SMALLEST, Labels, by_size, mean_pairwise_nmi

Array = NDArray[np.float64]
Detector = Literal["cpm", "modularity", "infomap"]

# Distance from the best stability within which a resolution counts as equally stable.
PLATEAU = 0.01
# The share of units that must be in communities that are not degenerate for a resolution to be chosen.
COVERED = 0.9
ITERATIONS = 2


@dataclass(frozen=True)
class Partition:
    """The best of several restarts.

    `labels` (n,) are numbered from 0 by descending size. `quality` is what the detector maximises, in its own units;
    `qualities` has that of every restart.
    """

    labels: Labels
    quality: float
    qualities: tuple[float, ...]

    @property
    def communities(self) -> int:
        """Number of communities of at least 3 units."""
        return int((np.bincount(self.labels) >= SMALLEST).sum()) if len(self.labels) else 0


def detect(
    graph: SignedGraph,
    detector: Detector,
    seeds: Sequence[int],
    gamma_positive: float = 1.0,
    gamma_negative: float = 0.0,
) -> Partition:
    """Partition a graph, once for each seed, and keep the one of best quality.

    Parameters
    ----------
    detector : {"cpm", "modularity", "infomap"}
        ``cpm``: Σ_c [w⁺_c − γ⁺ n_c(n_c − 1)/2] − [w⁻_c − γ⁻ n_c(n_c − 1)/2] (constant Potts model, Traag et al.
        2011), jointly by Leiden with weights (1, −1).
        ``modularity``: the same with degrees as null (Gómez et al. 2009), resolution 1.
        ``infomap``: the map equation on positive edges alone (Rosvall and Bergstrom 2008); quality = −code length.
    seeds : sequence of int
        Of the restarts.
    gamma_positive, gamma_negative : float
        Of ``cpm`` alone.

    Notes
    -----
    Without positive edges every unit is a community of its own. Without negative ones, the positive layer alone
    decides.
    """
    positive, negative = (_layer(graph, sign) for sign in (1, -1))
    if positive.ecount() == 0:
        return Partition(np.arange(graph.n), 0.0, (0.0,) * len(seeds))
    restarts = []
    for seed in seeds:
        if detector == "infomap":
            igraph.set_random_number_generator(Random(int(seed)))
            clustering = positive.community_infomap(edge_weights="weight", trials=1)
            restarts.append((-float(clustering.codelength), clustering.membership))
            continue
        layers = [positive] if negative.ecount() == 0 else [positive, negative]
        kind = leidenalg.CPMVertexPartition if detector == "cpm" else leidenalg.RBConfigurationVertexPartition
        gammas = (gamma_positive, gamma_negative) if detector == "cpm" else (1.0, 1.0)
        parts = [
            kind(g, weights="weight", resolution_parameter=gamma) for g, gamma in zip(layers, gammas, strict=False)
        ]
        optimiser = leidenalg.Optimiser()
        optimiser.set_rng_seed(int(seed) % 2**31)
        weights = [1, -1][: len(parts)]
        optimiser.optimise_partition_multiplex(parts, layer_weights=weights, n_iterations=ITERATIONS)
        # The library counts both directions of an edge.
        quality = sum(w * part.quality() for w, part in zip(weights, parts, strict=True)) / 2
        restarts.append((float(quality), parts[0].membership))
    best = max(range(len(restarts)), key=lambda i: restarts[i][0])
    return Partition(by_size(np.array(restarts[best][1])), restarts[best][0], tuple(quality for quality, _ in restarts))


def _layer(graph: SignedGraph, sign: int) -> igraph.Graph:
    """The edges of one sign, with their absolute weights."""
    chosen = graph.weight * sign > 0
    edges = np.stack([graph.source[chosen], graph.target[chosen]], axis=1)
    return igraph.Graph(n=graph.n, edges=edges, edge_attrs={"weight": np.abs(graph.weight[chosen]).tolist()})


@dataclass(frozen=True)
class Stability:
    """Against γ⁺, (G,) each: mean pairwise NMI over seeds, communities of at least 3 units, share of units in them."""

    gammas: Array
    nmi: Array
    communities: Array
    covered: Array


def resolutions(graphs: Sequence[SignedGraph], points: int = 12) -> Array:
    """A geometric grid of γ⁺ from where only negative edges divide the graphs to where most positive ones cannot hold.

    It begins at a tenth of the smallest density of positive weights and ends at their mean, beyond which even a clique
    of average edges falls apart. Empty if there are no positive edges.
    """
    positive = [w for graph in graphs if (w := graph.weight[graph.weight > 0]).size]
    if not positive:
        return np.empty(0)
    low = min(graph.density for graph in graphs if graph.density > 0) / 10
    return np.geomspace(low, max(low * 1.01, float(np.mean([w.mean() for w in positive]))), points)


def stability(graph: SignedGraph, gammas: Array, gamma_negative: float, seeds: Sequence[int]) -> Stability:
    """How alike the partitions of different seeds are, at each resolution of signed Leiden CPM."""
    rows = []
    for gamma in gammas.tolist():
        partitions = [detect(graph, "cpm", [seed], gamma, gamma_negative).labels for seed in seeds]
        sizes = [np.bincount(labels) for labels in partitions]
        communities = np.median([(size >= SMALLEST).sum() for size in sizes])
        covered = np.mean([size[size >= SMALLEST].sum() / max(1, graph.n) for size in sizes])
        rows.append((mean_pairwise_nmi(partitions), communities, covered))
    columns = np.array(rows, float).reshape(-1, 3).T
    return Stability(gammas, *columns)


def average(profiles: Sequence[Stability]) -> Stability:
    """The mean of profiles on the same grid; of the numbers of communities the smallest."""
    nmi, covered = (np.mean([getattr(profile, name) for profile in profiles], axis=0) for name in ("nmi", "covered"))
    return Stability(profiles[0].gammas, nmi, np.min([profile.communities for profile in profiles], axis=0), covered)


def choose_resolution(profile: Stability) -> tuple[float, str]:
    """The γ⁺ in the middle of the longest stable stretch, and why in words.

    Stability is also perfect where all units are together or each is alone, so only resolutions count that give at
    least two communities and leave at most a tenth of the units in degenerate ones. Where there is none, the one that
    leaves fewest.

    Returns
    -------
    float
        NaN for an empty profile.
    str
    """
    if not len(profile.gammas):
        return float("nan"), "there are no positive edges, so that no resolution makes communities"
    sound = (profile.communities >= 2) & (profile.covered >= COVERED) & np.isfinite(profile.nmi)
    if not sound.any():
        at = int(np.argmax(profile.covered * (profile.communities >= 1) - (profile.communities < 2)))
        why = f"no resolution gives two communities that hold {COVERED:.0%} of the units"
        why += f"; here they hold most, {profile.covered[at]:.0%}"
        return float(profile.gammas[at]), why
    best = profile.nmi[sound].max()
    level = np.flatnonzero(sound & (profile.nmi >= best - PLATEAU))
    stretches = np.split(level, np.flatnonzero(np.diff(level) > 1) + 1)
    longest = max(stretches, key=len)
    at = int(longest[(len(longest) - 1) // 2])
    why = f"the partitions of different seeds are most alike here (mean pairwise NMI {profile.nmi[at]:.3f}"
    why += f", in the middle of {len(longest)} resolutions equally good to {PLATEAU:g})" if len(longest) > 1 else ")"
    return float(profile.gammas[at]), f"{why} among those with two or more communities of {COVERED:.0%} of the units"
