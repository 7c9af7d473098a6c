"""The power law along rank: exact laws, scipy's regression, refusals, and the noise that it must be compared with."""

import subprocess
import sys

import numpy as np
import pytest
import scipy.stats

from engine.errors import UserError
from engine.spectra import power_law, random_matrix


def test_a_fit_needs_no_torch() -> None:
    """The window's process fits again while a window is dragged, and must not pay for torch."""
    code = "import sys; from engine.spectra import power_law, trends; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_exact_law() -> None:
    ranks = np.arange(1, 201.0)
    found = power_law.fit(np.stack([3 * ranks**-0.8, 5 * ranks**-2.0]))
    np.testing.assert_allclose(found.alpha, [0.8, 2.0], rtol=1e-12)
    np.testing.assert_allclose(np.exp(found.intercept), [3, 5])
    np.testing.assert_allclose(found.r2, 1)
    assert np.all(found.se < 1e-10)
    assert (found.ranks[0], found.ranks[-1], len(found.ranks)) == (10, 100, 91)
    np.testing.assert_allclose(found.line()[0], 3 * found.ranks**-0.8)


def test_against_scipy() -> None:
    values = np.sort(np.random.default_rng(0).lognormal(size=(4, 60)))[:, ::-1]
    found = power_law.fit(values, 3, 50)
    for i, row in enumerate(values):
        expected = scipy.stats.linregress(np.log(np.arange(3, 51)), np.log(row[2:50]))
        assert found.alpha[i] == pytest.approx(-expected.slope)
        assert found.se[i] == pytest.approx(expected.stderr)
        assert found.r2[i] == pytest.approx(expected.rvalue**2)
        assert found.intercept[i] == pytest.approx(expected.intercept)


def test_the_window_is_clipped_and_refused_below_five_points() -> None:
    assert power_law.fit(np.arange(14.0, 0, -1)).points == 5
    with pytest.raises(UserError, match="ranks 10 to 100 of a spectrum of 13 values hold 4"):
        power_law.fit(np.ones(13))
    with pytest.raises(UserError, match="hold 0"):
        power_law.window(20, 30, 40)


def test_zeros_end_the_window() -> None:
    values = np.arange(1, 31.0) ** -1.0
    values[20:] = 0
    cut = power_law.fit(np.stack([values, np.where(np.arange(30) < 12, values, 0.0)]), 10, 30)
    assert cut.points.tolist() == [11, 3]
    assert cut.alpha[0] == pytest.approx(1)
    assert np.isnan([cut.alpha[1], cut.se[1], cut.r2[1], cut.intercept[1]]).all()


@pytest.mark.parametrize(("rows", "d"), [(300, 120), (80, 200)])
def test_noise_has_the_law_and_trace_that_it_should(rows: int, d: int) -> None:
    """Against explicit Gaussian data: same mean spectrum, and the R² near one that proves little."""
    rng = np.random.default_rng(1)
    found = random_matrix.noise_eigenvalues(rng, rows, d, trace=7.0, draws=20)
    assert found.shape == (20, min(rows, d))
    np.testing.assert_allclose(found.sum(1), 7.0)
    explicit = np.square(np.linalg.svd(rng.standard_normal((20, rows, d)), compute_uv=False))
    explicit *= 7 / explicit.sum(1, keepdims=True)
    np.testing.assert_allclose(found.mean(0), explicit.mean(0), rtol=0.12, atol=7 / d / 100)
    assert power_law.fit(found).r2.mean() > 0.85


def test_the_published_window_calls_noise_a_power_law() -> None:
    """Isotropic noise, 2,000 samples of 768 dimensions: R² of about 0.95 on ranks 10 to 100 (methods §1)."""
    found = power_law.fit(random_matrix.noise_eigenvalues(np.random.default_rng(2), 1999, 768, 1.0))
    assert found.r2[0] > 0.93
    assert 0.05 < found.alpha[0] < 0.3
