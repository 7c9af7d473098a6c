"""Laws of norms against length find what was put in; S2's formulas and the exact values beside them."""

import numpy as np
import pytest
from scipy.optimize import curve_fit
from scipy.special import zeta

from engine.spectra import attention_theory as theory
from engine.spectra.norm_scaling import LAWS, curves, fit

LENGTHS = np.array([16.0, 32, 64, 128, 256, 512])
TRUE = {
    "constant": np.full(6, 1.3),
    "root": 0.4 * LENGTHS**0.5,
    "logarithm": 0.2 + 0.9 * np.log(LENGTHS),
    "power": 0.7 * LENGTHS**0.3,
}


@pytest.mark.parametrize("law", LAWS)
def test_each_law_is_found_and_its_coefficients_too(law):
    rng = np.random.default_rng(3)
    noisy = TRUE[law] * np.exp(0.01 * rng.normal(size=(2, 20, 6)))
    found = fit(noisy, LENGTHS)
    at = LAWS.index(law)
    # A law within 2 of the best is as good: a power or a logarithm may as well be flat.
    assert (found.aic[:, at] - found.aic.min(-1) < 2.5).all()
    for other in {"constant", "root", "logarithm"} - {law, *(["logarithm"] if law == "constant" else [])}:
        assert (found.aic[:, LAWS.index(other)] - found.aic[:, at] > 10).all(), other
    np.testing.assert_allclose(curves(found.coefficients, LENGTHS)[:, at].mean(0), TRUE[law], rtol=0.02)


def test_power_and_logarithm_agree_with_scipy():
    rng = np.random.default_rng(0)
    y = 0.5 * LENGTHS**0.35 * (1 + 0.05 * rng.normal(size=6))
    found = fit(y[None], LENGTHS)
    power, covariance = curve_fit(lambda n, c, b: c * n**b, LENGTHS, y, p0=(1, 0.3))
    np.testing.assert_allclose(found.coefficients[3], power, rtol=1e-5)
    assert found.exponent_se == pytest.approx(covariance[1, 1] ** 0.5, rel=1e-4)
    slope, intercept = np.polyfit(np.log(LENGTHS), y, 1)
    np.testing.assert_allclose(found.coefficients[2], [intercept, slope])
    residuals = y - curves(found.coefficients, LENGTHS)
    np.testing.assert_allclose(found.aic, 6 * np.log((residuals**2).mean(-1)) + 2 * np.array([2, 2, 3, 3]))


def test_what_differs_between_texts_but_not_with_length_does_not_hide_the_law():
    rng = np.random.default_rng(1)
    norms = TRUE["logarithm"] * np.exp(rng.normal(size=(30, 1))) * np.exp(0.01 * rng.normal(size=(30, 6)))
    found = fit(norms, LENGTHS)
    assert found.aic.argmin() == LAWS.index("logarithm")
    assert found.aic[LAWS.index("power")] - found.aic.min() > 10


def test_gaps():
    norms = np.broadcast_to(TRUE["power"], (4, 6)).copy()
    whole = fit(norms, LENGTHS).coefficients[3]
    norms[1, 3:] = np.nan  # a text that ends early is left out
    norms[:, 5] = np.nan  # a length that nothing reaches is passed over
    np.testing.assert_allclose(fit(norms, LENGTHS).coefficients[3], whole, rtol=1e-6)
    norms[:, 3:] = np.nan
    assert np.isnan(fit(norms, LENGTHS).aic).all()
    assert np.isnan(fit(np.full((4, 6), np.nan), LENGTHS).coefficients).all()


def test_effective_rank_of_a_power_law():
    assert theory.effective_rank(1000, 0) == pytest.approx(1000)
    n = 10**6
    harmonic = np.log(n) + np.euler_gamma
    assert theory.effective_rank(n, 1) == pytest.approx(harmonic**2 / zeta(2), rel=1e-4)
    assert theory.claimed_effective_rank(n, 1) == n / 2
    assert np.isnan(theory.claimed_effective_rank(n, 0.5))
    sigma = theory.power_law(50, 0.7)
    assert theory.effective_rank(50, 0.7) == pytest.approx(sigma.sum() ** 2 / (sigma @ sigma))


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.6, 0.9, 0.97])
def test_norms_of_random_attention_are_those_expected(sparsity):
    n = 300
    drawn = theory.random_attention(n, sparsity, np.random.default_rng(0))
    assert (np.count_nonzero(drawn, axis=1) == theory.kept(n, sparsity)).all()
    np.testing.assert_allclose(drawn.sum(1), 1)
    frobenius, spectral = theory.random_norms(n, sparsity)
    assert np.linalg.norm(drawn) == pytest.approx(frobenius, rel=0.03)
    assert np.linalg.norm(drawn, 2) == pytest.approx(spectral, rel=0.03)


def test_relaxation_goes_from_the_first_value_to_the_last():
    initial, final, tau = np.array([0.2, 1.0]), np.array([0.9, 0.1]), np.array([10.0, 100.0])
    np.testing.assert_allclose(theory.relaxed(initial, final, tau, 0), initial)
    np.testing.assert_allclose(theory.relaxed(initial, final, tau, 1e6), final)
    assert theory.relaxed(initial, final, tau, 10.0)[0] == pytest.approx(0.9 - 0.7 / np.e)


def test_counterexamples_expressivity_and_crossing():
    assert np.linalg.matrix_rank(theory.uniform(9)) == 1
    assert np.linalg.matrix_rank(theory.identity(9)) == 9
    assert theory.expressivity(40, 0, 1.0, 40) == pytest.approx(1)
    assert theory.expressivity(40, 0, 1.0, 10) == pytest.approx(0.25)
    assert theory.expressivity(40, 0.5, 100.0, 40) < theory.expressivity(40, 0.5, 2.0, 40) < 0.5
    x = np.array([0.0, 0.5, 1.0])
    falling, rising = np.array([[1.0, 0.5, 0.0], [1, 1, 1]]), np.array([[0.0, 0.25, 0.5], [0, 0, 0]])
    found = theory.crossing(x, falling, rising)
    assert found[0] == pytest.approx(2 / 3)
    assert np.isnan(found[1])
    assert theory.stability_margin(1.5) == 0.5
