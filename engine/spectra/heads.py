"""Everything that the four matrices of attention heads say by themselves (methods §2): one layer in, arrays out."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr
from torch import Tensor

from engine.spectra import elementwise, factored, summaries
from engine.spectra.random_matrix import marchenko_pastur_edges, product_law_edges
from engine.spectra.threads import over_threads

# Where a Gaussian has its quantiles −3.5, −3.4, …, 3.5.
PROBABILITIES: NDArray[np.float64] = ndtr(np.arange(-35, 36) / 10)
# Above these sizes entries of a matrix are sampled: for quantiles, and for skewness and kurtosis of W_QK.
QUANTILE_ENTRIES = 1 << 16
MOMENT_ENTRIES = 1 << 24
# What the fp64 copies of the heads that go through the accelerator together may take.
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
    fold: factored.Fold | None = None,
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
    fold : Fold, optional
        Applied to W_Q, W_K and W_V, which read the norm's output, and not to W_O.
    rotation : Tensor (d_h, d_h), optional
        R_Δ of W_Qᵀ R_Δ W_K.
    shuffle : bool
        Whether to add the λ of W_Q and W_K with their entries permuted (null 4), before folding.
    seed : int
        Of the permutations and of the entries sampled for quantiles.

    Returns
    -------
    dict of arrays, the first axis of each is the head
        Named as in the result: `qk_eigenvalues` and `ov_eigenvalues` are λ = σ² (H, mode), and so on. The modes are
        those that can differ from zero.
    """
    group = len(w_q) // len(w_k)
    rank = factored.structural_rank(w_q.shape[1], w_q.shape[2], fold)
    folded = fold or Tensor.double
    seeds = np.random.SeedSequence(seed).generate_state(len(w_k) + 1, np.uint64) >> np.uint64(1)

    def part(heads: range) -> dict[str, Tensor]:
        kv = slice(heads.start, heads.stop)
        query = slice(heads.start * group, heads.stop * group)
        q, k, v, o = w_q[query], w_k[kv], w_v[kv], w_o[query].mT
        found = _spectra(folded(q), folded(k), folded(v), o.double(), rotation, int(seeds[-1]))
        if shuffle:
            generators = [torch.Generator().manual_seed(int(seeds[i])) for i in heads]
            q = torch.cat([_permuted(x, g) for x, g in zip(q.split(group), generators, strict=True)])
            k = torch.cat([_permuted(x, g) for x, g in zip(k.split(1), generators, strict=True)])
            sigma = factored.singular_values(folded(q), folded(k), rotation)
            found["shuffled_qk_eigenvalues"] = sigma.square()
        return found

    if w_q.is_cuda:
        step = max(1, BATCH_BYTES * len(w_k) // (8 * (w_q.numel() + w_k.numel())))
        parts = [part(range(i, min(i + step, len(w_k)))) for i in range(0, len(w_k), step)]
    else:
        parts = over_threads(part, (range(i, i + 1) for i in range(len(w_k))))
    out = {name: torch.cat([p[name] for p in parts]).cpu().numpy() for name in parts[0]}
    out |= {name: values[:, :rank] for name, values in out.items() if name.endswith("eigenvalues")}
    c = w_q.shape[1] / w_q.shape[2]
    out["null_radius"] = np.sqrt(out["unit_scale"] * c * _spread(fold))
    out["ov_null_radius"] = np.sqrt(out["ov_unit_scale"] * c)
    for which, prefix in (("qk", ""), ("ov", "ov_")):
        values = out[f"{which}_eigenvalues"]
        out |= {prefix + name: statistic(values) for name, statistic in STATISTICS.items()}
        scaled = values / out[f"{prefix}unit_scale"][:, None]
        for law, edges in (("naive", marchenko_pastur_edges), ("law", product_law_edges)):
            low, high = edges(c)
            out[f"{prefix}outside_{law}"] = ((scaled < low) | (scaled > high)).sum(-1).astype(np.float64)
    return out


def _permuted(w: Tensor, generator: torch.Generator) -> Tensor:
    """Each matrix of `w` (H, r, d) with its entries in random order."""
    orders = [torch.randperm(x.numel(), generator=generator).to(w.device) for x in w]
    return torch.stack([x.flatten()[order].view_as(x) for x, order in zip(w, orders, strict=True)])


def _spectra(q: Tensor, k: Tensor, v: Tensor, o: Tensor, rotation: Tensor | None, seed: int) -> dict[str, Tensor]:
    """Of query heads `q`, `o` (H, d_h, d) with their key/value heads `k`, `v` (H_kv, d_h, d), all fp64."""
    d = q.shape[-1]
    found = {
        "qk_eigenvalues": factored.singular_values(q, k, rotation).square(),
        "ov_eigenvalues": factored.singular_values(o, v).square(),
        "qk_complex_eigenvalues": factored.eigenvalues(q, k, rotation),
        "ov_complex_eigenvalues": factored.eigenvalues(o, v),
        "unit_scale": _unit_scale(q, k),
        "ov_unit_scale": _unit_scale(o, v),
    }
    generator = torch.Generator().manual_seed(seed)
    rotated = k if rotation is None else rotation.to(k) @ k
    rows = torch.randperm(d, generator=generator)[: MOMENT_ENTRIES // d] if d * d > MOMENT_ENTRIES else None
    probabilities = torch.from_numpy(PROBABILITIES)
    for name, w in (("wq", q), ("wk", k)):
        repeat = len(q) // len(w)
        x = elementwise.entry_quantiles(w, probabilities, QUANTILE_ENTRIES, generator)
        found[f"{name}_quantiles"] = x.repeat_interleave(repeat, 0)
        moments = elementwise.entry_moments(w)._asdict()
        found |= {f"{name}_{m}": x.repeat_interleave(repeat, 0) for m, x in moments.items()}
    found |= {f"wqk_{m}": x for m, x in elementwise.product_moments(q, rotated, rows)._asdict().items()}
    found["wqk_quantiles"] = elementwise.product_quantiles(q, rotated, probabilities, QUANTILE_ENTRIES, generator)
    return found


def _spread(fold: factored.Fold | None) -> float:
    """D Σγ⁴/(Σγ²)²: by how much a gain on both sides widens the disc of radius √(d·d_h) σ_Qσ_K that Gaussians fill."""
    if fold is None or fold.gain is None:
        return 1.0
    square = fold.gain.double().square()
    return float(square.square().mean() / square.mean().square())


def _unit_scale(a: Tensor, b: Tensor) -> Tensor:
    """d²σ_A²σ_B² with σ² the mean square of the entries, which is ‖A‖_F²‖B‖_F²/d_h²."""
    right = b.square().sum((-2, -1)).repeat_interleave(len(a) // len(b), 0)
    return a.square().sum((-2, -1)) * right / a.shape[1] ** 2
