"""Attention matrices: all statistics beside the forward pass, and eigenvalues of causal ones by the diagonal."""

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2Model

from benchmarks.harness import Result, seconds
from engine.models.attention_hooks import AttentionHooks, LayerAttention
from engine.spectra.attention import Statistic, eigenvalues, singular_values, statistics


def attention(
    layers: int = 12, heads: int = 12, d: int = 768, samples: int = 32, tokens: int = 128, compared: int = 4
) -> Result:
    """All statistics of every head and sample, fp32, random weights: the time of a bare eager forward pass and in all.

    `compared` matrices of each layer are checked against decompositions by numpy in fp64, one at a time; the time that
    these take, scaled to all, and the forward pass are the reference.
    """
    torch.manual_seed(0)
    config = GPT2Config(
        n_layer=layers,
        n_head=heads,
        n_embd=d,
        n_positions=max(tokens, 8),
        vocab_size=512,
        bos_token_id=0,
        eos_token_id=0,
    )
    model: Any = GPT2Model._from_config(config, attn_implementation="eager").eval()
    # As trained heads do, some attend sharply and some do not.
    for layer, block in enumerate(model.h):
        block.attn.c_attn.weight.data *= 1 + 4 * layer / max(layers - 1, 1)
    ids = torch.randint(0, 512, (samples, tokens), generator=torch.Generator().manual_seed(1))
    lengths = torch.full((samples,), tokens)
    hooks = AttentionHooks(model, "the benchmark's model")
    differences: list[float] = []
    spectra = alone = 0.0

    @torch.no_grad()
    def bare() -> None:
        model(input_ids=ids, use_cache=False)

    def measure(at: LayerAttention) -> None:
        statistics(at.matrices, lengths, True)

    def decompose(at: LayerAttention) -> None:
        nonlocal spectra, alone
        began = time.perf_counter()
        sigma = singular_values(at.matrices)
        spectra += time.perf_counter() - began
        measured = statistics(at.matrices[:1], lengths[:1], True)
        for head in range(min(compared, heads)):
            began = time.perf_counter()
            expected = _expected(at.matrices[0, head])
            alone += time.perf_counter() - began
            differences.extend(abs(float(measured[name][0, head]) / value - 1) for name, value in expected.items())
            exact = np.linalg.svd(at.matrices[0, head].double().numpy(), compute_uv=False)
            differences.append(float(np.abs(sigma[0, head].numpy() - exact).max() / exact[0]))

    forward = seconds(bare)
    spent = seconds(lambda: hooks.run(ids, lengths, measure), warm_up=False)
    hooks.run(ids, lengths, decompose)
    agreement = max(differences)
    one_by_one = forward + alone * heads / min(compared, heads) * samples
    return Result(
        "attention",
        spent,
        one_by_one,
        agreement,
        demands={
            "at most 3 times the bare eager forward pass": spent <= 3 * forward,
            "agrees to 1e-4 relative": agreement <= 1e-4,
        },
        facts={
            "what": f"every statistic that needs no full singular spectrum, of {layers} × {heads} heads, {samples} "
            f"samples of {tokens} tokens, fp32, forward pass included, {torch.get_num_threads()} threads",
            "reference": f"svd and eigvals by numpy in fp64, one matrix at a time; {min(compared, heads)} heads of "
            "each layer timed and scaled to all",
            "bare eager forward pass, of the model without its output layer, s": forward,
            "times the forward pass": spent / forward,
            "all singular values besides, s": spectra,
            "times the forward pass, with all singular values": (spent + spectra) / forward,
        },
    )


def _expected(matrix: Tensor) -> dict[Statistic, float]:
    """Some statistics of one causal matrix, each by another way, in fp64."""
    a = matrix.double().numpy()
    sigma = np.linalg.svd(a, compute_uv=False)
    positive, values = a[a > 0], np.abs(np.linalg.eigvals(a))
    return {
        "entropy": float(-(positive * np.log(positive)).sum() / len(a)),
        "frobenius": float(np.sqrt((sigma**2).sum())),
        "spectral_norm": float(sigma[0]),
        "stable_rank": float((sigma**2).sum() / sigma[0] ** 2),
        "concentration": float(values.max() ** 2 / (values**2).sum()),
    }


def attention_diagonal(tokens: int = 1024, matrices: int = 4, scale: float = 2.0) -> Result:
    """Eigenvalues of causal attention: the diagonal against the general solver, both from fp32 matrices.

    The solver is given each matrix in another orthonormal basis too, as a library sees an operator of which it does not
    know that it is triangular: what it then returns has the imaginary parts of rounding.
    """
    generator = torch.Generator().manual_seed(0)
    logits = scale * torch.randn(matrices, tokens, tokens, generator=generator)
    causal = logits.masked_fill(torch.ones(tokens, tokens).triu(1).bool(), -torch.inf).softmax(-1)
    ours = seconds(lambda: eigenvalues(causal, True), repeats=3)
    diagonal = eigenvalues(causal, True)
    began = time.perf_counter()
    plain = torch.linalg.eigvals(causal)
    reference = time.perf_counter() - began
    exact = causal.diagonal(dim1=1, dim2=2).sort(descending=True).values
    turn = torch.linalg.qr(torch.randn(tokens, tokens, generator=generator, dtype=torch.float64))[0]
    turned = torch.linalg.eigvals(turn.T @ causal[:1].double() @ turn)
    single = torch.linalg.eigvals((turn.T @ causal[:1].double() @ turn).float())
    return Result(
        "attention_diagonal",
        ours,
        reference,
        float((diagonal - exact).abs().max()),
        demands={"exact": bool(torch.equal(diagonal, exact)), "faster than the general solver": ours < reference},
        facts={
            "what": f"all eigenvalues of {matrices} causal attention matrices of {tokens} tokens, fp32, "
            f"{torch.get_num_threads()} threads",
            "reference": "torch.linalg.eigvals",
            "largest imaginary part, general solver": float(plain.imag.abs().max()),
            "largest error, general solver": _furthest(plain[0], exact[0]),
            "largest imaginary part, general solver in another basis, fp64": float(turned.imag.abs().max()),
            "complex eigenvalues there": f"{int((turned.imag != 0).sum())} of {tokens}",
            "largest imaginary part, general solver in another basis, fp32": float(single.imag.abs().max()),
            "complex eigenvalues there, fp32": f"{int((single.imag != 0).sum())} of {tokens}",
        },
    )


def _furthest(found: Tensor, exact: Tensor) -> float:
    """How far an eigenvalue is from the nearest exact one at most."""
    return float((found[:, None] - exact).abs().amin(1).max())
