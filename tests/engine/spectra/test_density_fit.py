"""The density fit: exact laws, samples of a known Pareto law, the library's own scan, and what is no power law."""

import numpy as np
import powerlaw
import pytest

from engine.spectra import density_fit, power_law
from engine.spectra.random_matrix import noise_eigenvalues


@pytest.mark.parametrize("a", [0.3, 0.8, 1.5])
def test_a_pure_rank_law_has_the_other_exponent(a: float) -> None:
    values = np.arange(1, 769.0) ** -a
    found = density_fit.fit(values, np.random.default_rng(0), draws=20)
    assert power_law.fit(values).alpha == pytest.approx(a)
    assert found.alpha == pytest.approx(1 + 1 / a, rel=0.01)
    assert found.p > 0.9  # closer to the law than any sample of it


def test_samples_of_a_pareto_law() -> None:
    """Above 2 a Pareto law of exponent 2.5, below it something else."""
    rng = np.random.default_rng(1)
    alphas, ps = [], []
    for _ in range(12):
        values = np.concatenate([2 * rng.random(500) ** (-1 / 1.5), rng.uniform(0.5, 2, 200)])
        found = density_fit.fit(values, rng, draws=30)
        alphas.append((found.alpha - 2.5) / found.se)
        ps.append(found.p)
        assert found.xmin == pytest.approx(2, rel=0.5)
        assert found.tail == (values >= found.xmin).sum()
    assert np.abs(np.mean(alphas)) < 1
    assert np.std(alphas) < 2
    assert np.median(ps) > 0.15  # p is uniform where the law holds


@pytest.mark.parametrize("n", [60, 300])
def test_the_scan_is_the_librarys(n: int) -> None:
    values = np.random.default_rng(2).lognormal(sigma=1.5, size=n)
    found = density_fit.fit(values, np.random.default_rng(0), draws=0)
    expected = powerlaw.Fit(
        values,
        xmin=(values.min() / 2, np.sort(values)[-density_fit.FEWEST]),
        parameter_ranges={"alpha": [1, None]},
        verbose=0,
    )
    assert found.alpha == pytest.approx(expected.power_law.alpha, rel=1e-3)
    assert found.xmin == expected.xmin
    assert found.ks == pytest.approx(expected.power_law.D, rel=1e-2)
    assert np.isnan(found.p)


def test_the_spectrum_of_noise_is_no_power_law() -> None:
    """Though along rank it looks like one: Marchenko–Pastur has an edge, not a tail."""
    values = noise_eigenvalues(np.random.default_rng(3), 1200, 300, 1.0)[0]
    found = density_fit.fit(values, np.random.default_rng(0), draws=60)
    assert power_law.fit(values).r2 > 0.9
    assert found.p < 0.1
    assert found.alpha > 10
    assert found.lognormal_ratio < 0


def test_steep_tails_are_not_cut_at_three() -> None:
    """The library's own range ends there."""
    values = np.random.default_rng(8).random(1500) ** (-1 / 3.5)
    found = density_fit.fit(values, np.random.default_rng(0), draws=0)
    assert found.alpha == pytest.approx(4.5, abs=4 * found.se)


def test_the_same_seed_gives_the_same_p_and_zeros_do_not_count() -> None:
    values = np.random.default_rng(6).lognormal(size=200)
    first = density_fit.fit(values, np.random.default_rng(7), 25)
    padded = np.concatenate([values, np.zeros(50), [np.nan, np.inf]])
    assert density_fit.fit(padded, np.random.default_rng(7), 25) == first


def test_too_few_values_leave_nothing() -> None:
    for values in (np.ones(100), np.arange(1.0, 15), np.zeros(200)):
        found = density_fit.fit(values, np.random.default_rng(0))
        assert np.isnan(found.alpha)
        assert found.tail == 0
