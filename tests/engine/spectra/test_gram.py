"""Singular values from blocks of columns, against spectra that are known because the matrix was made from them."""

import numpy as np
import pytest
import torch

from engine.spectra.gram import gram, relative_floor, singular_values, triangular

torch.set_num_threads(1)


def known(sigma: np.ndarray, columns: int, seed: int = 0) -> torch.Tensor:
    """A matrix (n, columns) with exactly these singular values and random singular vectors."""
    rng = np.random.default_rng(seed)
    n = len(sigma)
    u = np.linalg.qr(rng.standard_normal((n, n)))[0]
    v = np.linalg.qr(rng.standard_normal((columns, n)))[0]
    return torch.from_numpy(u * sigma @ v.T)


def blocks(matrix: torch.Tensor, width: int = 37) -> list[torch.Tensor]:
    return list(matrix.split(width, dim=1))


@pytest.mark.parametrize("route", ["gram", "svd"])
def test_a_known_spectrum(route):
    sigma = np.arange(1, 21) ** -0.7
    np.testing.assert_allclose(singular_values(blocks(known(sigma, 300)), route), sigma, rtol=1e-10)


def test_the_gram_route_loses_what_the_other_keeps():
    sigma = np.array([1.0, 1e-2, 1e-5, 1e-7, 1e-9, 1e-11])
    g = blocks(known(sigma, 200))
    by_gram, by_svd = singular_values(g, "gram"), singular_values(g, "svd")
    lost = relative_floor("gram", torch.float64)
    assert lost == pytest.approx(1e-8, rel=0.1)
    np.testing.assert_allclose(by_gram[sigma > 10 * lost], sigma[sigma > 10 * lost], rtol=0.02)
    assert abs(by_gram[-1] / sigma[-1] - 1) > 0.5
    np.testing.assert_allclose(by_svd, sigma, rtol=1e-3)


def test_the_floor_is_never_below_the_rounding_of_the_gradients():
    assert relative_floor("gram", torch.float32) == pytest.approx(2.0**-24)
    assert relative_floor("svd", torch.float32) == pytest.approx(2.0**-24)
    assert relative_floor("svd", torch.float64) == pytest.approx(2.0**-53)
    assert relative_floor("gram", torch.bfloat16) == pytest.approx(2.0**-8)


@pytest.mark.parametrize("route", ["gram", "svd"])
def test_fewer_columns_than_rows_end_in_zeros(route):
    sigma = np.array([3.0, 2.0, 1.0])
    g = known(sigma, 9).mT.contiguous()
    found = singular_values(blocks(g, 2), route)
    assert len(found) == 9
    np.testing.assert_allclose(found[:3], sigma, rtol=1e-10)
    np.testing.assert_allclose(found[3:], 0, atol=1e-7)


def test_sums_of_single_precision_blocks_are_double():
    g = torch.randn(6, 5000, generator=torch.Generator().manual_seed(0))
    exact = g.double() @ g.double().mT
    torch.testing.assert_close(gram(blocks(g, 64)), exact, rtol=1e-12, atol=1e-12)
    r = triangular(blocks(g, 64))
    torch.testing.assert_close(r.mT @ r, exact, rtol=1e-12, atol=1e-10)


def test_no_columns():
    with pytest.raises(ValueError, match="no columns"):
        singular_values([], "gram")
