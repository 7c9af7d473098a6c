"""Student's t against scipy, and intervals of a mean against their definition and their coverage."""

import numpy as np
import pytest
import scipy.stats

from engine.spectra import student


@pytest.mark.parametrize("df", [1, 2, 3, 9, 40, 400])
def test_against_scipy(df: int) -> None:
    for t in (0.0, 0.3, 1.0, 2.5, 6.0):
        assert student.two_sided(-t, df) == pytest.approx(2 * scipy.stats.t.sf(t, df), abs=1e-6)
    assert student.quantile(df) == pytest.approx(scipy.stats.t.ppf(0.975, df), rel=1e-5)
    assert np.isnan(student.two_sided(1.0, 0))
    assert np.isnan(student.two_sided(np.nan, df))


def test_intervals_of_a_mean() -> None:
    values = np.random.default_rng(0).normal(size=(4, 3))
    values[3, 1] = values[1:, 2] = np.nan
    low, mean, high = student.interval(values)
    for column in range(2):
        there = values[np.isfinite(values[:, column]), column]
        expected = scipy.stats.t.interval(0.95, len(there) - 1, there.mean(), scipy.stats.sem(there))
        assert (low[column], high[column]) == pytest.approx(expected, rel=1e-5)
        assert mean[column] == pytest.approx(there.mean())
    assert mean[2] == values[0, 2]
    assert np.isnan([low[2], high[2]]).all()


def test_intervals_hold_the_mean_as_often_as_they_say() -> None:
    low, _, high = student.interval(np.random.default_rng(1).normal(5, 2, size=(3, 4000)))
    assert np.mean((low < 5) & (high > 5)) == pytest.approx(0.95, abs=0.015)
