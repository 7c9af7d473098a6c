"""Spectra and statistics of the four weight matrices of attention heads, one layer at a time (methods §2)."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr
from torch import Tensor

from engine.spectra import elementwise, factored, summaries
from engine.spectra.random_matrix import marchenko_pastur_edges, product_law_edges
from engine.spectra.threads import over_threads

# Probabilities of the Gaussian quantiles −3.5, −3.4, …, 3.5.
PROBABILITIES: NDArray[np.float64] = ndtr(np.arange(-35, 36) / 10)
# Entries beyond which a matrix is sampled, for quantiles and for skewness and kurtosis of W_QK.
QUANTILE_ENTRIES = 1 << 16
MOMENT_ENTRIES = 1 << 24
# Memory budget for fp64 copies of a batch of heads on the accelerator.
BATCH_BYTES = 1 << 29

STATISTICS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "leading": summaries.leading,
    "lambda_sum": summaries.total,
    "lambda_sq_sum": summaries.total_square,
    "pr": summaries.participation_ratio,
    "npr": summaries.normalised_participation_ratio,
    "entropy": summaries.entropy,
    "kappa": summaries.condition,
}


def measure(
    w_q: Tensor,
    w_k: Tensor,
    w_v: Tensor,
    w_o: Tensor,
    *,
    folds: tuple[factored.Fold | None, factored.Fold | None] = (None, None),
    rotation: Tensor | None = None,
    shuffle: bool = True,
    seed: int = 0,
) -> dict[str, NDArray[np.generic]]:
    """Spectra and statistics of all heads of a layer.

    Parameters
    ----------
    w_q : Tensor (H, d_h, d)
    w_k, w_v : Tensor (H_kv, d_h, d)
    w_o : Tensor (H, d, d_h)
    folds : pair of Fold, optional
        Applied to W_Q, and to W_K and W_V, which read the outputs of norms; W_O does not. One norm for all, unless keys
        and values are those of another layer.
    rotation : Tensor (d_h, d_h), optional
        R_Δ of W_Qᵀ R_Δ W_K.
    shuffle : bool
        Whether to add the λ of W_Q and W_K with their entries permuted (null 4), before folding.
    seed : int
        Of the permutations and of the entries sampled for quantiles.

    Returns
    -------
    dict of arrays, the first axis of each is the head
        Named as in the result: `qk_eigenvalues` and `ov_eigenvalues` are λ = σ² (H, mode), and so on; modes are those
        that can be nonzero.
    """
    group = len(w_q) // len(w_k)
    rank = min(factored.structural_rank(w_q.shape[1], w_q.shape[2], fold) for fold in folds)
    fold_q, fold_kv = (fold or Tensor.double for fold in folds)
    seeds = np.random.SeedSequence(seed).generate_state(len(w_k) + 1, np.uint64) >> np.uint64(1)

    def part(heads: range) -> dict[str, Tensor]:
        kv, query = slice(heads.start, heads.stop), slice(heads.start * group, heads.stop * group)
        k, v = fold_kv(w_k[kv]), fold_kv(w_v[kv])
        r_k, r_v = factored.triangular(k), factored.triangular(v)
        # One query head at a time on the CPU: as fast, with a single fp64 copy in memory.
        step = len(w_q) if w_q.is_cuda else 1
        pieces = []
        for stored_q, stored_o in zip(w_q[query].split(step), w_o[query].split(step), strict=True):
            q, o = fold_q(stored_q), stored_o.mT.double()
            sigma = factored.core_singular_values(factored.triangular(q), r_k, rotation)
            ov_sigma = factored.core_singular_values(factored.triangular(o), r_v)
            pieces.append(
                {
                    "qk_eigenvalues": sigma.square(),
                    "ov_eigenvalues": ov_sigma.square(),
                    "qk_complex_eigenvalues": factored.eigenvalues(q, k, rotation),
                    "ov_complex_eigenvalues": factored.eigenvalues(o, v),
                    "unit_scale": _unit_scale(q, k),
                    "ov_unit_scale": _unit_scale(o, v),
                    **_entries("wq", q, int(seeds[-1])),
                    **_product_entries(q, k if rotation is None else rotation.to(k) @ k, int(seeds[-1])),
                }
            )
        arrays = {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}
        arrays |= {name: x.repeat_interleave(group, 0) for name, x in _entries("wk", k, int(seeds[-1])).items()}
        if shuffle:
            shuffled = [shuffled_sigma(i) for i in heads]
            arrays["shuffled_qk_eigenvalues"] = torch.cat(shuffled).square()
        return arrays

    def shuffled_sigma(kv: int) -> Tensor:
        generator = torch.Generator().manual_seed(int(seeds[kv]))
        r_k = factored.triangular(fold_kv(permuted(w_k[kv], generator))[None])
        queries = w_q[kv * group : (kv + 1) * group]
        r_q = torch.stack([factored.triangular(fold_q(permuted(q, generator))) for q in queries])
        return factored.core_singular_values(r_q, r_k, rotation)

    if w_q.is_cuda:
        step = max(1, BATCH_BYTES * len(w_k) // (8 * (w_q.numel() + w_k.numel())))
        parts = [part(range(i, min(i + step, len(w_k)))) for i in range(0, len(w_k), step)]
    else:
        parts = over_threads(part, (range(i, i + 1) for i in range(len(w_k))))
    out = {name: torch.cat([p[name] for p in parts]).cpu().numpy() for name in parts[0]}
    out |= {name: values[:, :rank] for name, values in out.items() if name.endswith("eigenvalues")}
    c = w_q.shape[1] / w_q.shape[2]
    out["null_radius"] = np.sqrt(out["unit_scale"] * c * _spread(folds))
    out["ov_null_radius"] = np.sqrt(out["ov_unit_scale"] * c)
    for which, prefix in (("qk", ""), ("ov", "ov_")):
        values = out[f"{which}_eigenvalues"]
        out |= {prefix + name: statistic(values) for name, statistic in STATISTICS.items()}
        scale = out[f"{prefix}unit_scale"]
        scale = np.where(scale > 0, scale, np.nan)  # a head of zeros has no scale, and lies neither in nor out
        scaled = values / scale[:, None]
        for law, edges in (("naive", marchenko_pastur_edges), ("law", product_law_edges)):
            low, high = edges(c)
            outside = ((scaled < low) | (scaled > high)).sum(-1)
            out[f"{prefix}outside_{law}"] = np.where(np.isnan(scale), np.nan, outside)
    return out


def permuted(w: Tensor, generator: torch.Generator) -> Tensor:
    """The matrix `w` (r, d) with its entries in random order."""
    return w.flatten()[torch.randperm(w.numel(), generator=generator).to(w.device)].view_as(w)


def _entries(name: str, w: Tensor, seed: int) -> dict[str, Tensor]:
    """Moments and quantiles of the entries of each matrix of `w`, under names that begin with `name`."""
    generator = torch.Generator().manual_seed(seed)
    quantiles = elementwise.entry_quantiles(w, torch.from_numpy(PROBABILITIES), QUANTILE_ENTRIES, generator)
    moments = elementwise.entry_moments(w)._asdict()
    return {f"{name}_{m}": x for m, x in moments.items()} | {f"{name}_quantiles": quantiles}


def _product_entries(q: Tensor, k: Tensor, seed: int) -> dict[str, Tensor]:
    """Moments and quantiles of the entries of each W_QK."""
    generator, d = torch.Generator().manual_seed(seed), q.shape[-1]
    quantiles = elementwise.product_quantiles(q, k, torch.from_numpy(PROBABILITIES), QUANTILE_ENTRIES, generator)
    rows = torch.randperm(d, generator=generator)[: MOMENT_ENTRIES // d] if d * d > MOMENT_ENTRIES else None
    moments = elementwise.product_moments(q, k, rows)._asdict()
    return {f"wqk_{m}": x for m, x in moments.items()} | {"wqk_quantiles": quantiles}


def _spread(folds: tuple[factored.Fold | None, factored.Fold | None]) -> float:
    """How much gains on both sides widen the disc of radius √(d·d_h) σ_Qσ_K that Gaussians fill (methods eq. 2.9)."""
    squares = [fold.gain.double().square() for fold in folds if fold is not None and fold.gain is not None]
    if len(squares) < 2:
        return 1.0
    left, right = squares
    return float((left * right).mean() / (left.mean() * right.mean()))


def _unit_scale(a: Tensor, b: Tensor) -> Tensor:
    """d²σ_A²σ_B² with σ² the mean square of the entries, which is ‖A‖_F²‖B‖_F²/d_h²."""
    right = b.square().sum((-2, -1)).repeat_interleave(len(a) // len(b), 0)
    return a.square().sum((-2, -1)) * right / a.shape[1] ** 2
