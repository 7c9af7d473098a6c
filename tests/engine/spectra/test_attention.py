"""Statistics of attention matrices against numpy, entry by entry, and on matrices of which they are known."""

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from engine.spectra import attention
from engine.spectra.sparsify import DOSES, sparser, sweep

torch.set_num_threads(1)


def random_attention(*shape: int, causal: bool, scale: float = 2.0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    logits = torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * scale
    if causal:
        logits = logits.masked_fill(torch.ones(shape[-2:]).triu(1).bool(), -torch.inf)
    return logits.softmax(-1).to(dtype)


@pytest.mark.parametrize("causal", [True, False])
def test_every_statistic_of_every_head_against_numpy(causal):
    matrices = random_attention(3, 2, 20, 20, causal=causal)
    lengths = torch.tensor([20, 20, 20])
    sigma = attention.singular_values(matrices)
    found = attention.statistics(matrices, lengths, causal, epsilon=0.2, singular=sigma)
    assert set(found) == set(attention.STATISTICS)
    for sample in range(3):
        for head in range(2):
            a = matrices[sample, head].numpy()
            s = np.linalg.svd(a, compute_uv=False)
            lam = np.sort(np.abs(np.linalg.eigvals(a)))[::-1]
            rows, columns = np.tril_indices(20) if causal else np.indices((20, 20)).reshape(2, -1)
            h = np.mean([entropy(row) for row in a])
            expected = {
                "entropy": h,
                "exp_entropy": np.exp(h),
                "sparsity": np.mean(a[rows, columns] < 0.2 / 20),
                "frobenius": np.linalg.norm(a),
                "spectral_norm": np.linalg.norm(a, 2),
                "stable_rank": np.linalg.norm(a) ** 2 / np.linalg.norm(a, 2) ** 2,
                "top_eigenvalue": 1,
                "second_eigenvalue": lam[1],
                "concentration": lam[0] ** 2 / (lam**2).sum(),
                "sink": a[1:, 0].mean(),
                "erank": np.exp(entropy(s)),
                "r_l1l2": s.sum() ** 2 / (s**2).sum(),
            }
            for name, value in expected.items():
                assert found[name][sample, head].item() == pytest.approx(value, rel=1e-7), name


def test_padding_changes_nothing():
    short, long = 9, 14
    matrices = torch.zeros(2, 1, long, long, dtype=torch.float64)
    matrices[0] = random_attention(1, long, long, causal=True)
    matrices[1] = random_attention(1, long, long, causal=True, scale=1)
    lengths = torch.tensor([long, short])
    clean = attention.without_padding(matrices, lengths)
    alone = clean[1:, :, :short, :short]
    padded = attention.statistics(clean, lengths, True, singular=attention.singular_values(clean))
    own = attention.statistics(alone, lengths[1:], True, singular=attention.singular_values(alone))
    for name, values in own.items():
        assert padded[name][1, 0].item() == pytest.approx(values[0, 0].item()), name
    assert attention.allowed(lengths, long, True)[1].tolist() == [*range(1, short + 1), 0, 0, 0, 0, 0]
    assert attention.allowed(lengths, long, True, window=3)[0].tolist() == [1, 2] + [3] * 12
    assert attention.allowed(lengths, long, False)[1].tolist() == [short] * short + [0] * (long - short)


def test_a_causal_matrix_has_its_diagonal_for_eigenvalues():
    matrices = random_attention(2, 24, 24, causal=True, scale=0.5)
    found = attention.eigenvalues(matrices, True)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, matrices.diagonal(dim1=1, dim2=2).sort(descending=True).values, rtol=0, atol=0)
    general = np.sort(np.linalg.eigvals(matrices.numpy()).real)[:, ::-1]
    np.testing.assert_allclose(found, general, atol=1e-6)
    assert (found[:, 0] == 1).all()


def test_bidirectional_eigenvalues_are_those_of_numpy():
    matrices = random_attention(2, 3, 16, 16, causal=False)
    found = attention.eigenvalues(matrices, False).numpy()
    assert (np.diff(np.abs(found)) <= 1e-12).all()
    for own, a in zip(found.reshape(6, 16), matrices.numpy().reshape(6, 16, 16), strict=True):
        expected = np.linalg.eigvals(a)
        assert np.abs(own[:, None] - expected).min(1).max() < 1e-10
        assert np.abs(expected[:, None] - own).min(1).max() < 1e-10


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [40, 160])  # below and above the size at which Lanczos takes over
def test_spectral_norms_of_easy_and_hard_matrices(size, dtype):
    sink = torch.zeros(size, size)
    sink[:, 0] = 1
    previous = torch.zeros(size, size)
    previous[0, 0] = 1
    previous[range(1, size), range(size - 1)] = 1
    blocks = torch.block_diag(*[torch.full((size // 4, size // 4), 4 / size, dtype=torch.float64)] * 4)
    known = [(sink, size**0.5), (torch.eye(size), 1), (previous, 2**0.5), (blocks, 1), (torch.zeros(size, size), 0)]
    matrices = torch.stack([matrix for matrix, _ in known]).to(dtype)
    norms = attention.spectral_norms(matrices)
    np.testing.assert_allclose(norms, [norm for _, norm in known], rtol=2e-6 if dtype == torch.float32 else 1e-10)
    drawn = random_attention(2, 3, size, size, causal=True, scale=5, dtype=dtype)
    expected = np.linalg.norm(drawn.double().numpy(), 2, axis=(-2, -1))
    np.testing.assert_allclose(attention.spectral_norms(drawn), expected, rtol=5e-6 if dtype == torch.float32 else 1e-9)


def test_lanczos_that_does_not_converge_is_decomposed(monkeypatch):
    monkeypatch.setattr(attention, "MOST_STEPS", 2)
    monkeypatch.setattr(attention, "SMALL", 4)
    drawn = random_attention(3, 30, 30, causal=True)
    np.testing.assert_allclose(attention.spectral_norms(drawn), np.linalg.norm(drawn.numpy(), 2, axis=(1, 2)))


def test_uniform_and_identity_attention():
    """What S2 says of entropy and rank is the wrong way round at both ends."""
    size = 12
    both = torch.stack([torch.full((size, size), 1 / size), torch.eye(size)])[None].double()
    found = attention.statistics(both, torch.tensor([size]), False, singular=attention.singular_values(both))
    np.testing.assert_allclose(found["entropy"][0], [np.log(size), 0], atol=1e-12)
    np.testing.assert_allclose(found["erank"][0], [1, size], rtol=1e-6)


@pytest.mark.parametrize("causal", [True, False])
def test_thinning_takes_the_smallest_weights_of_each_row(causal):
    matrices = random_attention(2, 2, 10, 10, causal=causal)
    may = attention.allowed(torch.tensor([10, 10]), 10, causal)
    doses = (0.0, 0.5, 0.9, 1.0)
    for dose, thinned in zip(doses, sparser(matrices, may, doses), strict=True):
        for a, own in zip(matrices.reshape(-1, 10, 10), thinned.reshape(-1, 10, 10), strict=True):
            for t in range(10):
                allowed = t + 1 if causal else 10
                kept = max(1, allowed - int(dose * allowed + 1e-9))
                expected = np.zeros(10)
                largest = np.argsort(-a[t].numpy())[:kept]
                expected[largest] = a[t].numpy()[largest]
                np.testing.assert_allclose(own[t], expected / expected.sum())


def test_the_sweep_measures_what_the_output_loses():
    matrices = random_attention(2, 3, 16, 16, causal=True)
    values = torch.randn(2, 3, 16, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    may = attention.allowed(torch.tensor([16, 16]), 16, True)
    found = sweep(matrices, may, values)
    thinned = torch.stack(list(sparser(matrices, may, DOSES)), 2).numpy()
    a, v = matrices.numpy()[:, :, None], values.numpy()[:, :, None]
    lost = np.linalg.norm((thinned - a) @ v, axis=(-2, -1)) / np.linalg.norm(a @ v, axis=(-2, -1))
    np.testing.assert_allclose(found["output_error"], lost, atol=1e-12)
    np.testing.assert_allclose(found["spectral_norm"], np.linalg.norm(thinned, 2, axis=(-2, -1)))
    sigma = np.linalg.svd(thinned, compute_uv=False)
    np.testing.assert_allclose(found["r_l1l2"], sigma.sum(-1) ** 2 / (sigma**2).sum(-1))
    assert sweep(matrices, may)["output_error"].isnan().all()
