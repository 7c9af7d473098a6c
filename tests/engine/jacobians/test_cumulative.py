"""Cumulative products against the explicit product, against published step-by-step truncation, and where fp64 ends."""

import numpy as np
import pytest
import torch
from operator_stacks import stack
from torch import Tensor

from engine.jacobians.cumulative import Rows, compose
from engine.spectra.summaries import participation_ratio

torch.set_num_threads(1)


def product(jacobians: list[Tensor], layer: int) -> Tensor:
    """J_{L−1} … J_ℓ."""
    found = torch.eye(len(jacobians[0]), dtype=torch.float64)
    for j in jacobians[layer:]:
        found = j @ found
    return found


def test_exact_where_the_rank_covers_the_width() -> None:
    js = stack(24, 7)
    found = compose(reversed(js))
    for layer in range(7):
        expected = torch.linalg.svdvals(product(js, layer)).numpy()
        np.testing.assert_allclose(found.singular_values[layer] * np.exp(found.log_scale[layer]), expected, rtol=1e-10)
        assert found.effective_rank[layer] == pytest.approx(participation_ratio(expected**2))
        np.testing.assert_allclose(found.exponents[layer], np.log(expected) / (7 - layer), atol=1e-10)
    assert np.all(found.discarded == 0)
    assert np.all(np.diff(found.effective_rank) > 0)  # the funnel of random layers


def truncated(matrix: Tensor, rank: int) -> Tensor:
    u, s, vh = torch.linalg.svd(matrix)
    return (u[:, :rank] * s[:rank]) @ vh[:rank]


def test_one_truncation_is_all_that_step_by_step_truncation_does() -> None:
    js, rank = stack(30, 5), 8
    found = compose(reversed(js), rank)
    assert found.singular_values.shape == (5, rank)
    step = truncated(js[4], rank)
    for layer in range(4, -1, -1):
        if layer < 4:
            step = truncated(step @ js[layer], rank)
        expected = torch.linalg.svdvals(step)[:rank].numpy()
        np.testing.assert_allclose(found.singular_values[layer] * np.exp(found.log_scale[layer]), expected, rtol=1e-9)


def test_what_a_truncation_leaves_out_is_known() -> None:
    js, rank = stack(40, 4), 20
    left = torch.linalg.svd(js[3]).U[:, :rank]
    out = js[3] - left @ left.mT @ js[3]
    found = np.mean([compose(reversed(js), rank, seed).discarded for seed in range(30)], axis=0)
    for layer in range(4):
        whole = product(js, layer)
        missing = out @ product(js[:3], layer) if layer < 3 else out
        share = float(missing.square().sum() / whole.square().sum())
        assert found[layer] == pytest.approx(share, rel=0.1)


@pytest.mark.parametrize("gain", [1e30, 1e-30])
def test_long_products_neither_overflow_nor_vanish(gain: float) -> None:
    """40 factors of 1e±30 would leave fp64; scaled rotations have known singular values."""
    generator = torch.Generator().manual_seed(1)
    turns = torch.linalg.qr(torch.randn(40, 6, 6, generator=generator, dtype=torch.float64)).Q
    found = compose(reversed([gain * turn for turn in turns]))
    np.testing.assert_allclose(found.exponents, np.log(gain), rtol=1e-12)
    np.testing.assert_allclose(found.effective_rank, 6)
    assert abs(found.log_scale[0]) > 2700


def test_what_fp64_has_lost_is_not_given() -> None:
    """diag(1, 0.1)ⁿ: the second exponent is ln 0.1 until 0.1ⁿ passes the floor."""
    found = compose([torch.diag(torch.tensor([1.0, 0.1]))] * 30)
    second = found.exponents[:, 1]  # layer ℓ has 30 − ℓ factors
    np.testing.assert_allclose(second[17:], np.log(0.1), rtol=1e-6)
    assert np.isnan(second[:14]).all()
    np.testing.assert_allclose(found.exponents[:, 0], 0, atol=1e-12)


def test_a_layer_of_zeros_ends_everything_before_it() -> None:
    js = stack(5, 3)
    js[1] = torch.zeros(5, 5, dtype=torch.float64)
    found = compose(reversed(js), rank=2)
    assert found.log_scale[0] == found.log_scale[1] == -np.inf
    assert np.isnan(found.effective_rank[:2]).all()
    assert np.isnan(found.exponents[:2]).all()
    assert np.isfinite(found.effective_rank[2])


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_effective_rank_without_a_decomposition(dtype: torch.dtype) -> None:
    rows = Rows.of(1e200 * torch.randn(3, 4, 9, dtype=dtype, generator=torch.Generator().manual_seed(2)))
    np.testing.assert_allclose(rows.effective_rank(), participation_ratio(rows.singular_values().numpy() ** 2))
    np.testing.assert_allclose(
        rows.log_frobenius(), np.log(np.linalg.norm(rows.singular_values(), axis=-1)) + rows.log_scale.numpy()
    )
