"""Relaxation fits on known curves, with and without noise, and against scipy's curve_fit."""

import numpy as np
import pytest
from scipy.optimize import curve_fit

from engine.spectra.relaxation import relax
from engine.spectra.serial import noise

STEPS = np.array([0.0, 32, 64, 128, 256, 512, 1024, 2048])


def curve(t: np.ndarray, tau: float, initial: float, final: float) -> np.ndarray:
    return final * (1 - np.exp(-t / tau)) + initial * np.exp(-t / tau)


def test_curves_without_noise_are_found_exactly() -> None:
    known = [(20.0, 1.0, 5.0), (150.0, 3.0, 0.5), (900.0, -1.0, 1.0), (3000.0, 0.0, 1e-6)]
    found = relax(STEPS, np.array([curve(STEPS, *one) for one in known]))
    np.testing.assert_allclose(found.tau, [one[0] for one in known], rtol=1e-5)
    np.testing.assert_allclose(found.initial, [one[1] for one in known], rtol=1e-5, atol=1e-10)
    np.testing.assert_allclose(found.final, [one[2] for one in known], rtol=1e-5)
    np.testing.assert_allclose(found.r2, 1)
    assert found.why == ("",) * 4
    np.testing.assert_allclose(found.curves(STEPS)[1], curve(STEPS, *known[1]), rtol=1e-5)


def test_the_fit_and_its_errors_are_those_of_curve_fit() -> None:
    rng = np.random.default_rng(0)
    for tau in (60.0, 300.0, 1000.0):
        y = curve(STEPS, tau, 2.0, 7.0) + 0.1 * rng.standard_normal(8)
        best, cov = curve_fit(curve, STEPS, y, p0=(tau, 2.0, 7.0))
        found = relax(STEPS, y[None])
        ours = [(found.tau, found.tau_se), (found.initial, found.initial_se), (found.final, found.final_se)]
        np.testing.assert_allclose([value[0] for value, _ in ours], best, rtol=1e-4)
        np.testing.assert_allclose([error[0] for _, error in ours], np.sqrt(np.diag(cov)), rtol=2e-3)


def test_the_standard_error_covers_the_truth() -> None:
    rng = np.random.default_rng(1)
    found = relax(STEPS, curve(STEPS, 200.0, 1.0, 4.0) + 0.1 * rng.standard_normal((400, 8)))
    within = np.abs(found.tau - 200) < 2.571 * found.tau_se  # Student's t, 5 degrees of freedom
    assert 0.9 < within.mean() < 0.99


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.full(8, 3.0), "does not change"),
        (np.where(np.arange(8) < 4, np.nan, np.arange(8.0)), "4 checkpoints; at least 5"),
        (1 + 0.01 * STEPS, "still moving"),
        (np.where(STEPS == 0, 1.0, 2.0), "before the second checkpoint"),
    ],
)
def test_what_cannot_be_fitted_is_said(values: np.ndarray, says: str) -> None:
    assert says in relax(STEPS, values[None]).why[0]


@pytest.mark.parametrize("phi", [0.0, 0.8, 1.0])
def test_noise_alone_rarely_has_a_relaxation_time(phi: float) -> None:
    fits = relax(STEPS, noise(phi, 8, 200, np.random.default_rng(2)))
    assert np.mean([not why for why in fits.why]) < 0.05


@pytest.mark.parametrize(
    "law", [3 * (1 + STEPS / 32) ** -0.5, np.log1p(STEPS / 32), np.sqrt(1 + STEPS / 32)], ids=["power", "log", "root"]
)
def test_other_laws_are_not_taken_for_a_relaxation(law: np.ndarray) -> None:
    fits = relax(STEPS, law + 0.02 * np.random.default_rng(4).standard_normal((50, 8)))
    assert "" not in fits.why
    assert np.mean(["fits as well" in why for why in fits.why]) > 0.9


def test_a_relaxation_is_told_from_other_laws() -> None:
    fits = relax(STEPS, curve(STEPS, 200.0, 1.0, 4.0) + 0.1 * np.random.default_rng(5).standard_normal((100, 8)))
    assert np.mean([why == "" for why in fits.why]) > 0.95


def test_absent_checkpoints_are_passed_over() -> None:
    y = curve(STEPS, 150.0, 3.0, 0.5)
    y[[2, 5]] = np.nan
    assert relax(STEPS, y[None]).tau[0] == pytest.approx(150, rel=1e-5)
