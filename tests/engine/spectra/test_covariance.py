"""Streamed covariance against numpy's on everything at once, and its invariants."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.spectra.covariance import Covariance

torch.set_num_threads(1)


def streamed(parts: list[np.ndarray]) -> Covariance:
    found = Covariance.zero(parts[0].shape[1])
    for part in parts:
        found.add(Covariance.of(torch.from_numpy(part)))
    return found


def vectors(n: int, d: int, offset: float = 0.0, seed: int = 0) -> np.ndarray:
    """With a spectrum that falls over three decades."""
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((n, d)) * np.geomspace(1, 0.03, d) @ np.linalg.qr(rng.standard_normal((d, d)))[0]
    return (mixed + offset).astype(np.float32)


def error(ours: np.ndarray, reference: np.ndarray) -> float:
    return float(np.abs(ours - reference).max() / np.abs(reference).max())


@pytest.mark.parametrize("offset", [0.0, 100.0, -3000.0])
@pytest.mark.parametrize("d", [7, 300])
def test_it_is_numpys_covariance_whatever_the_mean(offset: float, d: int) -> None:
    x = vectors(2000, d, offset)
    found, expected = streamed(np.array_split(x, 7)), np.cov(x.astype(np.float64).T)
    assert error(found.matrix.numpy(), expected) < 1e-6
    np.testing.assert_allclose(found.mean.numpy(), x.astype(np.float64).mean(0), rtol=1e-8, atol=1e-7)
    np.testing.assert_allclose(found.eigenvalues(), np.linalg.eigvalsh(expected)[::-1], rtol=1e-4)


def test_batches_whose_means_lie_far_apart() -> None:
    parts = [vectors(50, 12, offset, seed) for seed, offset in enumerate([0, 100, -300, 5])]
    whole = np.concatenate(parts).astype(np.float64)
    assert error(streamed(parts).matrix.numpy(), np.cov(whole.T)) < 1e-6


def test_vectors_in_float64_and_float16() -> None:
    x = vectors(400, 9)
    double = streamed([x.astype(np.float64)])
    np.testing.assert_allclose(double.matrix.numpy(), np.cov(x.astype(np.float64).T), rtol=1e-12, atol=1e-14)
    half = x.astype(np.float16)
    assert error(streamed([half]).matrix.numpy(), np.cov(half.astype(np.float64).T)) < 1e-6


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 60),
    st.integers(1, 12),
    st.lists(st.integers(0, 60), max_size=6),
    st.sampled_from([0.0, 100.0]),
    st.integers(0, 2**31),
    st.randoms(use_true_random=False),
)
def test_any_split_in_any_order_gives_the_same(n, d, cuts, offset, seed, random) -> None:
    x = vectors(n, d, offset, seed).astype(np.float64)
    parts = np.split(x, sorted(min(cut, n) for cut in cuts))  # some of them empty
    random.shuffle(parts)
    ours, once = streamed(parts), streamed([x])
    assert ours.count == once.count == n
    scale = np.abs(np.cov(x.T)).max()
    assert np.abs((ours.matrix - once.matrix).numpy()).max() <= 1e-10 * scale
    # (a + b) + c and a + (b + c)
    if len(parts) >= 3:
        left, right = streamed(parts[:2]), streamed(parts[1:])
        left.add(streamed(parts[2:]))
        first = streamed(parts[:1])
        first.add(right)
        assert np.abs((left.matrix - first.matrix).numpy()).max() <= 1e-10 * scale


def test_noise_has_the_spectrum_of_noise() -> None:
    """Marchenko and Pastur: edges (1 ± √(d/n))²."""
    n, d = 6000, 200
    values = streamed(np.array_split(np.random.default_rng(1).standard_normal((n, d)).astype(np.float32), 5))
    low, high = (1 - (d / n) ** 0.5) ** 2, (1 + (d / n) ** 0.5) ** 2
    assert values.eigenvalues()[0] == pytest.approx(high, rel=0.03)
    assert values.eigenvalues()[-1] == pytest.approx(low, rel=0.03)


def test_fewer_vectors_than_dimensions() -> None:
    x = vectors(5, 9)
    found = streamed([x[:2], x[2:]])
    assert found.rank == 4
    values = found.eigenvalues()
    assert np.isnan(values[4:]).all()
    np.testing.assert_allclose(values[:4], np.linalg.eigvalsh(np.cov(x.astype(np.float64).T))[::-1][:4], rtol=1e-5)
    single = streamed([x[:1]])
    assert single.rank == 0
    assert np.isnan(single.eigenvalues()).all()
    assert torch.isnan(single.matrix).all()


def test_packing_keeps_every_bit() -> None:
    found = streamed([vectors(40, 300, 3.0)])
    again = Covariance.unpacked(found.count, found.mean.numpy(), found.packed())
    assert torch.equal(again.scatter.tril(), found.scatter.tril())
    assert torch.equal(again.mean, found.mean)
    np.testing.assert_array_equal(again.eigenvalues(), found.eigenvalues())
    assert len(found.packed()) == 300 * 301 // 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu() -> None:
    x = vectors(3000, 300, 100.0)
    found = Covariance.zero(300, "cuda")
    for part in np.array_split(x, 4):
        found.add(Covariance.of(torch.from_numpy(part).cuda()))
    assert error(found.matrix.cpu().numpy(), np.cov(x.astype(np.float64).T)) < 1e-6
    again = Covariance.unpacked(found.count, found.mean.cpu().numpy(), found.packed(), "cuda")
    assert torch.equal(again.scatter.tril(), found.scatter.tril())
