"""Communities are found where they were planted, with the signs that were planted, and odd graphs keep going."""

import networkx as nx
import numpy as np
import pytest

from engine.graphs import detect as module
from engine.graphs.correlation import SignedGraph
from engine.graphs.detect import Stability, choose_resolution, detect, resolutions, stability
from engine.graphs.partitions import ari, nmi

SEEDS = [1, 2, 3]


def graph_of(matrix: np.ndarray) -> SignedGraph:
    a, b = np.nonzero(np.triu(matrix, 1))
    return SignedGraph(len(matrix), a, b, matrix[a, b].astype(float))


def planted(
    groups: int, size: int, seed: int, sign_between: int = -1, flipped: float = 0.0
) -> tuple[SignedGraph, np.ndarray]:
    """Positive edges within groups, edges of `sign_between` across; a share of edges has the other sign."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.repeat(np.arange(groups), size))
    same = truth[:, None] == truth
    there = rng.random(same.shape) < np.where(same, 0.5, 0.1)
    sign = np.where(same, 1, sign_between) * np.where(rng.random(same.shape) < flipped, -1, 1)
    return graph_of(np.where(there, sign * rng.uniform(0.2, 0.8, same.shape), 0)), truth


@pytest.mark.parametrize("detector", ["cpm", "modularity", "infomap"])
def test_a_planted_signed_partition_is_recovered(detector):
    graph, truth = planted(5, 20, 0, flipped=0.05)
    found = detect(graph, detector, SEEDS, gamma_positive=0.1)
    assert ari(found.labels, truth) == pytest.approx(1)
    assert found.communities == 5
    assert found.quality == max(found.qualities)


def test_signs_decide_where_weights_alone_cannot():
    """Two halves joined as densely across as within: only the sign tells them apart."""
    rng = np.random.default_rng(1)
    truth = np.repeat([0, 1], 25)
    same = truth[:, None] == truth
    weights = np.where(rng.random(same.shape) < 0.4, rng.uniform(0.3, 0.6, same.shape), 0)
    signed = graph_of(np.where(same, weights, -weights))
    assert ari(detect(signed, "cpm", SEEDS, 0.01).labels, truth) == 1
    assert ari(detect(signed, "modularity", SEEDS).labels, truth) == 1
    unsigned = graph_of(weights)
    assert ari(detect(unsigned, "modularity", SEEDS).labels, truth) < 0.5


def test_negative_edges_inside_cost_what_the_formula_says():
    graph, _ = planted(4, 8, 2, flipped=0.2)
    gammas = 0.15, 0.05
    found = detect(graph, "cpm", SEEDS, *gammas)
    inside = found.labels[graph.source] == found.labels[graph.target]
    sizes = np.bincount(found.labels)
    pairs = (sizes * (sizes - 1) / 2).sum()
    expected = graph.weight[inside].sum() - gammas[0] * pairs + gammas[1] * pairs
    assert found.quality == pytest.approx(expected)


def test_modularity_is_that_of_networkx():
    graph, _ = planted(4, 10, 3, sign_between=1)
    assert (graph.weight > 0).all()
    found = detect(graph, "modularity", SEEDS)
    same = nx.Graph()
    same.add_weighted_edges_from(zip(graph.source.tolist(), graph.target.tolist(), graph.weight, strict=True))
    communities = [set(np.flatnonzero(found.labels == c).tolist()) for c in np.unique(found.labels)]
    expected = nx.community.modularity(same, communities, weight="weight")
    assert found.quality / graph.weight.sum() == pytest.approx(expected)


@pytest.mark.parametrize("detector", ["cpm", "modularity", "infomap"])
def test_the_same_seeds_give_the_same_partition(detector):
    graph, _ = planted(6, 10, 4, flipped=0.35)
    a, b = (detect(graph, detector, SEEDS, 0.05) for _ in range(2))
    np.testing.assert_array_equal(a.labels, b.labels)
    assert a.qualities == b.qualities


@pytest.mark.parametrize("detector", ["cpm", "modularity", "infomap"])
def test_graphs_without_negative_without_positive_and_without_edges(detector):
    graph, _ = planted(3, 10, 5, sign_between=1)
    positive = detect(graph, detector, SEEDS, 0.2)
    assert positive.communities >= 1
    negative = SignedGraph(graph.n, graph.source, graph.target, -graph.weight)
    for lonely in (negative, graph_of(np.zeros((7, 7)))):
        found = detect(lonely, detector, SEEDS, 0.2)
        np.testing.assert_array_equal(found.labels, np.arange(lonely.n))
        assert found.communities == 0


def test_resolution_runs_from_one_community_to_none():
    graph, _ = planted(4, 15, 6, sign_between=1)
    gammas = resolutions([graph])
    low = detect(graph, "cpm", SEEDS, gammas[0] / 10)
    assert low.communities == 1
    assert gammas[0] == pytest.approx(graph.density / 10)
    assert detect(graph, "cpm", SEEDS, 1.0).communities == 0
    assert resolutions([graph_of(-np.ones((4, 4)))]).size == 0


def test_the_stability_profile_finds_the_planted_resolution():
    graph, truth = planted(6, 30, 7, flipped=0.05)
    profile = stability(graph, resolutions([graph]), 0.0, [1, 2, 3, 4])
    gamma, why = choose_resolution(profile)
    assert ari(detect(graph, "cpm", SEEDS, gamma).labels, truth) == pytest.approx(1)
    assert profile.nmi[np.argmin(np.abs(profile.gammas - gamma))] > 0.99
    assert "NMI" in why


def test_the_stability_is_the_mean_over_pairs(monkeypatch):
    partitions = {1: [0, 0, 1, 1], 2: [0, 1, 1, 1], 3: [0, 1, 0, 1]}
    monkeypatch.setattr(
        module, "detect", lambda g, d, seeds, *_: module.Partition(np.array(partitions[seeds[0]]), 0.0, (0.0,))
    )
    found = stability(graph_of(np.zeros((4, 4))), np.array([0.1]), 0.0, [1, 2, 3])
    a, b, c = (np.array(p) for p in partitions.values())
    assert found.nmi[0] == pytest.approx(np.mean([nmi(a, b), nmi(a, c), nmi(b, c)]))
    assert found.communities[0] == 0  # medians of 0, 1, 0 communities of three
    assert found.covered[0] == pytest.approx(0.25)


def test_the_choice_takes_the_middle_of_the_longest_stretch_and_no_trivial_resolution():
    gammas = np.geomspace(0.01, 1, 7)
    nmi_values = np.array([1.0, 0.95, 0.70, 0.945, 0.95, 0.948, 1.0])
    communities = np.array([1, 3, 4, 5, 6, 7, 0])
    covered = np.array([1, 1, 1, 1, 0.95, 0.9, 0.0])
    assert choose_resolution(Stability(gammas, nmi_values, communities, covered))[0] == gammas[4]
    lonely = Stability(gammas, nmi_values, np.zeros(7), np.zeros(7))
    gamma, why = choose_resolution(lonely)
    assert gamma in gammas
    assert "no resolution" in why
    gamma, why = choose_resolution(Stability(*(np.empty(0),) * 4))
    assert np.isnan(gamma)
    assert "no positive edges" in why
