"""The laws against their cubic, their moments and simulation; the null against brute force."""

import numpy as np
import pytest
import torch
from numpy.polynomial import Polynomial
from scipy import stats

from engine.spectra import random_matrix as rm
from engine.spectra import summaries
from engine.spectra.factored import Fold
from engine.spectra.p_values import two_sided_p

torch.set_num_threads(1)
GPT2 = 64 / 768


def brute_force(rng: np.random.Generator, draws: int, r: int, d: int, fold: np.ndarray | None = None) -> np.ndarray:
    """λ of the explicit d×d product of whole Gaussian matrices, in units of d²σ_A²σ_B² of their own entries."""
    out = []
    for _ in range(draws):
        a, b = 3.0 * rng.standard_normal((r, d)), 0.1 * rng.standard_normal((r, d))
        if fold is not None:
            a, b = a @ fold, b @ fold
        sigma = np.linalg.svd(a.T @ b, compute_uv=False)[:r]
        out.append(sigma**2 / (d**2 * np.mean(a**2) * np.mean(b**2)))
    return np.array(out)


def test_edges_of_gpt2_shapes() -> None:
    assert rm.product_law_edges(GPT2) == pytest.approx((0.3782, 2.0368), abs=1e-4)
    assert rm.marchenko_pastur_edges(GPT2) == pytest.approx((0.506, 1.661), abs=1e-3)


@pytest.mark.parametrize("c", [1e-3, GPT2, 0.25, 0.9, 1.0, 2.0])
def test_edges_are_where_the_discriminant_changes_sign(c: float) -> None:
    x = Polynomial([0, 1])
    a, b, e, f = c**2, c**2 + 2 * c, Polynomial([1 + 2 * c, -1]), 1.0
    discriminant = 18 * a * b * e * f - 4 * b**3 * f + b**2 * e**2 - 4 * a * e**3 - 27 * a**2 * f**2 + 0 * x
    low, high = rm.product_law_edges(c)
    for edge in {low, high} - {0.0}:
        assert discriminant(edge * (1 - 1e-3)) * discriminant(edge * (1 + 1e-3)) < 0
    assert discriminant((low + high) / 2) < 0


@pytest.mark.parametrize("c", [0.01, GPT2, 0.25, 0.5, 0.9])
def test_moments_of_the_product_law(c: float) -> None:
    x = rm.law_grid(c, 5001)
    density = rm.product_law_density(x, c)
    moments = [np.trapezoid(density * x**k, x) for k in range(3)]
    assert moments == pytest.approx([1, 1, 1 + 2 * c], rel=1e-5)


@pytest.mark.parametrize("c", [1.0, 3.0])
def test_laws_from_square_factors_on(c: float) -> None:
    """The law of the nonzero λ is normalised; their mean is c, as all d_h have mean 1. At 0 the density has a pole."""
    x = np.concatenate((np.geomspace(1e-14, 1e-3, 4000), rm.law_grid(c, 5001)[1:]))
    x = np.unique(x)
    density = rm.product_law_density(x, c)
    assert np.trapezoid(density, x) == pytest.approx(1, rel=2e-3)
    assert np.trapezoid(density * x, x) == pytest.approx(c, rel=1e-3)
    low, high = rm.marchenko_pastur_edges(c)
    grid = low + np.geomspace(1e-10, high - low, 20_001)
    naive = rm.marchenko_pastur_density(grid, c)
    assert np.trapezoid(naive, grid) == pytest.approx(1, rel=2e-3)
    assert np.trapezoid(naive * grid, grid) == pytest.approx(c, rel=1e-3)


def test_naive_law_is_normalised_and_narrower() -> None:
    x = rm.law_grid(GPT2, 5001)
    assert np.trapezoid(rm.marchenko_pastur_density(x, GPT2), x) == pytest.approx(1, rel=1e-5)
    assert rm.marchenko_pastur_density(np.array([0.0, 0.45, 1.8]), GPT2).tolist() == [0, 0, 0]


def test_product_law_is_what_simulation_gives() -> None:
    """Large matrices with the c of GPT-2: the law fits, the naive one does not, and NPR is 1/(1 + 2c) = 0.857."""
    values = brute_force(np.random.default_rng(0), 2, 100, 1200)
    x = rm.law_grid(GPT2, 2001)
    for law, fits in ((rm.product_law_density, True), (rm.marchenko_pastur_density, False)):
        cumulative = np.concatenate(([0], np.cumsum(np.diff(x) * (law(x, GPT2)[1:] + law(x, GPT2)[:-1]) / 2)))
        distance = stats.ks_1samp(values.ravel(), lambda v, c=cumulative: np.interp(v, x, c)).statistic
        assert bool(distance < 0.02) == fits
    assert summaries.normalised_participation_ratio(values).mean() == pytest.approx(1 / (1 + 2 * GPT2), abs=0.004)
    low, high = rm.product_law_edges(GPT2)
    assert np.mean((values < low) | (values > high)) < 0.02
    low, high = rm.marchenko_pastur_edges(GPT2)
    assert np.mean((values < low) | (values > high)) > 0.06


def test_null_of_gpt2_shapes() -> None:
    values = rm.null_eigenvalues(np.random.default_rng(0), 100, 64, 768)
    assert summaries.normalised_participation_ratio(values).mean() == pytest.approx(0.8556, abs=0.002)
    assert np.all(np.diff(values) <= 0)


@pytest.mark.parametrize(("r", "d"), [(2, 9), (5, 20), (6, 6), (8, 5)])
def test_null_is_the_distribution_of_whole_matrices(r: int, d: int) -> None:
    drawn = rm.null_eigenvalues(np.random.default_rng(1), 3000, r, d)
    brute = brute_force(np.random.default_rng(2), 1500, r, d)[:, : min(r, d)]
    assert drawn.shape[1] == brute.shape[1]
    same_distribution(drawn, brute)


@pytest.mark.parametrize("centre", [False, True])
def test_null_with_a_folded_norm(centre: bool) -> None:
    r, d = 4, 16
    gain = np.linspace(0.1, 3, d)
    matrix = np.diag(gain) @ (np.eye(d) - centre / d)
    fold = Fold(torch.from_numpy(gain), centre)
    drawn = rm.null_eigenvalues(np.random.default_rng(3), 3000, r, d, (fold, fold))
    same_distribution(drawn, brute_force(np.random.default_rng(4), 1500, r, d, matrix))
    plain = rm.null_eigenvalues(np.random.default_rng(3), 3000, r, d)
    npr = summaries.normalised_participation_ratio
    assert stats.ks_2samp(npr(drawn), npr(plain)).pvalue < 1e-6


def same_distribution(drawn: np.ndarray, brute: np.ndarray) -> None:
    for mode in {0, drawn.shape[1] // 2, drawn.shape[1] - 1}:
        assert stats.ks_2samp(drawn[:, mode], brute[:, mode]).pvalue > 1e-3
    for statistic in (summaries.normalised_participation_ratio, summaries.entropy, summaries.condition):
        assert stats.ks_2samp(statistic(drawn), statistic(brute)).pvalue > 1e-3


def test_null_does_not_depend_on_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small batches change which numbers are drawn, not from what; the count is what was asked."""
    monkeypatch.setattr(rm, "BATCH_BYTES", 8 * 9 * 7)
    values = rm.null_eigenvalues(np.random.default_rng(5), 500, 3, 12)
    assert values.shape == (500, 3)
    same_distribution(values, brute_force(np.random.default_rng(6), 1500, 3, 12))


def test_p_values_are_uniform_under_the_null() -> None:
    """Whole matrices of any scale against the null drawn from triangles."""
    null = rm.null_eigenvalues(np.random.default_rng(7), 4000, 6, 30)
    observed = brute_force(np.random.default_rng(8), 600, 6, 30)
    for statistic in (summaries.leading, summaries.normalised_participation_ratio, summaries.entropy):
        p = two_sided_p(statistic(null), statistic(observed))
        assert stats.kstest(p, "uniform").pvalue > 1e-3
        assert np.mean(p < 0.05) == pytest.approx(0.05, abs=0.03)
