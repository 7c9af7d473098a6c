"""Regimes along depth against brute force and correlated noise; bootstrap intervals against scipy."""

from itertools import combinations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.spectra.bootstrap import interval
from engine.spectra.serial import noise
from engine.spectra.trends import phases, regimes, spearman, thirds, trend, u_shape


def test_thirds() -> None:
    np.testing.assert_allclose(thirds(np.arange(6.0)), [0.5, 2.5, 4.5])
    np.testing.assert_allclose(thirds(np.arange(8.0)), [0.5, 3.5, 6.5])  # 2, 4, 2 layers
    both = thirds(np.stack([np.arange(9.0), np.full(9, np.nan)]))
    np.testing.assert_allclose(both, [[1, 4, 7], [np.nan] * 3])
    np.testing.assert_allclose(thirds(np.array([np.nan, 1.0, 2, 3, 4, 5])), [1, 2.5, 4.5])


def test_u_shape() -> None:
    assert u_shape(np.array([4.0, 1.0, 2.0, 100.0, 6.0])) == pytest.approx(5 / 2)
    np.testing.assert_allclose(u_shape(np.stack([np.ones(5), 2 * np.ones(5)])), 1)
    assert np.isnan(u_shape(np.ones(2)))
    assert np.isnan(u_shape(np.array([1.0, np.nan, 1.0, 1.0])))


def rss(x: np.ndarray, breaks: tuple[int, ...]) -> float:
    return float(sum(np.square(part - part.mean()).sum() for part in np.split(x, breaks)))


@pytest.mark.parametrize("n", [6, 9, 13])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_the_breaks_are_the_best_of_all(n: int, count: int) -> None:
    x = np.random.default_rng(n).standard_normal(n).cumsum()
    choices = combinations(range(1, n), count)
    found = regimes(x)
    best = min(choices, key=lambda b: rss(x, b))
    assert found.breaks[count] == best
    assert found.rss[count] == pytest.approx(rss(x, best))
    np.testing.assert_allclose(found.means[count], [part.mean() for part in np.split(x, best)])


def test_three_regimes_are_found_and_called_three() -> None:
    rng = np.random.default_rng(0)
    levels = np.repeat([5.0, 1.0, 3.0], [5, 15, 12])  # S3's early, middle and late layers of Llama 3.1 8B
    found = regimes(levels + 0.3 * rng.standard_normal(32))
    assert found.supported == 2
    assert found.breaks[2] == (5, 20)
    assert max(found.p_values) < 0.05
    assert not found.is_slope
    assert regimes(levels).supported == 2  # without any noise


def test_phases_are_named_by_the_breaks_that_are_supported() -> None:
    noise = 0.01 * np.random.default_rng(3).standard_normal(12)
    three, two, one = (np.repeat(levels, 12 // len(levels)) for levels in ([0.0, 1, 3], [0.0, 1], [0.0]))
    assert phases(regimes(three + noise), 12) == ("early",) * 4 + ("transition",) * 4 + ("late",) * 4
    assert phases(regimes(two + noise), 12) == ("early",) * 6 + ("late",) * 6
    assert phases(regimes(one + noise), 12) == ("one phase",) * 12


def test_one_step_is_one_break_and_a_slope_is_a_slope() -> None:
    rng = np.random.default_rng(1)
    steps = [regimes(np.repeat([0.0, 3.0], [8, 16]) + 0.3 * rng.standard_normal(24)) for _ in range(200)]
    assert all(found.breaks[1] == (8,) and not found.is_slope and found.supported for found in steps)
    assert np.mean([found.supported == 2 for found in steps]) < 0.1  # 0.05 + 3 standard errors
    slope = np.linspace(0, 3, 24) + 0.1 * rng.standard_normal(24)
    assert regimes(slope).is_slope


@pytest.mark.parametrize("phi", [0.0, 0.8])
@pytest.mark.parametrize("n", [8, 12])
def test_noise_has_no_regimes_however_alike_its_neighbours_are(n: int, phi: float) -> None:
    series = noise(phi, n, 200, np.random.default_rng(n))
    assert np.mean([regimes(x).supported > 0 for x in series]) < 0.096  # 0.05 + 3 standard errors


@given(st.integers(0, 10**6), st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
@settings(max_examples=30, deadline=None)
def test_regimes_know_neither_unit_nor_origin(seed: int, shift: float, scale: float) -> None:
    x = np.random.default_rng(seed).standard_normal(12)
    a, b = regimes(x), regimes(shift / 1e6 * scale + scale * x)
    assert (a.supported, a.breaks) == (b.supported, b.breaks)
    assert a.p_values == pytest.approx(b.p_values)


def test_the_first_layer_may_be_a_regime_of_its_own() -> None:
    found = regimes(np.array([0.872, 0.131, 0.158, 0.163, 0.165, 0.131]))  # Henrici departure of a small trained GPT-2
    assert found.supported == 1
    assert found.breaks[1] == (1,)


def test_absent_layers_and_short_models() -> None:
    levels = np.repeat([5.0, 1.0], [8, 8]) + 0.1 * np.random.default_rng(2).standard_normal(16)
    levels[3] = np.nan
    assert regimes(levels).breaks[1] == (8,)
    for n in (1, 2, 3):
        found = regimes(np.arange(float(n)))
        assert (found.supported, len(found.breaks)) == (0, 1)
    assert regimes(np.full(6, np.nan)).supported == 0
    flat = regimes(np.ones(10))
    assert (flat.supported, flat.p_values[0]) == (0, 1.0)


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_intervals_agree_with_scipy(statistic: str) -> None:
    samples = np.random.default_rng(0).lognormal(size=(3, 150))
    found = interval(samples, np.random.default_rng(1), statistic, draws=20_000)
    for row, ends in zip(samples, found, strict=True):
        expected = scipy.stats.bootstrap(
            (row,),
            getattr(np, statistic),
            n_resamples=20_000,
            batch=2000,
            method="percentile",
            rng=np.random.default_rng(2),
        )
        width = expected.confidence_interval.high - expected.confidence_interval.low
        np.testing.assert_allclose(ends, expected.confidence_interval, atol=0.06 * width)


@pytest.mark.parametrize(("statistic", "truth"), [("mean", 0.0), ("median", 0.0)])
def test_ninety_five_percent_is_ninety_five_percent(statistic: str, truth: float) -> None:
    samples = np.random.default_rng(3).standard_normal((600, 80))
    low, high = interval(samples, np.random.default_rng(4), statistic, draws=600).T
    covered = np.mean((low <= truth) & (truth <= high))
    assert 0.91 < covered < 0.975


@pytest.mark.parametrize("n", [2, 5, 8])
def test_medians_are_those_of_the_resamples(n: int) -> None:
    """The ends lie among the medians of all resamples, which can be enumerated for small n."""
    x = np.random.default_rng(n).standard_normal(n)
    picks = np.stack(np.meshgrid(*[np.arange(n)] * n, indexing="ij"), -1).reshape(-1, n) if n < 8 else None
    if picks is None:
        picks = np.random.default_rng(9).integers(0, n, (200_000, n))
    exact = np.quantile(np.median(x[picks], axis=1), [0.025, 0.975], method="inverted_cdf")
    found = interval(x, np.random.default_rng(5), "median", draws=40_000)
    np.testing.assert_allclose(found, exact, atol=1e-12)


def test_samples_that_are_missing_or_infinite() -> None:
    rng = np.random.default_rng(6)
    row = rng.standard_normal(200) + 5
    gaps = np.concatenate([row, np.full(100, np.nan)])
    for statistic in ("mean", "median"):
        whole = interval(row, np.random.default_rng(7), statistic)
        np.testing.assert_allclose(interval(gaps, np.random.default_rng(7), statistic), whole, atol=0.05)
        assert np.isnan(interval(np.array([1.0, np.nan, np.nan]), rng, statistic)).all()
    singular = np.append(row, np.inf)
    low, high = interval(singular, rng, "mean")
    assert 4.5 < low < 5.5
    assert high == np.inf
    assert np.isfinite(interval(singular, rng, "median")).all()


def test_same_seed_same_interval_and_rows_share_draws() -> None:
    samples = np.random.default_rng(8).standard_normal((2, 3, 50))
    samples[1] = samples[0]
    found = interval(samples, np.random.default_rng(9))
    assert found.shape == (2, 3, 2)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found, interval(samples, np.random.default_rng(9)))


def test_a_large_mean_costs_no_digits() -> None:
    x = np.random.default_rng(10).standard_normal(100)
    moved = interval(x + 1e9, np.random.default_rng(11)) - 1e9
    np.testing.assert_allclose(moved, interval(x, np.random.default_rng(11)), atol=1e-6)


def test_shapes_along_depth() -> None:
    rng = np.random.default_rng(0)
    x = np.arange(12)
    noise = 0.01 * rng.standard_normal((5, 12))
    profiles = {
        "rising": 0.5 + 0.03 * x,
        "falling": 0.5 - 0.03 * x,
        "bowl": 0.5 + 0.01 * (x - 5) ** 2,
        "arch": 0.5 - 0.01 * (x - 6) ** 2,
    }
    for i, (shape, profile) in enumerate(profiles.items()):
        found = trend(profile + noise[i])
        assert found.shape() == shape
        assert found.layers == 12
    assert trend(np.exp(0.4 * x)).shape() == "rising"  # bent, but no bowl
    assert trend(profiles["bowl"] + noise[0]).vertex == pytest.approx(5, abs=0.5)
    assert trend(profiles["rising"]).slope == pytest.approx(0.03)
    assert trend(profiles["bowl"]).curvature == pytest.approx(0.01)


@pytest.mark.parametrize("phi", [0.0, 0.8, 1.0])
@pytest.mark.parametrize("n", [6, 12, 24])
def test_trends_of_noise_are_no_more_frequent_than_their_level(n: int, phi: float) -> None:
    tests = [trend(row) for row in noise(phi, n, 200, np.random.default_rng(n))]
    assert np.mean([t.trend_p < 0.05 for t in tests]) < 0.096  # 0.05 + 3 standard errors
    assert np.mean([t.turn_p < 0.05 for t in tests]) < 0.096


def test_clear_trends_and_turns_are_seen() -> None:
    rng, x = np.random.default_rng(2), np.linspace(0, 1, 12)
    rises = [trend(10 * x + row) for row in 0.6 * noise(0.8, 12, 100, rng)]
    turns = [trend(40 * (x - 0.5) ** 2 + row) for row in 0.6 * noise(0.8, 12, 100, rng)]
    assert np.mean([t.shape() == "rising" for t in rises]) > 0.8
    assert np.mean([t.shape() == "bowl" for t in turns]) > 0.8


def test_spearman_against_scipy() -> None:
    values = np.array([0.3, 0.1, 0.5, np.nan, 0.5, 0.9, 0.8, 1.0])
    present = values[np.isfinite(values)]
    expected = scipy.stats.spearmanr(np.arange(len(present)), present)
    assert trend(values).spearman == pytest.approx(expected.statistic)
    rho, p = spearman(np.arange(8.0), values)
    assert (rho, p) == (pytest.approx(expected.statistic), pytest.approx(expected.pvalue, abs=0.02))
    assert trend(np.ones(9)).shape() == "no trend"
    assert np.isnan(trend(np.arange(4.0)).spearman)
