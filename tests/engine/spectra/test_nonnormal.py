"""Operator statistics on matrices whose spectra are known, and against scipy's Schur form."""

import time
from itertools import pairwise

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import UserError
from engine.spectra import cost
from engine.spectra.nonnormal import describe, forward_alignment

torch.set_num_threads(1)


def orthogonal(rng: np.random.Generator, d: int) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((d, d)))[0]


def normal(rng: np.random.Generator, moduli: list[float], angles: list[float]) -> np.ndarray:
    """A real normal matrix with the eigenvalues m·exp(±iθ)."""
    blocks = [
        m * np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]]) for m, t in zip(moduli, angles, strict=True)
    ]
    q = orthogonal(rng, 2 * len(moduli))
    return q @ scipy.linalg.block_diag(*blocks) @ q.T


def gaussian(seed: int, d: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((d, d)) / d**0.5)


def test_a_normal_matrix() -> None:
    rng = np.random.default_rng(0)
    moduli, angles = [3.0, 2.0, 0.9, 0.5], [0.3, 2.0, 1.2, 0.1]
    found = describe(torch.from_numpy(normal(rng, moduli, angles)), k=4)
    expected = [m * np.exp(s * 1j * t) for m, t in zip(moduli, angles, strict=True) for s in (1, -1)]
    np.testing.assert_allclose(found.eigenvalues, expected, atol=1e-12)
    np.testing.assert_allclose(found.singular_values, np.repeat(moduli, 2), rtol=1e-12)
    assert found.henrici < 1e-6
    assert found.self_alignment == pytest.approx(1, abs=1e-12)
    assert found.alignment_gap == pytest.approx(1 - 0.9 / 2)
    assert (found.expanding_fraction, found.complex_fraction) == (0.5, 1.0)
    assert found.spectral_radius == pytest.approx(3)


def test_a_shear_by_hand() -> None:
    """[[1, t], [0, 1]]: both eigenvalues 1, ‖J‖_F² = 2 + t²."""
    t = 1.5
    found = describe(torch.tensor([[1.0, t], [0.0, 1.0]]), k=1)
    assert found.henrici == pytest.approx(t / np.sqrt(2 + t**2))
    assert found.norm == pytest.approx(np.sqrt((2 + t**2) / 2))
    assert found.residual_norm == pytest.approx(t / np.sqrt(2))
    np.testing.assert_allclose(found.column_norm, [1, np.hypot(1, t)])
    np.testing.assert_allclose(found.singular_values, [2.0, 0.5])  # σ − 1/σ = t and det 1
    assert found.expanding_fraction == 0


def test_eigenvalues_through_a_skewed_basis() -> None:
    rng = np.random.default_rng(3)
    values = np.array([-2.0, 1.5, 0.7, 0.1, -0.05])
    basis = rng.standard_normal((5, 5))
    found = describe(torch.from_numpy(basis @ np.diag(values) @ np.linalg.inv(basis)))
    np.testing.assert_allclose(found.eigenvalues, values, atol=1e-10)
    assert (found.complex_fraction, found.expanding_fraction) == (0.0, 0.4)


def test_a_strictly_triangular_matrix_departs_entirely() -> None:
    j = torch.triu(gaussian(1, 30), 1)
    assert describe(j).henrici == 1
    assert describe(j + 0.01 * torch.eye(30)).henrici == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("d", [3, 40])
def test_henrici_is_the_mass_of_the_triangle_of_the_schur_form(d: int) -> None:
    j = gaussian(d, d) + torch.eye(d)
    t, _ = scipy.linalg.schur(j.numpy(), output="complex")
    expected = np.linalg.norm(np.triu(t, 1)) / np.linalg.norm(j)
    assert describe(j).henrici == pytest.approx(expected, abs=1e-10)


def test_random_operators_are_aligned_as_their_baseline_says() -> None:
    d, k, draws = 80, 20, 12
    found = [describe(gaussian(seed, d), k) for seed in range(draws)]
    own = [one.self_alignment for one in found]
    forward = [forward_alignment(a.left, b.right) for a, b in pairwise(found)]
    assert found[0].alignment_baseline == k / d
    for values in (own, forward):
        assert np.mean(values) == pytest.approx(k / d, abs=0.012)


def test_forward_alignment_of_layers_that_fit_and_that_miss() -> None:
    u = orthogonal(np.random.default_rng(5), 12)
    scale = np.array([5.0] * 3 + [0.1] * 9)
    first = describe(torch.from_numpy(u @ np.diag(scale)), k=3)  # writes into u[:, :3]
    reads = describe(torch.from_numpy(np.diag(scale) @ u.T), k=3)
    misses = describe(torch.from_numpy(np.diag(scale[::-1].copy()) @ u.T), k=3)
    assert forward_alignment(first.left, reads.right) == pytest.approx(1)
    assert forward_alignment(first.left, misses.right) == pytest.approx(0, abs=1e-12)


def test_the_residual_needs_no_eigenvalues_of_its_own() -> None:
    j = gaussian(2, 25) + torch.eye(25)
    r = j - torch.eye(25)
    shifted, own = describe(r, 5, describe(j).eigenvalues - 1), describe(r, 5)
    np.testing.assert_allclose(shifted.eigenvalues, own.eigenvalues, atol=1e-12)
    assert shifted.henrici == pytest.approx(own.henrici)
    assert describe(j).residual_norm == pytest.approx(own.norm)


def test_a_rotation_has_no_leading_subspace_and_says_so() -> None:
    found = describe(torch.from_numpy(orthogonal(np.random.default_rng(7), 10)), k=4)
    assert found.alignment_gap == pytest.approx(0, abs=1e-12)
    assert found.henrici < 1e-6


def test_k_is_at_most_d() -> None:
    found = describe(gaussian(4, 6))
    assert found.left.shape == (6, 6)
    assert (found.alignment_baseline, found.alignment_gap) == (1.0, 1.0)
    assert found.self_alignment == pytest.approx(1)


def test_rounding_is_not_rotation() -> None:
    j = torch.tensor([[1.0, 1e-7], [-1e-7, 1.0]], dtype=torch.float64)  # 1 ± 1e-7 i
    assert describe(j).complex_fraction == 0
    j[0, 1], j[1, 0] = 1e-5, -1e-5
    assert describe(j).complex_fraction == 1


def test_zero_and_broken_operators() -> None:
    zero = describe(torch.zeros(4, 4), k=2)
    assert np.isnan(zero.henrici)
    assert (zero.spectral_radius, zero.complex_fraction, zero.alignment_gap) == (0.0, 0.0, 0.0)
    with pytest.raises(UserError, match="not finite"):
        describe(torch.full((3, 3), torch.nan))


@settings(max_examples=30, deadline=None)
@given(st.integers(4, 16), st.integers(0, 10**6), st.floats(0.0, 2.0))
def test_an_orthogonal_change_of_basis_changes_nothing(d: int, seed: int, skip: float) -> None:
    rng = np.random.default_rng(seed)
    j = rng.standard_normal((d, d)) / np.sqrt(d) + skip * np.eye(d)
    q = orthogonal(rng, d)
    k = d // 2
    before, after, transposed = (describe(torch.from_numpy(m.copy()), k) for m in (j, q @ j @ q.T, j.T))
    for other in (after, transposed):
        np.testing.assert_allclose(other.singular_values, before.singular_values, atol=1e-10)
        np.testing.assert_allclose(np.abs(other.eigenvalues), np.abs(before.eigenvalues), atol=1e-6)
        assert other.henrici == pytest.approx(before.henrici, abs=1e-5)
        assert other.norm == pytest.approx(before.norm)
        assert other.residual_norm == pytest.approx(before.residual_norm)
        if before.alignment_gap > 1e-6:
            assert other.self_alignment == pytest.approx(before.self_alignment, abs=1e-6)
    assert 0 <= before.henrici <= 1
    # Two k-dimensional subspaces of d dimensions share at least 2k − d of them.
    assert max(0, 2 * k - d) / k - 1e-12 <= before.self_alignment <= 1 + 1e-12


def test_predicted_times_are_measured_ones_scaled() -> None:
    work = "svd"
    small = cost.seconds(work, cost.SMALL)
    assert cost.seconds(work, 2 * cost.SMALL) == pytest.approx(8 * small)
    matrix = gaussian(0, cost.SMALL)

    def again() -> float:
        start = time.perf_counter()
        torch.linalg.svd(matrix)
        return time.perf_counter() - start

    assert small < 10 * min(again() for _ in range(3))
    assert small > 0
    for other in ("eigenvalues", "complex_eigenvalues", "schur", "hermitian", "complex_product"):
        assert cost.seconds(other, 64) > 0
