"""W_QK spectra against numpy on the d×d products, and the whole analysis at the shapes of Llama 8B."""

import time
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from benchmarks.harness import Result, largest_difference, seconds
from engine.analyses.base import unit_rng
from engine.analyses.header import assemble
from engine.analyses.weights.analysis import WEIGHTS
from engine.analyses.weights.plan import WeightsParams
from engine.models.adapters import Block, Heads, Norm
from engine.models.info import ModelInfo
from engine.request import ModelSpec, Request
from engine.runs.memory import PeakMemory
from engine.spectra import factored
from engine.spectra.threads import over_threads


def weights(
    layers: int = 12, heads: int = 12, d: int = 768, d_head: int = 64, repeats: int = 5, exact_heads: int = 12
) -> Result:
    """All heads of a GPT-2-shaped model; every second head has singular values that fall over three decades.

    The reference is given its fastest form, fp32 and no singular vectors. It decides all λ to 1e-5 only above λ_1 times
    (eps/1e-6)², so `exact_heads` heads are also compared with the fp64 SVD, down to λ = eps² λ_1 of fp32.
    """
    generator = torch.Generator().manual_seed(0)
    w_q, w_k = (torch.randn(layers, heads, d_head, d, generator=generator) * 0.02 for _ in "qk")
    w_q[:, 1::2] *= torch.logspace(0, -3, d_head)[:, None]
    pairs = [(w_q[i, j].numpy(), w_k[i, j].numpy()) for i in range(layers) for j in range(heads)]
    eps = float(np.finfo(np.float32).eps)

    def ours() -> np.ndarray:
        sigma = over_threads(lambda i: factored.singular_values(w_q[i], w_k[i]), range(layers))
        return torch.cat(sigma).square().numpy()

    def reference() -> np.ndarray:
        return np.stack([np.linalg.svd(q.T @ k, compute_uv=False)[:d_head] for q, k in pairs]) ** 2

    taken = seconds(ours, repeats)
    eigenvalues = ours()
    began = time.perf_counter()
    single = reference().astype(np.float64)
    reference_taken = time.perf_counter() - began

    chosen = np.linspace(0, len(pairs) - 1, min(exact_heads, len(pairs))).astype(int)
    began = time.perf_counter()
    double = [np.linalg.svd(pairs[i][0].astype(np.float64).T @ pairs[i][1], compute_uv=True)[1] for i in chosen]
    per_exact = (time.perf_counter() - began) / len(chosen)
    exact = np.stack(double)[:, :d_head] ** 2
    agreement = max(
        largest_difference(eigenvalues, single, single > (eps / 1e-6) ** 2 * single[:, :1]),
        largest_difference(eigenvalues[chosen], exact, exact > eps**2 * exact[:, :1]),
    )
    ratio = reference_taken / taken
    return Result(
        "weights",
        taken,
        reference_taken,
        agreement,
        demands={"at least 50 times faster": ratio >= 50, "agrees to 1e-5 relative": agreement <= 1e-5},
        facts={
            "what": f"λ of W_QK, {layers}×{heads} heads, d = {d}, d_h = {d_head}, {torch.get_num_threads()} threads",
            "reference": "numpy.linalg.svd of each d×d product in fp32, without vectors",
            "agreement with fp64 on chosen heads": largest_difference(
                eigenvalues[chosen], exact, exact > eps**2 * exact[:, :1]
            ),
            "ratio to numpy.linalg.svd as it is called by default (fp64, with vectors)": per_exact * len(pairs) / taken,
        },
    )


@dataclass
class RandomModel:
    """Gives out layers of random weights, made when they are asked for and kept by nobody."""

    info: ModelInfo

    def block(self, layer: int) -> Block:
        info, generator = self.info, torch.Generator().manual_seed(layer)

        def draw(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.bfloat16).mul_(0.02)

        d, r = info.d_model, info.d_head
        heads = Heads(
            draw(info.n_heads, r, d),
            draw(info.n_kv_heads, r, d),
            draw(info.n_kv_heads, r, d),
            draw(info.n_heads, d, r),
        )
        return Block(layer, heads, Norm("rmsnorm", torch.ones(d), None, 1e-5), None, False, None)


def weights_llama(
    layers: int = 32, heads: int = 32, kv_heads: int = 8, d: int = 4096, d_head: int = 128, null_draws: int = 10_000
) -> Result:
    """The whole analysis, null included, unit by unit, at the shapes of Llama 8B with random weights."""
    info = ModelInfo(
        label="random", source="random", revision=None, twin=False, architecture="LlamaForCausalLM", family="llama",
        causal=True, n_layers=layers, d_model=d, n_heads=heads, n_kv_heads=kv_heads, d_head=d_head, vocab_size=0,
        context=0, n_parameters=0, storage_dtype="bfloat16", norm="rmsnorm", rotary=False, qk_norm=False,
        identity="random", load_bytes=0,
    )  # fmt: skip
    params = WeightsParams(null_draws=null_draws)
    request = Request(
        analysis="weights", params=params.model_dump(), models=(ModelSpec(source="random"),), device="cpu"
    )
    compute, model = WEIGHTS.compute(), cast(Any, RandomModel(info))
    units: dict[str, Any] = {}
    began = time.perf_counter()
    with PeakMemory("cpu") as peak:
        for unit in WEIGHTS.units(request, params, [info]):
            units[unit.key] = compute(unit, request, params, model, unit_rng(request, unit), units)
        ds = assemble(WEIGHTS, request, params, [info], units)
    taken = time.perf_counter() - began

    block = model.block(layers - 1)
    q, k = (w[0].double().numpy() for w in (block.heads.w_q, block.heads.w_k))
    product = q.T @ k
    # Σλ = ‖W_QK‖_F² and Σλ² = ‖W_QK W_QKᵀ‖_F², from the one product that is formed here.
    exact = np.array([np.sum(product**2), np.sum((product @ product.T) ** 2)])
    sums = np.array([float(ds[name][0, layers - 1, 0]) for name in ("lambda_sum", "lambda_sq_sum")])
    agreement = largest_difference(sums, exact, np.isfinite(exact))
    layer_bytes = 2 * 2 * (heads + kv_heads) * d_head * d
    return Result(
        "weights_llama",
        taken,
        agreement=agreement,
        demands={
            "peak memory below one layer's attention weights + 1 GB": peak.bytes < layer_bytes + 10**9,
            "agrees to 1e-5 relative": agreement <= 1e-5,
        },
        facts={
            "what": f"{layers} layers, {heads}/{kv_heads} heads, d = {d}, d_h = {d_head}, {null_draws:,} null draws",
            "threads": torch.get_num_threads(),
            "minutes": taken / 60,
            "peak resident memory of the process, MB": peak.bytes / 1e6,
            "one layer's attention weights, MB": layer_bytes / 1e6,
            "estimate of one unit by the analysis, MB": WEIGHTS.estimate_bytes(request, params, info) / 1e6,
        },
    )
