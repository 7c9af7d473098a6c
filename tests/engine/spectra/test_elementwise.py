"""Moments and quantiles of entries against scipy on the explicit matrices."""

import numpy as np
import pytest
import torch
from scipy import stats

from engine.spectra import elementwise

torch.set_num_threads(1)
PROBABILITIES = torch.tensor([0.01, 0.25, 0.5, 0.9, 0.999], dtype=torch.float64)


def heavy(*shape: int, scale: float = 0.02) -> torch.Tensor:
    """Entries that are skewed, heavy-tailed and not centred."""
    x = np.random.default_rng(shape[0]).gamma(0.5, size=shape) - 0.3
    return torch.from_numpy(x * scale)


def check(moments: elementwise.Moments, matrices: np.ndarray, rtol: float) -> None:
    flat = matrices.reshape(len(matrices), -1)
    np.testing.assert_allclose(moments.mean, flat.mean(1), rtol=1e-10, atol=1e-15)
    np.testing.assert_allclose(moments.std, flat.std(1), rtol=1e-10)
    np.testing.assert_allclose(moments.skew, stats.skew(flat, axis=1), rtol=rtol)
    np.testing.assert_allclose(moments.kurtosis, stats.kurtosis(flat, axis=1), rtol=rtol)


def test_moments_of_entries() -> None:
    w = heavy(3, 5, 40)
    check(elementwise.entry_moments(w), w.numpy(), 1e-9)


@pytest.mark.parametrize("scale", [1e-8, 0.02, 1e6])
@pytest.mark.parametrize(("heads", "kv"), [(3, 3), (4, 2)])
def test_moments_of_products(heads: int, kv: int, scale: float) -> None:
    a, b = heavy(heads, 5, 300, scale=scale), heavy(kv, 5, 300, scale=scale)
    explicit = torch.stack([a[h].T @ b[h // (heads // kv)] for h in range(heads)]).numpy()
    check(elementwise.product_moments(a, b), explicit, 1e-5)


def test_moments_of_chosen_rows() -> None:
    """With few rows the shape is theirs, about the mean and width of the whole product."""
    a, b, rows = heavy(1, 4, 50), heavy(1, 4, 50), torch.tensor([3, 17, 41])
    explicit = (a[0].T @ b[0]).numpy()
    z = (explicit[rows] - explicit.mean()) / explicit.std()
    found = elementwise.product_moments(a, b, rows)
    assert found.std[0].item() == pytest.approx(explicit.std())
    assert found.skew[0].item() == pytest.approx((z**3).mean(), rel=1e-5)
    assert found.kurtosis[0].item() == pytest.approx((z**4).mean() - 3, rel=1e-5)


def test_constant_matrices_have_no_shape() -> None:
    moments = elementwise.entry_moments(torch.ones(1, 3, 4))
    assert moments.std[0] == 0
    assert torch.isnan(moments.skew[0])
    assert torch.isnan(moments.kurtosis[0])


def standard_quantiles(x: np.ndarray) -> np.ndarray:
    return np.quantile((x - x.mean()) / x.std(), PROBABILITIES)


def test_quantiles_of_all_entries() -> None:
    a, b = heavy(2, 5, 30), heavy(1, 5, 30)
    generator = torch.Generator()
    of_a = elementwise.entry_quantiles(a, PROBABILITIES, 1000, generator)
    of_product = elementwise.product_quantiles(a, b, PROBABILITIES, 1000, generator)
    for h in range(2):
        np.testing.assert_allclose(of_a[h], standard_quantiles(a[h].numpy()))
        np.testing.assert_allclose(of_product[h], standard_quantiles((a[h].T @ b[0]).numpy()))


def test_quantiles_of_sampled_entries_are_close_and_repeatable() -> None:
    a, b = heavy(1, 8, 600), heavy(1, 8, 600)

    def sampled() -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        return (
            elementwise.entry_quantiles(a, PROBABILITIES, 3000, generator)[0],
            elementwise.product_quantiles(a, b, PROBABILITIES, 1 << 16, generator)[0],
        )

    of_a, of_product = sampled()
    np.testing.assert_allclose(of_a[:-1], standard_quantiles(a.numpy())[:-1], atol=0.1)
    np.testing.assert_allclose(of_product[:-1], standard_quantiles((a[0].T @ b[0]).numpy())[:-1], atol=0.1)
    assert all(torch.equal(x, y) for x, y in zip(sampled(), (of_a, of_product), strict=True))
