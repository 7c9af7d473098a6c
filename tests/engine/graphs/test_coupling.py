"""The three tests against scipy and loops, and their rates of false positives where there is nothing to find."""

import numpy as np
import pytest
import torch
from scipy import stats

from engine.graphs import coupling
from engine.graphs.coupling import boundary_effect, spearman, spearman_along_depth, tails, variance_captured
from engine.spectra.p_values import benjamini_hochberg
from engine.spectra.serial import noise

torch.set_num_threads(1)


def test_spearman_is_scipys_and_its_p_agrees():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(24)
    y = 0.5 * x + rng.standard_normal(24)
    x[3], y[5] = np.nan, np.nan
    found = spearman(x, y, 20000, rng)
    there = np.isfinite(x) & np.isfinite(y)
    assert found.n == 22
    assert found.rho == pytest.approx(stats.spearmanr(x[there], y[there]).statistic)

    def rho(values: np.ndarray) -> float:
        return stats.spearmanr(values, y[there]).statistic

    draws = np.array([rho(rng.permutation(x[there])) for _ in range(2000)])
    tail = np.mean(draws >= found.rho)
    expected = min(1.0, 2 * tail)
    assert found.p == pytest.approx(expected, abs=5 * 2 * np.sqrt(tail / 2000) + 1e-3)
    assert found.low < found.rho < found.high


def test_spearman_with_ties_and_few_pairs_is_exact():
    """All 120 permutations of five pairs, by scipy."""
    x, y = np.array([1.0, 2, 2, 4, 5]), np.array([2.0, 1, 4, 3, 5])
    exact = stats.permutation_test(
        (x,), lambda a: stats.spearmanr(a, y).statistic, permutation_type="pairings", n_resamples=np.inf
    )
    assert spearman(x, y, 50000, np.random.default_rng(1)).p == pytest.approx(exact.pvalue, abs=0.01)
    nothing = spearman(np.ones(5), y, 99, np.random.default_rng(1))
    assert np.isnan([nothing.rho, nothing.p]).all()
    assert np.isnan(spearman(x[:2], y[:2], 99, np.random.default_rng(1)).rho)
    perfect = spearman(y, y, 99, np.random.default_rng(1))
    assert perfect.rho == pytest.approx(1)
    assert np.isnan([perfect.low, perfect.high]).all()


@pytest.mark.parametrize("phi", [0.0, 0.8, 1.0])
def test_independent_series_along_depth_are_correlated_one_time_in_twenty(phi):
    rng = np.random.default_rng(7)
    tests = [spearman_along_depth(*noise(phi, 16, 2, rng), 499, np.random.default_rng(draw)) for draw in range(150)]
    assert np.mean([test.p < 0.05 for test in tests]) < 0.104  # 0.05 + 3 standard errors
    assert np.mean([test.low > 0 or test.high < 0 for test in tests]) < 0.2
    x = noise(phi, 16, 1, rng)[0]
    assert spearman_along_depth(x, x + 0.01 * rng.standard_normal(16), 499, rng).p < 0.05


def test_captured_variance_is_that_of_the_definition():
    rng = np.random.default_rng(2)
    jacobian = rng.standard_normal((20, 20))
    labels = np.array([0] * 6 + [1] * 5 + [2] * 3 + [-1] * 6)
    b = np.stack([(labels == c) / np.sqrt((labels == c).sum()) for c in range(3)], axis=1)
    found = variance_captured(torch.from_numpy(jacobian), labels, 400, rng)
    share = np.linalg.norm(b.T @ jacobian @ b) ** 2 / np.linalg.norm(jacobian) ** 2
    assert found.share == pytest.approx(share)
    assert found.sigma == pytest.approx(np.linalg.norm(b.T @ jacobian @ b, 2))
    draws = []
    for _ in range(2000):
        c = b[rng.permutation(20)]
        draws.append(np.linalg.norm(c.T @ jacobian @ c) ** 2 / np.linalg.norm(jacobian) ** 2)
    assert found.null_mean == pytest.approx(np.mean(draws), abs=5 * np.std(draws) / np.sqrt(400))
    assert found.null_std == pytest.approx(np.std(draws), rel=0.25)
    assert found.z == pytest.approx((share - found.null_mean) / found.null_std)
    tail = np.mean(np.array(draws) >= share)
    assert found.p == pytest.approx(tail, abs=5 * np.sqrt(tail / 400) + 1 / 401)


def test_draws_in_chunks_are_all_there():
    counted = coupling._chunked(lambda count: np.ones(count), 25, 8, 8 * 12)
    assert counted.sum() == 25


def test_a_jacobian_that_follows_the_communities_is_noticed_and_one_community_says_nothing():
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1, 2, 3], 10)
    jacobian = torch.from_numpy((labels[:, None] == labels) + rng.standard_normal((40, 40)))
    assert variance_captured(jacobian, labels, 100, rng).p == pytest.approx(1 / 101)  # above every draw
    assert np.isnan(variance_captured(jacobian, np.zeros(40, int), 100, rng).p)
    assert np.isnan(variance_captured(jacobian, np.full(40, -1), 100, rng).share)


def test_tails_take_all_ties_or_nothing():
    p = np.array([0.0] * 30 + list(np.linspace(0.1, 0.9, 69)) + [np.nan])
    top, bottom = tails(p)
    assert bottom.tolist() == list(range(30))
    assert top.tolist() == list(range(89, 99))
    assert not tails(np.zeros(50))[0].size
    assert not tails(np.array([0.1, 0.2, 0.3]))[0].size


def test_the_effect_and_its_p_agree_with_a_loop():
    rng = np.random.default_rng(4)
    p, norms = rng.random(200), rng.lognormal(size=200)
    norms[p > 0.9] += 0.8
    found = boundary_effect(p, norms, 20000, rng)
    a, b = norms[np.argsort(p)[-20:]], norms[np.argsort(p)[:20]]
    # t is d but for a factor that the sizes of the groups give.
    d = stats.ttest_ind(a, b).statistic * np.sqrt(1 / 20 + 1 / 20)
    assert found.d == pytest.approx(d)
    assert (found.top, found.bottom) == (20, 20)

    def statistic(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
        return stats.ttest_ind(x, y, axis=axis).statistic

    expected = stats.permutation_test((a, b), statistic, n_resamples=20000, vectorized=True, rng=rng).pvalue
    assert found.p == pytest.approx(expected, abs=5 * np.sqrt(2 * 2 * expected / 20000) + 1e-4)
    assert found.low < found.d < found.high


def test_unequal_tails_divide_as_they_are():
    rng = np.random.default_rng(5)
    p = np.concatenate([np.zeros(60), np.linspace(0.1, 1, 140)])
    norms = rng.standard_normal(200)
    found = boundary_effect(p, norms, 5000, rng)
    assert (found.top, found.bottom) == (20, 60)
    a, b = norms[180:], norms[:60]
    pooled = np.sqrt((19 * a.var(ddof=1) + 59 * b.var(ddof=1)) / 78)
    assert found.d == pytest.approx((a.mean() - b.mean()) / pooled)
    drawn = coupling._divided((norms - norms.mean()) / norms.std(), 20, 4000, rng)
    assert abs(drawn.mean()) < 5 * drawn.std() / np.sqrt(4000)


def test_norms_far_from_zero_lose_no_digits():
    rng = np.random.default_rng(6)
    p, norms = rng.random(100), rng.standard_normal(100)
    near, far = (boundary_effect(p, x, 999, np.random.default_rng(0)) for x in (norms, norms * 1e-4 + 1000))
    assert far.d == pytest.approx(near.d, rel=1e-6)
    assert far.p == pytest.approx(near.p, abs=0.003)
    assert np.isnan(boundary_effect(p, np.full(100, 2.0), 99, rng).d)


@pytest.mark.parametrize("draw", [np.random.Generator.standard_normal, np.random.Generator.standard_cauchy])
def test_without_coupling_false_positives_are_at_their_nominal_rate(draw):
    """Column norms that have nothing to do with participation, heavy tails included: p is uniform, FDR holds."""
    rng = np.random.default_rng(7)
    layers, worlds = 10, 80
    p = np.array(
        [
            [boundary_effect(rng.random(120).round(1), draw(rng, 120), 199, rng).p for _ in range(layers)]
            for _ in range(worlds)
        ]
    )
    hits = int((p < 0.05).sum())
    assert stats.binomtest(hits, p.size, 0.05).pvalue > 1e-3
    assert stats.kstest(p.ravel(), "uniform").statistic < 0.08
    any_found = sum(bool((benjamini_hochberg(row) < 0.05).any()) for row in p)
    assert stats.binomtest(any_found, worlds, 0.05, "greater").pvalue > 1e-3


def test_a_coupling_is_found():
    rng = np.random.default_rng(8)
    p = rng.random(400)
    assert boundary_effect(p, p + rng.standard_normal(400) * 0.5, 999, rng).p < 0.01
    assert boundary_effect(p, -p + rng.standard_normal(400) * 0.5, 999, rng).d < -0.5
