"""Correlation graphs against numpy's own correlation matrix, and partitions and participation against definitions."""

import igraph
import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from engine.graphs import correlation
from engine.graphs.correlation import (
    SignedGraph,
    correlation_graph,
    mean_correlation,
    significant_correlation,
    standardise,
)
from engine.graphs.layout import place
from engine.graphs.participation import participation
from engine.graphs.partitions import ari, by_size, flow, lineage, nmi, proper

torch.set_num_threads(1)


@pytest.fixture
def activations() -> np.ndarray:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 30)) @ rng.standard_normal((30, 30)) + 100 * rng.standard_normal(30)
    x[:, 7] = 3.25
    return x


def by_hand(x: np.ndarray, k: int) -> dict[tuple[int, int], float]:
    """The definition, unit by unit."""
    r = np.corrcoef(x.T)
    np.fill_diagonal(r, 0)
    edges = {}
    for i, row in enumerate(r):
        for j in np.argsort(-np.abs(row))[:k]:
            edges[min(i, j), max(i, j)] = row[j]
    return edges


def test_the_graph_is_that_of_the_definition(activations):
    z, varies = standardise(torch.from_numpy(activations))
    assert np.flatnonzero(~varies).tolist() == [7]
    graph = correlation_graph(z, 4)
    expected = by_hand(activations[:, varies], 4)
    found = dict(zip(zip(graph.source.tolist(), graph.target.tolist(), strict=True), graph.weight, strict=True))
    assert found.keys() == expected.keys()
    assert all(found[edge] == pytest.approx(r, abs=1e-6) for edge, r in expected.items())
    assert (graph.weight < 0).any()
    assert (graph.weight > 0).any()


def test_blocks_of_rows_change_nothing(activations, monkeypatch):
    z, _ = standardise(torch.from_numpy(activations))
    whole = correlation_graph(z, 5)
    monkeypatch.setattr(correlation, "BLOCK_BYTES", 4 * 29 * 4)
    parts = correlation_graph(z, 5)
    np.testing.assert_array_equal(whole.source, parts.source)
    np.testing.assert_array_equal(whole.target, parts.target)
    np.testing.assert_allclose(whole.weight, parts.weight, atol=1e-6)


def test_more_edges_than_there_are_pairs_is_the_whole_matrix(activations):
    z, _ = standardise(torch.from_numpy(activations))
    assert len(correlation_graph(z, 100).weight) == 29 * 28 // 2


def test_one_unit_and_no_unit():
    for units in (0, 1):
        z, varies = standardise(torch.eye(5, units).double())
        assert varies.sum() == units
        assert correlation_graph(z, 3).weight.size == 0
    z, varies = standardise(torch.ones(5, 3))
    assert not varies.any()
    assert correlation_graph(z, 3).n == 0


def test_degree_and_density(activations):
    z, _ = standardise(torch.from_numpy(activations))
    graph = correlation_graph(z, 4)
    same = nx.Graph()
    same.add_nodes_from(range(graph.n))
    edges = zip(graph.source.tolist(), graph.target.tolist(), graph.weight, strict=True)
    same.add_weighted_edges_from((a, b, abs(w)) for a, b, w in edges)
    np.testing.assert_allclose(graph.degree, [same.degree(i, "weight") for i in range(graph.n)])
    assert graph.density == pytest.approx(graph.weight[graph.weight > 0].sum() / (29 * 28 / 2))


def test_the_mean_correlation_of_groups(activations):
    x = np.delete(activations, 7, axis=1)
    groups = np.random.default_rng(1).integers(-1, 4, 29)
    z, _ = standardise(torch.from_numpy(x))
    r = np.corrcoef(x.T)
    expected = [[r[np.ix_(groups == a, groups == b)].mean() for b in range(4)] for a in range(4)]
    np.testing.assert_allclose(mean_correlation(z, groups), expected, atol=1e-6)


def test_noise_rarely_reaches_significance():
    """Of 60 samples of 20 independent units, about one in twenty draws has any significant pair."""
    rng = np.random.default_rng(2)
    level = significant_correlation(60, 20)
    hits = 0
    for _ in range(400):
        r = np.corrcoef(rng.standard_normal((20, 60)))
        hits += bool((np.abs(r[np.triu_indices(20, 1)]) > level).any())
    assert stats.binomtest(hits, 400, 0.05).pvalue > 1e-3
    assert significant_correlation(2, 20) == 1
    assert significant_correlation(5, 1000) > 0.99


labels = st.lists(st.integers(0, 4), min_size=2, max_size=30)


@given(labels, st.randoms(use_true_random=False))
def test_nmi_and_ari_are_those_of_igraph_and_know_no_names(values, random):
    a = np.array(values)
    b = np.array([random.randrange(4) for _ in values])
    renamed = np.array([3, 1, 4, 0, 2])[a]
    assert nmi(a, renamed) == pytest.approx(1)
    assert ari(a, renamed) == 1
    assert 0 <= nmi(a, b) <= 1
    assert nmi(a, b) == pytest.approx(nmi(b, a), abs=1e-9)
    expected = igraph.compare_communities(values, b.tolist(), method="adjusted_rand")
    if np.isfinite(expected):  # 0/0 for two trivial partitions, which are equal
        assert ari(a, b) == pytest.approx(expected)


def test_nmi_by_the_entropies():
    a, b = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 1, 1])
    joint = np.histogram2d(a, b, bins=[3, 2])[0] / 6
    h = [stats.entropy(joint.sum(axis)) for axis in (0, 1)]
    mutual = stats.entropy(joint.ravel(), np.outer(joint.sum(1), joint.sum(0)).ravel())
    assert nmi(a, b) == pytest.approx(2 * mutual / sum(h))
    assert nmi(np.zeros(4, int), np.zeros(4, int)) == 1
    assert nmi(np.zeros(4, int), np.arange(4)) == 0
    assert np.isnan(nmi(np.empty(0, int), np.empty(0, int)))


def test_labels_are_numbered_by_size_and_small_ones_set_apart():
    found = by_size(np.array([7, 2, 2, 9, 2, 7, 5, 7, 2]))
    np.testing.assert_array_equal(found, [1, 0, 0, 2, 0, 1, 3, 1, 0])
    np.testing.assert_array_equal(proper(found), [1, 0, 0, -1, 0, 1, -1, 1, 0])


def test_flow_counts_every_unit_once_and_lineage_follows_the_majority():
    a = np.array([0, 0, 0, 0, 1, 1, 1, -1])
    b = np.array([1, 1, 1, 0, 0, 0, 2, 2])
    source, target, units = flow(a, b)
    assert dict(zip(zip(source.tolist(), target.tolist(), strict=True), units.tolist(), strict=True)) == {
        (0, 1): 3, (0, 0): 1, (1, 0): 2, (1, 2): 1, (-1, 2): 1,
    }  # fmt: skip
    np.testing.assert_array_equal(lineage(a, b, np.array([10, 11])), [11, 10, 12])


def test_participation_is_that_of_the_definition(activations):
    z, _ = standardise(torch.from_numpy(activations))
    graph = correlation_graph(z, 4)
    labels = by_size(np.random.default_rng(3).integers(0, 4, graph.n))
    weights = np.zeros((graph.n, graph.n))
    weights[graph.source, graph.target] = weights[graph.target, graph.source] = np.abs(graph.weight)
    p, within = participation(graph, labels)
    for i in range(graph.n):
        into = np.array([weights[i, labels == c].sum() for c in range(labels.max() + 1)])
        assert p[i] == pytest.approx(1 - ((into / into.sum()) ** 2).sum())
    own = np.array([weights[i, labels == labels[i]].sum() for i in range(graph.n)])
    for c in np.unique(labels):
        np.testing.assert_allclose(within[labels == c], stats.zscore(own[labels == c]), atol=1e-9)


def test_units_without_edges_have_no_participation_and_inner_units_none_of_it():
    graph = SignedGraph(5, np.array([0, 0, 1]), np.array([1, 2, 2]), np.array([0.5, -0.5, 0.5]))
    p, within = participation(graph, np.array([0, 0, 0, 1, 2]))
    np.testing.assert_array_equal(p, [0, 0, 0, np.nan, np.nan])
    assert np.isnan(within).all()  # all alike


def test_the_layout_keeps_communities_together_and_stays_where_it_was():
    rng = np.random.default_rng(4)
    labels = np.sort(rng.integers(0, 4, 80))
    same = labels[:, None] == labels
    weights = np.triu(np.where(rng.random(same.shape) < np.where(same, 0.4, 0.01), 0.5, 0), 1)
    a, b = np.nonzero(weights)
    graph = SignedGraph(80, a, b, weights[a, b])
    at = place(graph, by_size(labels), 0)
    assert np.isfinite(at).all()
    np.testing.assert_allclose(at.mean(0), 0, atol=1e-9)
    assert np.square(at).sum(1).mean() == pytest.approx(1)
    apart = np.linalg.norm(at[:, None] - at, axis=2)
    assert apart[same].mean() < 0.5 * apart[~same].mean()
    np.testing.assert_array_equal(at, place(graph, by_size(labels), 0))
    before = at @ np.array([[0.6, -0.8], [0.8, 0.6]])
    before[:5] = np.nan
    moved = place(graph, by_size(labels), 0, before)
    assert np.linalg.norm(moved[5:] - before[5:], axis=1).mean() < 0.3
