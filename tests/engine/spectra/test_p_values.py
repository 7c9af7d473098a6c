"""p-values from ranks, and their correction."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.spectra.p_values import benjamini_hochberg, draws_for_one, smallest_p, two_sided_p

DRAWS = np.arange(1.0, 100.0)  # 99 of them


@pytest.mark.parametrize(
    ("observed", "p"), [(1000.0, 2 / 100), (-5.0, 2 / 100), (98.5, 4 / 100), (99.0, 4 / 100), (50.0, 1.0), (20.5, 0.42)]
)
def test_two_sided_p_by_hand(observed: float, p: float) -> None:
    assert two_sided_p(DRAWS, np.array(observed)) == pytest.approx(p)


def test_two_sided_p_of_what_is_absent_and_of_infinity() -> None:
    p = two_sided_p(DRAWS, np.array([np.nan, np.inf]))
    assert np.isnan(p[0])
    assert p[1] == pytest.approx(smallest_p(99))


def test_draws_for_one_is_the_least() -> None:
    for tests in (1, 48, 144, 1024):
        needed = draws_for_one(tests)
        alone = np.ones(tests)
        alone[0] = smallest_p(needed)
        assert benjamini_hochberg(alone)[0] <= 0.05 + 1e-12
        alone[0] = smallest_p(needed - 1)
        assert benjamini_hochberg(alone)[0] > 0.05


@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=30))
def test_benjamini_hochberg_by_its_definition(values: list[float]) -> None:
    """q_i is the smallest of m·p_(j)/j over all j whose p_(j) is at least p_i."""
    p = np.array(values)
    ordered = np.sort(p)
    steps = len(p) * ordered / np.arange(1, len(p) + 1)
    expected = [min(1.0, steps[ordered >= x].min()) for x in p]
    np.testing.assert_allclose(benjamini_hochberg(p), expected)


def test_missing_tests_make_the_others_upper_bounds() -> None:
    p = np.random.default_rng(0).random((4, 5)) ** 3
    partial = p.copy()
    partial[2:] = np.nan
    q, q_partial = benjamini_hochberg(p), benjamini_hochberg(partial)
    assert q.shape == p.shape
    assert np.isnan(q_partial[2:]).all()
    assert np.all(q_partial[:2] >= q[:2] - 1e-12)
    assert np.isnan(benjamini_hochberg(np.full(3, np.nan))).all()
