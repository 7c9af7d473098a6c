"""Schur surgery against explicit products of explicit matrices, and on stacks whose answer is known."""

import numpy as np
import pytest
import torch
from operator_stacks import stack
from torch import Tensor

from engine.jacobians import surgery
from engine.jacobians.cumulative import compose
from engine.jacobians.surgery import DOSES, SchurForm, haar_unitary, operate
from engine.spectra.nonnormal import describe
from engine.spectra.summaries import participation_ratio

torch.set_num_threads(1)


def effective_rank(matrix: Tensor) -> float:
    return float(participation_ratio(np.linalg.svd(matrix.numpy(), compute_uv=False) ** 2))


@pytest.mark.parametrize("residual", [False, True])
def test_the_schur_form(residual: bool) -> None:
    j = stack(20, 1)[0]
    form = SchurForm.of(j, residual)
    torch.testing.assert_close(form.q.mH @ form.q, torch.eye(20, dtype=torch.complex128))
    assert float(form.triangle.tril().abs().max()) == 0
    torch.testing.assert_close(form.dosed(1.0), j.to(torch.complex128))
    told = describe(j)
    np.testing.assert_allclose(np.sort(form.eigenvalues.abs().numpy()), np.abs(told.eigenvalues)[::-1], rtol=1e-9)
    mass = float(torch.linalg.matrix_norm(form.triangle) / torch.linalg.matrix_norm(j))
    assert mass == pytest.approx(told.henrici, rel=1e-9)


def test_a_dose_keeps_the_spectrum_and_none_is_normal() -> None:
    j = stack(15, 1)[0]
    form = SchurForm.of(j)
    for dose in DOSES:
        found = torch.linalg.eigvals(form.dosed(dose))
        apart = (found[:, None] - form.eigenvalues[None, :]).abs()
        assert float(apart.amin(0).max()) < 1e-9
        assert float(apart.amin(1).max()) < 1e-9
    calm = form.dosed(0.0)
    torch.testing.assert_close(calm @ calm.mH, calm.mH @ calm)
    torch.testing.assert_close(form.dosed(0.25), 0.25 * j + 0.75 * calm)  # methods §6: αJ + (1−α)QΛQᴴ


def test_the_dose_response_is_that_of_the_explicit_products() -> None:
    js = stack(14, 4)
    found = operate(reversed(js), draws=1)
    for i, dose in enumerate(DOSES):
        dosed = [SchurForm.of(j).dosed(dose) for j in js]
        whole = torch.eye(14, dtype=torch.complex128)
        for layer in range(3, -1, -1):
            whole = whole @ dosed[layer]
            assert found.effective_rank[0, i, layer, 0] == pytest.approx(effective_rank(whole), rel=1e-9)
            assert found.log_frobenius[0, i, layer, 0] == pytest.approx(float(torch.linalg.matrix_norm(whole).log()))


@pytest.mark.parametrize("rank", [10, 64])
def test_the_model_itself_is_dose_one(rank: int) -> None:
    js = stack(24, 4)
    found, plain = operate(reversed(js), draws=1, rank=rank), compose(reversed(js), rank)
    np.testing.assert_allclose(found.effective_rank[0, DOSES.index(1.0), :, 0], plain.effective_rank, rtol=1e-8)
    frobenius = np.log(np.linalg.norm(plain.singular_values, axis=1)) + plain.log_scale
    np.testing.assert_allclose(found.log_frobenius[0, DOSES.index(1.0), :, 0], frobenius, rtol=1e-8)


def test_truncation_leaves_the_controls_as_they_are_where_little_is_lost() -> None:
    """A top layer of rank 6 loses nothing at rank 10, in all three constructions at dose 1 but the random one."""
    js = stack(16, 3)
    u, s, vh = torch.linalg.svd(js[-1])
    js[-1] = (u[:, :6] * s[:6]) @ vh[:6]
    whole, cut = (operate(reversed(js), doses=(1.0,), draws=2, rank=rank) for rank in (16, 10))
    for construction in (0, 2):
        np.testing.assert_allclose(
            cut.effective_rank[construction], whole.effective_rank[construction], rtol=1e-8, equal_nan=True
        )


def test_what_each_control_keeps_in_a_single_layer() -> None:
    j = stack(18, 1)
    found = operate(j, draws=3)
    main, random, haar = found.effective_rank[:, :, 0, :]
    np.testing.assert_allclose(haar, np.repeat(main[:, :1], 3, axis=1), rtol=1e-9)  # unitarily similar
    np.testing.assert_allclose(random[0], main[0, 0], rtol=1e-9)  # no dose, no G
    assert np.all(np.abs(random[4] / main[4, 0] - 1) > 1e-6)
    form = SchurForm.of(j[0])
    size = np.sqrt(float(form.eigenvalues.abs().square().sum() + form.triangle.abs().square().sum()))
    np.testing.assert_allclose(np.exp(found.log_frobenius[2, 4, 0]), size, rtol=1e-9)
    np.testing.assert_allclose(np.exp(found.log_frobenius[1, 4, 0]), size, rtol=0.1)  # the same mass but for Re⟨Λ, G⟩
    assert np.isnan(main[:, 1:]).all()


def test_the_controls_are_the_matrices_that_they_are_said_to_be() -> None:
    """Both controls rebuilt from the same stream of random numbers, as explicit products."""
    js, dose = stack(10, 3), 1.5
    found = operate(reversed(js), doses=(dose,), draws=2, seed=5)
    generator = torch.Generator().manual_seed(5)
    wholes: dict[tuple[int, int], Tensor] = {}
    for layer in (2, 1, 0):
        form = SchurForm.of(js[layer])
        diagonal = torch.diag(form.eigenvalues)
        for construction in (1, 2):
            for draw in (0, 1):
                g = torch.randn(10, 10, dtype=torch.complex128, generator=generator)
                if construction == 1:
                    g *= torch.linalg.matrix_norm(form.triangle) / torch.linalg.matrix_norm(g)
                    operated = form.q @ (diagonal + dose * g) @ form.q.mH
                else:
                    q, r = torch.linalg.qr(g)
                    q = q @ torch.diag(r.diagonal() / r.diagonal().abs())
                    operated = q @ (diagonal + dose * form.triangle) @ q.mH
                before = wholes.get((construction, draw), torch.eye(10, dtype=torch.complex128))
                wholes[construction, draw] = before @ operated
                assert found.effective_rank[construction, 0, layer, draw] == pytest.approx(
                    effective_rank(wholes[construction, draw]), rel=1e-9
                )


def test_normal_layers_have_nothing_to_remove() -> None:
    generator = torch.Generator().manual_seed(3)
    turns = torch.linalg.qr(torch.randn(4, 12, 12, generator=generator, dtype=torch.float64)).Q
    js = [turn @ torch.diag(torch.linspace(0.5, 2, 12, dtype=torch.float64)) @ turn.mT for turn in turns]
    found = operate(reversed(js), draws=2)
    np.testing.assert_allclose(found.effective_rank[0, 0, :, 0], found.effective_rank[0, 4, :, 0], rtol=1e-9)
    np.testing.assert_allclose(found.moved, 0, atol=1e-9)


def test_a_funnel_of_shared_triangles_dissolves() -> None:
    """Every layer feeds the same direction: the product collapses onto it, and without N nothing does."""
    d, layers = 16, 8
    j = torch.eye(d, dtype=torch.float64)
    j[0, 1:] = 1.0
    found = operate([j + 0.01 * n for n in stack(d, layers, 1.0, seed=4)], draws=2)
    by_dose = found.effective_rank[0, :, 0, 0]
    assert np.all(np.diff(by_dose) < 0)
    assert by_dose[4] < 2
    assert by_dose[0] > 4 * by_dose[4]
    assert np.all(found.effective_rank[1, 4, 0] > 2 * by_dose[4])  # the mass of N alone does not make the funnel


def test_mode_r_is_the_same_surgery() -> None:
    """J − I = Q(Λ − I + N)Qᴴ: what scaling N does to R, it does to J."""
    j = stack(12, 1)[0]
    form = SchurForm.of(j)
    for dose in DOSES:
        r_dosed = form.q @ (torch.diag(form.eigenvalues - 1) + dose * form.triangle) @ form.q.mH
        torch.testing.assert_close(r_dosed + torch.eye(12), form.dosed(dose))
    js = stack(12, 3)
    mode_j, mode_r = operate(reversed(js), draws=1), operate(reversed(js), draws=1, residual=True)
    np.testing.assert_allclose(mode_r.effective_rank[0, 4], mode_j.effective_rank[0, 4], rtol=1e-8)
    # Only the order of the eigenvalues can differ.
    np.testing.assert_allclose(mode_r.effective_rank[0, :, :, 0], mode_j.effective_rank[0, :, :, 0], rtol=0.15)


def test_haar_matrices_are_unitary_and_uniform() -> None:
    generator, like = torch.Generator().manual_seed(6), torch.zeros(4, 4)
    drawn = torch.stack([haar_unitary(like, generator) for _ in range(4000)])
    torch.testing.assert_close(drawn.mH @ drawn, torch.eye(4, dtype=torch.complex128).expand_as(drawn))
    traces = torch.einsum("nii->n", drawn)
    moments = [float((traces.abs() ** (2 * k)).mean()) for k in (1, 2)]
    assert moments[0] == pytest.approx(1, abs=0.06)  # E|tr U|^{2k} = k! for k ≤ d (Diaconis and Shahshahani 1994)
    assert moments[1] == pytest.approx(2, abs=0.3)
    assert abs(complex((traces**2).mean())) < 0.1  # QR without its phases fails here


def test_how_far_the_random_control_moves_the_spectrum() -> None:
    values = torch.tensor([3.0, 1.0j, -2.0], dtype=torch.complex128)
    shift = 0.1 * torch.eye(3, dtype=torch.complex128)
    expected = np.sqrt(3 * 0.01 / 14)
    assert surgery._distance(values, shift) == pytest.approx(expected)
    found = operate(reversed(stack(20, 2)), draws=2)
    assert np.all(found.moved > 0.01)


def test_same_seed_same_answer() -> None:
    js = stack(10, 2)
    one, same, other = (operate(reversed(js), draws=2, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.effective_rank, same.effective_rank)
    assert np.all(one.effective_rank[2, 0] != other.effective_rank[2, 0])
    np.testing.assert_allclose(one.effective_rank[0], other.effective_rank[0], rtol=1e-12, equal_nan=True)


def test_predicted_time_grows_with_the_work() -> None:
    assert surgery.seconds(256, 8) == pytest.approx(8 * surgery.seconds(256, 1))
    assert surgery.seconds(2048, 1, rank=2048) == pytest.approx(8 * surgery.seconds(1024, 1, rank=1024))
    assert surgery.seconds(1024, 1, draws=8) > surgery.seconds(1024, 1)
