"""Summaries: known values, bounds and invariances."""

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from engine.spectra import summaries

spectra = st.integers(1, 12).flatmap(
    lambda n: arrays(np.float64, (3, n), elements=st.floats(1e-3, 1e3, allow_subnormal=False))
)
SHAPES = (
    summaries.participation_ratio,
    summaries.normalised_participation_ratio,
    summaries.entropy,
    summaries.effective_rank,
    summaries.stable_rank,
    summaries.condition,
)


def test_values_worked_out_by_hand() -> None:
    values = np.array([3.0, 2.0, 1.0])
    assert summaries.participation_ratio(values) == pytest.approx(36 / 14)
    assert summaries.normalised_participation_ratio(values) == pytest.approx(36 / 14 / 3)
    assert summaries.entropy(values) == pytest.approx(-(np.log(1 / 2) / 2 + np.log(1 / 3) / 3 + np.log(1 / 6) / 6))
    assert summaries.stable_rank(values) == pytest.approx(2.0)
    assert summaries.condition(values) == pytest.approx(3.0)
    assert (summaries.leading(values), summaries.total(values), summaries.total_square(values)) == (3.0, 6.0, 14.0)


@given(spectra)
def test_bounds(values: np.ndarray) -> None:
    n = values.shape[-1]
    slack = 1 + 1e-12
    for count in (summaries.participation_ratio, summaries.effective_rank, summaries.stable_rank):
        assert np.all(count(values) >= 1 / slack)
        assert np.all(count(values) <= n * slack)
    # Rényi entropies fall with their order: exp(H₁) ≥ pr = exp(H₂) ≥ … ≥ stable rank = exp(H_∞).
    assert np.all(summaries.effective_rank(values) * slack >= summaries.participation_ratio(values))
    assert np.all(summaries.participation_ratio(values) * slack >= summaries.stable_rank(values))


@given(spectra, st.floats(1e-100, 1e100), st.randoms())
def test_shape_knows_neither_scale_nor_order(values: np.ndarray, scale: float, random: Random) -> None:
    order = list(range(values.shape[-1]))
    random.shuffle(order)
    for statistic in SHAPES:
        np.testing.assert_allclose(statistic(values[:, order] * scale), statistic(values), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("n", [1, 5])
def test_flat_and_single_mode(n: int) -> None:
    flat, single = np.ones(n), np.eye(n)[0]
    assert summaries.participation_ratio(flat) == pytest.approx(n)
    assert summaries.entropy(flat) == pytest.approx(np.log(n))
    assert summaries.participation_ratio(single) == 1
    assert summaries.entropy(single) == 0


def test_zeros_and_nan() -> None:
    zeros, broken = np.zeros(4), np.array([1.0, np.nan])
    for statistic in SHAPES:
        assert np.isnan(statistic(zeros))
        assert np.isnan(statistic(broken))
    assert np.isinf(summaries.condition(np.array([2.0, 0.0])))
    assert summaries.total(zeros) == 0


def test_leading_axes_are_kept() -> None:
    values = np.random.default_rng(0).random((2, 3, 5))
    for statistic in SHAPES:
        assert statistic(values).shape == (2, 3)
        assert statistic(values)[1, 2] == pytest.approx(statistic(values[1, 2]))
