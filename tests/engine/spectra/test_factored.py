"""Factored spectra against the explicit d×d products, and against matrices whose singular values are known."""

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.spectra import factored

torch.set_num_threads(1)


def factors(heads: int, kv: int, r: int, d: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(heads * 100 + r)
    a, b = (torch.randn(n, r, d, generator=generator, dtype=torch.float64) for n in (heads, kv))
    return a.to(dtype), b.to(dtype)


def products(a: Tensor, b: Tensor, middle: Tensor | None = None) -> np.ndarray:
    """AᵀMB of every head, d×d, head by head."""
    m = torch.eye(a.shape[1], dtype=torch.float64) if middle is None else middle
    group = len(a) // len(b)
    return np.stack([(a[h].double().T @ m @ b[h // group].double()).numpy() for h in range(len(a))])


@pytest.mark.parametrize(("heads", "kv", "r", "d"), [(4, 4, 6, 30), (6, 2, 5, 24), (8, 1, 3, 10), (2, 2, 12, 7)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_singular_values_are_those_of_the_product(heads: int, kv: int, r: int, d: int, dtype: torch.dtype) -> None:
    a, b = factors(heads, kv, r, d, dtype)
    expected = np.linalg.svd(products(a, b), compute_uv=False)[:, : min(r, d)]
    found = factored.singular_values(a, b)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize(("heads", "kv"), [(4, 4), (6, 2)])
def test_a_matrix_in_the_middle(heads: int, kv: int) -> None:
    a, b = factors(heads, kv, 5, 20)
    middle = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64)).Q
    explicit = products(a, b, middle)
    np.testing.assert_allclose(
        factored.singular_values(a, b, middle), np.linalg.svd(explicit, compute_uv=False)[:, :5], rtol=1e-9
    )
    for found, product in zip(factored.eigenvalues(a, b, middle), explicit, strict=True):
        same_eigenvalues(found.numpy(), product)


def test_known_singular_values_over_eight_decades() -> None:
    """U diag(σ) Vᵀ split between the factors: σ of 1e-8 σ₁ comes back to 1e-6, where a Gram matrix has lost it."""
    rng = np.random.default_rng(1)
    sigma = np.logspace(0, -8, 9)
    u, v = (np.linalg.qr(rng.standard_normal((40, 9)))[0] for _ in range(2))
    mix = np.linalg.qr(rng.standard_normal((9, 9)))[0]
    a = torch.from_numpy(mix @ np.diag(np.sqrt(sigma)) @ u.T)[None]
    b = torch.from_numpy(mix @ np.diag(np.sqrt(sigma)) @ v.T)[None]
    np.testing.assert_allclose(factored.singular_values(a, b)[0], sigma, rtol=1e-6)


def same_eigenvalues(found: np.ndarray, product: np.ndarray) -> None:
    """`found` are the eigenvalues of largest modulus of `product`, and what is left there is rounding."""
    expected = list(np.linalg.eigvals(product))
    for value in found:
        nearest = min(expected, key=lambda z: abs(z - value))
        assert abs(nearest - value) < 1e-9 * abs(found[0])
        expected.remove(nearest)
    assert max(map(abs, expected), default=0.0) < 1e-9 * abs(found[0])


@pytest.mark.parametrize(("heads", "kv", "r", "d"), [(4, 4, 6, 20), (6, 2, 5, 24)])
def test_eigenvalues_are_those_of_the_product(heads: int, kv: int, r: int, d: int) -> None:
    a, b = factors(heads, kv, r, d)
    found = factored.eigenvalues(a, b).numpy()
    for values, product in zip(found, products(a, b), strict=True):
        same_eigenvalues(values, product)
    assert np.all(np.diff(np.abs(found)) < 1e-9)


def test_conjugate_pairs_stay_together_positive_first() -> None:
    a, b = factors(5, 5, 9, 30)
    for values in factored.eigenvalues(a, b).numpy():
        i = 0
        while i < len(values):
            if abs(values[i].imag) > 1e-9:
                assert values[i].imag > 0
                assert values[i + 1] == pytest.approx(values[i].conj())
                i += 1
            i += 1


@pytest.mark.parametrize("centre", [False, True])
def test_fold_is_a_product_of_matrices(centre: bool) -> None:
    w, _ = factors(2, 2, 4, 9)
    gain = torch.rand(9)
    explicit = torch.diag(gain.double())
    if centre:
        explicit = explicit @ (torch.eye(9, dtype=torch.float64) - torch.full((9, 9), 1 / 9, dtype=torch.float64))
    torch.testing.assert_close(factored.Fold(gain, centre)(w), w @ explicit)


def test_structural_rank() -> None:
    w, b = factors(1, 1, 8, 6)
    for fold, rank in ((None, 6), (factored.Fold(None, False), 6), (factored.Fold(None, True), 5)):
        assert factored.structural_rank(8, 6, fold) == rank
        sigma = factored.singular_values(fold(w) if fold else w, b)[0]
        assert int((sigma > 1e-12 * sigma[0]).sum()) == rank
