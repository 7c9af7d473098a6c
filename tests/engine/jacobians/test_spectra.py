"""Statistics of each sample's Jacobian against numpy's decompositions of the matrices."""

from functools import cache

import adapter_models as models
import numpy as np
import pytest
import torch
from torch import Tensor

from engine.jacobians import krylov, spectra
from engine.jacobians.closed import component_operators
from engine.jacobians.operators import Chain, Dense, Diagonal, Operator, Shared, chain
from engine.jacobians.spectra import condition_numbers, norms, sample_statistics, singular_values, top_singular_values
from engine.jacobians.state import ResidualState

torch.set_num_threads(1)
N, D = 3, 150
FALLING = 0.9 * torch.linspace(1, 0.01, D, dtype=torch.float64)


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def with_spectrum(sigma: Tensor, seed: int = 0) -> Tensor:
    """N random matrices with these singular values."""
    generator = torch.Generator().manual_seed(seed)
    d = len(sigma)
    u, v = (torch.linalg.qr(torch.randn(N, d, d, generator=generator, dtype=torch.float64))[0] for _ in "uv")
    return u * sigma @ v


def starting(*top: float, rest: Tensor = FALLING) -> Tensor:
    return torch.cat((torch.tensor(top, dtype=torch.float64), rest[len(top) :]))


SPECTRA = {
    "slowly falling": FALLING,
    "one large": starting(50.0),
    "two equal": starting(1.0, 1.0),
    "three equal": starting(1.0, 1.0, 1.0),
    "two close": starting(1.0, 1 - 1e-7),
    "two fairly close": starting(1.0, 1 - 1e-3),
    "second and third equal": starting(2.0, 1.0, 1.0),
    "second small": starting(1.0, rest=1e-4 * FALLING),
    "rank one": starting(1.0, rest=0 * FALLING),
    "rank two": starting(1.0, 0.3, rest=0 * FALLING),
    "rank ten": torch.cat((FALLING[:10], 0 * FALLING[10:])),
    "all equal": torch.ones(D, dtype=torch.float64),
    "zero": 0 * FALLING,
    "over fourteen decades": torch.logspace(0, -14, D, dtype=torch.float64),
    "tiny numbers": 1e-30 * FALLING,
}


@pytest.mark.parametrize(("dtype", "near"), [(torch.float64, 1e-10), (torch.float32, 2e-5)])
@pytest.mark.parametrize("name", SPECTRA)
def test_the_two_largest(name: str, dtype: torch.dtype, near: float) -> None:
    sigma = SPECTRA[name]
    found = top_singular_values(Dense(with_spectrum(sigma).to(dtype)))
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, sigma[:2].expand(N, 2), rtol=near, atol=near * float(sigma[0]) / 10)


@pytest.mark.parametrize("shape", [(40, 90), (90, 40), (3, 3), (2, 7), (5, 1), (1, 1)])
def test_any_shape(shape: tuple[int, int]) -> None:
    matrices = draw(N, *shape)
    expected = np.linalg.svd(matrices.numpy(), compute_uv=False)
    found = top_singular_values(Dense(matrices))
    wanted = min(2, min(shape))
    np.testing.assert_allclose(found[:, :wanted], expected[:, :wanted], rtol=1e-9)
    assert (found[:, wanted:] == 0).all()
    np.testing.assert_allclose(singular_values(Dense(matrices)), expected, rtol=1e-9)


def test_samples_do_not_depend_on_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    # Some converge early and leave; chunks of one sample; what does not converge in few columns.
    mixed = torch.cat([with_spectrum(sigma)[:1] for sigma in SPECTRA.values()])
    whole = top_singular_values(Dense(mixed))
    order = torch.randperm(len(mixed), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(top_singular_values(Dense(mixed)[order]), whole[order], rtol=1e-10, atol=1e-14)
    monkeypatch.setattr(spectra, "CHUNK_BYTES", 1)
    torch.testing.assert_close(top_singular_values(Dense(mixed)), whole, rtol=1e-10, atol=1e-14)
    monkeypatch.setattr(spectra, "MOST_COLUMNS", 12)
    torch.testing.assert_close(top_singular_values(Dense(mixed)), whole, rtol=1e-9, atol=1e-14)


def test_each_thread_takes_samples_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = torch.cat([with_spectrum(sigma)[:1] for sigma in SPECTRA.values()])
    whole = top_singular_values(Dense(mixed))
    monkeypatch.setattr(spectra, "AT_LEAST", 3)
    torch.set_num_threads(2)
    try:
        torch.testing.assert_close(top_singular_values(Dense(mixed)), whole, rtol=1e-10, atol=1e-14)
    finally:
        torch.set_num_threads(1)


def test_the_two_largest_come_without_any_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectra, "_decomposed", None)
    operator = chain(Shared(draw(D, 2 * D), N), Diagonal(draw(N, 2 * D).exp()), Shared(draw(2 * D, D), N))
    expected = torch.linalg.svdvals(operator.dense())[:, :2]
    dense = Chain.dense
    monkeypatch.setattr(Chain, "dense", lambda self: dense(self) if self.shape[0] == 1 else 1 / 0)
    torch.testing.assert_close(top_singular_values(operator), expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", SPECTRA)
def test_a_rough_guess_first_changes_nothing_but_the_time(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectra, "ROUGH_FROM", 2)
    monkeypatch.setattr(spectra, "_fast_bfloat16", lambda like: True)
    tried = []
    rough = Chain.rough
    monkeypatch.setattr(Chain, "rough", lambda self: tried.append(self) or rough(self))
    left, right = (torch.linalg.qr(draw(D, D + i))[0].float() for i in range(2))
    sigma = SPECTRA[name]
    found = top_singular_values(chain(Shared(left, N), Diagonal(sigma.float().expand(N, -1)), Shared(right, N)))
    assert tried
    np.testing.assert_allclose(found, sigma[:2].expand(N, 2), rtol=5e-5, atol=5e-6 * float(sigma[0]))


def test_rough_guesses_do_not_depend_on_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    # Some converge in the first steps and leave while others go on through several restarts.
    monkeypatch.setattr(spectra, "ROUGH_FROM", 2)
    monkeypatch.setattr(spectra, "_fast_bfloat16", lambda like: True)
    left, right = (torch.linalg.qr(draw(D, D + i))[0].float() for i in range(2))
    sigma = torch.stack([*SPECTRA.values()]).float()

    def found(rows: Tensor) -> Tensor:
        return top_singular_values(chain(Shared(left, len(rows)), Diagonal(rows), Shared(right, len(rows))))

    together = found(sigma)
    np.testing.assert_allclose(together / sigma[:, :1], (sigma / sigma[:, :1])[:, :2], rtol=5e-5, atol=5e-6)
    alone = torch.cat([found(row[None]) for row in sigma])
    np.testing.assert_allclose(together / sigma[:, :1], alone / sigma[:, :1], rtol=5e-5, atol=5e-6)


def test_neighbours_are_not_taken_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    # The second singular vector hardly shows in the starting vectors, its neighbour a few thousandths below does.
    monkeypatch.setattr(spectra, "ROUGH_FROM", 2)
    monkeypatch.setattr(spectra, "_fast_bfloat16", lambda like: True)
    d, faint = 600, 0.3
    sigma = torch.cat((torch.tensor([1.1, 1.004, 1.0]), torch.linspace(0.9, 0, d - 3)))
    start = torch.linalg.qr(krylov.draw(d))[0]
    vectors = torch.linalg.qr(torch.cat((start, draw(d, d - 2)), 1))[0]
    mixed = torch.linalg.qr(draw(d, d))[0]
    mixed[1, :2] *= faint
    right = (torch.linalg.qr(mixed.T)[0].T @ vectors.T).float()
    left = torch.linalg.qr(draw(d, d))[0].float()
    found = top_singular_values(chain(Shared(left, 1), Diagonal(sigma[None]), Shared(right, 1)))
    np.testing.assert_allclose(found[0], sigma[:2], rtol=1e-4)


def test_a_rough_guess_is_made_exact_in_few_products(monkeypatch: pytest.MonkeyPatch) -> None:
    # Singular values of products of random matrices lie close together: the hard case of real Jacobians.
    monkeypatch.setattr(spectra, "ROUGH_FROM", 2)
    monkeypatch.setattr(spectra, "_fast_bfloat16", lambda like: True)
    monkeypatch.setattr(spectra, "_decomposed", None)
    columns = {torch.bfloat16: 0, torch.float32: 0}
    rows = Shared._rows

    def counted(self: Shared, x: Tensor, right: Tensor) -> Tensor:
        columns[right.dtype] += x.shape[0] * x.shape[2]
        return rows(self, x, right)

    monkeypatch.setattr(Shared, "_rows", counted)
    n, d = 24, 200
    slopes = (0.5 + 0.4 * draw(n, 4 * d)).float()
    operator = chain(
        Shared(draw(d, 4 * d).float() / d, n), Diagonal(slopes), Shared(draw(4 * d, d).float() / d**0.5, n)
    )
    expected = torch.linalg.svdvals(operator.dense().double())[:, :2]
    columns[torch.float32] = 0
    found = top_singular_values(operator)
    assert ((found - expected) / expected).abs().max() < spectra.TOLERANCE[torch.float32]
    # Two factors, each with its transpose: four products a column.
    assert columns[torch.float32] < 5 * 4 * n
    assert columns[torch.bfloat16] < 48 * 4 * n


def test_the_rough_operator_is_near() -> None:
    weight = draw(8, 8).float()
    for operator in (Shared(weight, 2), chain(Shared(weight, 2), Diagonal(draw(2, 8).float()), Shared(weight, 2))):
        v = draw(2, 8, 3).float()
        near = operator.rough().matmul(v)
        assert near.dtype == torch.bfloat16
        assert 1e-4 < (near - operator.matmul(v)).norm() / near.norm() < 2e-2
    dense = Dense(draw(2, 8, 8))
    assert dense.rough() is dense


@cache
def operators_of(name: str, context: str) -> dict[str, Operator]:
    block = models.block_of(name, 1, "all")
    lengths = torch.tensor([9, 4, 7, 1])
    return component_operators(
        block, ResidualState(draw(4, 9, block.heads.w_q.shape[2]), lengths, lengths - 1), context
    )


@pytest.mark.parametrize("context", ["in_context", "isolated"])
@pytest.mark.parametrize("name", models.CASES)
def test_every_family(name: str, context: str) -> None:
    for component, operator in operators_of(name, context).items():
        sigma = np.linalg.svd(operator.dense().numpy(), compute_uv=False)
        found = sample_statistics(operator)
        np.testing.assert_allclose(found["rho"], sigma[:, 0], rtol=1e-9)
        np.testing.assert_allclose(found["delta"], sigma[:, 1] / sigma[:, 0], rtol=1e-9)
        np.testing.assert_allclose(found["frobenius"], np.sqrt((sigma**2).sum(1)), rtol=1e-9)
        np.testing.assert_allclose(found["pr"], (sigma**2).sum(1) ** 2 / (sigma**4).sum(1), rtol=1e-9)
        with np.errstate(divide="ignore"):
            kappa = sigma[:, 0] / sigma[:, -1]
        sound = kappa < 1e11
        np.testing.assert_allclose(found["kappa"][sound], kappa[sound], rtol=1e-3)
        assert found["kappa"][torch.from_numpy(kappa > 1e15)].isinf().all()
        if models.block_of(name, 1, "all").attn_norm is not None and name in ("gpt2", "opt", "vit", "gpt_neox"):
            # LayerNorm takes the mean out: attention's Jacobian is singular, whatever rounding says.
            assert component != "attn" or found["kappa"].isinf().all()


def test_condition_numbers() -> None:
    sigma = torch.stack([torch.logspace(0, -power, 40, dtype=torch.float64) for power in (0, 1, 6, 11, 17)])
    matrices = torch.stack([with_spectrum(row)[0] for row in sigma])
    matrices = torch.cat((matrices, torch.zeros(1, 40, 40), torch.ones(1, 40, 40), torch.eye(40)[None]))
    found = condition_numbers(Dense(matrices), torch.linalg.svdvals(matrices)[:, 0])
    np.testing.assert_allclose(found[:3], [1, 10, 1e6], rtol=1e-8)
    assert found[3] == pytest.approx(1e11, rel=1e-3)
    assert found[4:7].isinf().all()
    assert found[7] == pytest.approx(1)
    in_single = condition_numbers(Dense(matrices.float()), torch.linalg.svdvals(matrices)[:, 0])
    assert in_single.isinf().tolist() == [False, False, True, True, True, True, True, False]


@pytest.mark.parametrize(("name", "factored"), [("gpt2", 0), ("opt", 0), ("llama", 4)])
def test_what_a_layernorm_makes_singular_is_not_factorised(
    name: str, factored: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A LayerNorm takes equal numbers out, whatever follows it; an RMSNorm leaves J regular.
    calls = []
    lu = torch.linalg.lu_factor_ex
    monkeypatch.setattr(torch.linalg, "lu_factor_ex", lambda matrix: calls.append(0) or lu(matrix))
    for component in ("attn", "mlp", "residual"):
        operator = operators_of(name, "in_context")[component]
        calls.clear()
        found = condition_numbers(operator, top_singular_values(operator)[:, 0])
        assert len(calls) == factored
        assert found.isinf().all() == (factored == 0)


def test_close_smallest_values() -> None:
    sigma = torch.cat((FALLING, torch.tensor([1e-5, 1e-5], dtype=torch.float64)))
    found = condition_numbers(Dense(with_spectrum(sigma)), sigma[:1].expand(N))
    np.testing.assert_allclose(found, 0.9e5, rtol=1e-6)


def test_only_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    operator = Dense(with_spectrum(FALLING))
    monkeypatch.setattr(spectra, "condition_numbers", None)
    monkeypatch.setattr(spectra, "norms", None)
    assert list(sample_statistics(operator, ("delta",))) == ["delta"]
    zero = sample_statistics(Dense(torch.zeros(1, 8, 8)), ("rho", "delta"))
    assert zero["rho"] == 0
    assert zero["delta"].isnan()


def test_norms_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    operator = Dense(with_spectrum(FALLING))
    monkeypatch.setattr(spectra, "CHUNK_BYTES", 1)
    frobenius, pr = norms(operator)
    np.testing.assert_allclose(frobenius, FALLING.norm().expand(N), rtol=1e-12)
    np.testing.assert_allclose(pr, (FALLING.square().sum() ** 2 / FALLING.pow(4).sum()).expand(N), rtol=1e-12)
