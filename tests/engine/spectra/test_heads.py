"""One layer's heads, each number against the explicit matrices."""

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.spectra import factored, heads, summaries

torch.set_num_threads(1)
H, KV, R, D = 6, 2, 5, 40


@pytest.fixture(scope="module")
def layer() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((H, R, D), (KV, R, D), (KV, R, D), (H, D, R))
    return tuple(torch.randn(shape, generator=generator) * 0.1 for shape in shapes)


GAIN = torch.linspace(0.2, 2.0, D)
PLAIN, CENTRED = factored.Fold(GAIN, False), factored.Fold(GAIN, True)
# The last pair: keys and values behind the norm of another layer.
FOLDS = [(None, None), (PLAIN, PLAIN), (CENTRED, CENTRED), (PLAIN, factored.Fold(GAIN.flip(0), False))]


@pytest.mark.parametrize("folds", FOLDS)
@pytest.mark.parametrize("rotated", [False, True])
def test_spectra_of_explicit_products(
    layer: tuple[Tensor, ...], folds: tuple[factored.Fold | None, factored.Fold | None], rotated: bool
) -> None:
    rotation = torch.linalg.qr(torch.arange(25.0, dtype=torch.float64).view(5, 5).sin()).Q if rotated else None
    found = heads.measure(*layer, folds=folds, rotation=rotation)
    w_q, w_k, w_v, w_o = (w.double() for w in layer)
    eye = torch.eye(D, dtype=torch.float64)
    by_query, by_key = (
        eye if fold is None or fold.gain is None else torch.diag(fold.gain.double()) @ (eye - float(fold.centre) / D)
        for fold in folds
    )
    w_q, w_k, w_v = w_q @ by_query, w_k @ by_key, w_v @ by_key
    for h in range(H):
        kv = h // (H // KV)
        middle = torch.eye(R, dtype=torch.float64) if rotation is None else rotation
        qk, ov = (w_q[h].T @ middle @ w_k[kv]).numpy(), (w_o[h] @ w_v[kv]).numpy()
        for which, product in (("qk", qk), ("ov", ov)):
            sigma = np.linalg.svd(product, compute_uv=False)[:R]
            np.testing.assert_allclose(found[f"{which}_eigenvalues"][h], sigma**2, rtol=1e-8)
            moduli = np.sort(np.abs(np.linalg.eigvals(product)))[::-1][:R]
            np.testing.assert_allclose(np.abs(found[f"{which}_complex_eigenvalues"][h]), moduli, rtol=1e-7)
        for name, matrix in (("wq", w_q[h].numpy()), ("wk", w_k[kv].numpy()), ("wqk", qk)):
            assert found[f"{name}_mean"][h] == pytest.approx(matrix.mean(), abs=1e-12)
            assert found[f"{name}_std"][h] == pytest.approx(matrix.std())
            standard = (matrix - matrix.mean()) / matrix.std()
            assert found[f"{name}_skew"][h] == pytest.approx((standard**3).mean(), abs=1e-5)
            assert found[f"{name}_kurtosis"][h] == pytest.approx((standard**4).mean() - 3, abs=1e-4)
            expected = np.quantile(standard, heads.PROBABILITIES)
            np.testing.assert_allclose(found[f"{name}_quantiles"][h], expected, atol=1e-9)
        unit = D**2 * w_q[h].square().mean() * w_k[kv].square().mean()
        assert found["unit_scale"][h] == pytest.approx(unit.item())
        assert found["ov_unit_scale"][h] == pytest.approx(
            (D**2 * w_o[h].square().mean() * w_v[kv].square().mean()).item()
        )


def test_statistics_are_those_of_the_spectra(layer: tuple[Tensor, ...]) -> None:
    found = heads.measure(*layer)
    for which, prefix in (("qk", ""), ("ov", "ov_")):
        values = found[f"{which}_eigenvalues"]
        np.testing.assert_allclose(found[f"{prefix}npr"], values.sum(1) ** 2 / (values**2).sum(1) / R)
        np.testing.assert_allclose(found[f"{prefix}kappa"], values[:, 0] / values[:, -1])
        np.testing.assert_allclose(found[f"{prefix}entropy"], summaries.entropy(values))
        assert all(found[prefix + name].shape == (H,) for name in heads.STATISTICS)


def test_shuffling_keeps_the_entries_and_loses_the_structure() -> None:
    """A rank-one head stays rank one; its shuffled self looks like noise and has the same entries."""
    w = torch.outer(torch.rand(R) + 0.5, torch.rand(D) + 0.5)[None]
    noise = torch.randn(1, R, D, generator=torch.Generator().manual_seed(1)) * 0.3
    q, o = w + noise, torch.randn(1, D, R)
    found = heads.measure(q, q, q, o, seed=3)
    unit = found["unit_scale"][0]
    assert found["leading"][0] / unit > 3 * found["shuffled_qk_eigenvalues"][0, 1:].max() / unit
    again = heads.measure(q, q, q, o, seed=3)
    np.testing.assert_array_equal(found["shuffled_qk_eigenvalues"], again["shuffled_qk_eigenvalues"])
    other = heads.measure(q, q, q, o, seed=4)
    assert not np.array_equal(found["shuffled_qk_eigenvalues"], other["shuffled_qk_eigenvalues"])
    permuted = heads.permuted(q[0], torch.Generator().manual_seed(0))
    assert permuted.flatten().sort().values.equal(q.flatten().sort().values)
    assert not permuted.equal(q[0])
    assert "shuffled_qk_eigenvalues" not in heads.measure(q, q, q, o, shuffle=False)


def test_threads_change_nothing(layer: tuple[Tensor, ...]) -> None:
    one = heads.measure(*layer)
    torch.set_num_threads(2)
    try:
        two = heads.measure(*layer)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    for name, values in one.items():
        np.testing.assert_array_equal(values, two[name])


def test_noise_lies_inside_the_product_law_and_outside_the_naive_one() -> None:
    generator = torch.Generator().manual_seed(2)
    q, k, v = (torch.randn(4, 64, 768, generator=generator) * 0.02 for _ in range(3))
    found = heads.measure(q, k, v, q.mT, shuffle=False)
    assert found["outside_law"].mean() < 1.5
    assert 9 < found["outside_naive"].mean() < 14
    upper = (found["qk_eigenvalues"] / found["unit_scale"][:, None] > 1.661).sum(1)
    assert np.all((upper >= 4) & (upper <= 7))  # the "spikes" that a single Marchenko–Pastur law would report
    # Eigenvalues of a product of Gaussians fill a disc; the largest comes close to its rim.
    rim = np.abs(found["qk_complex_eigenvalues"]).max(1) / found["null_radius"]
    assert np.all((rim > 0.8) & (rim < 1.25))


def test_radius_of_the_disc_with_a_gain() -> None:
    generator = torch.Generator().manual_seed(4)
    q, k = (torch.randn(8, 32, 400, generator=generator) for _ in range(2))
    gain = torch.ones(400)
    gain[:40] = 5.0
    found = heads.measure(q, k, k, q.mT, folds=(factored.Fold(gain, False),) * 2, shuffle=False)
    for which, prefix in (("qk", ""), ("ov", "ov_")):
        rim = np.abs(found[f"{which}_complex_eigenvalues"]).max(1) / found[f"{prefix}null_radius"]
        assert np.all((rim > 0.75) & (rim < 1.35))


def test_more_rank_than_width_leaves_no_structural_zeros() -> None:
    q, k, v = (torch.randn(2, 8, 6) for _ in range(3))
    found = heads.measure(q, k, v, torch.randn(2, 6, 8), folds=(factored.Fold(None, True),) * 2)
    assert found["qk_eigenvalues"].shape == (2, 5)
    assert np.all(found["kappa"] < 1e12)
    assert np.all(np.isfinite(found["ov_kappa"]))
