"""Statistics of attention with its smallest weights removed: S2 figs. 4 and 5 on real matrices (methods §5)."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from engine.spectra.attention import ranks, singular_values

DOSES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
MEASURED = ("erank", "r_l1l2", "spectral_norm", "output_error")


def sparser(matrices: Tensor, permitted: Tensor, doses: Sequence[float]) -> Iterator[Tensor]:
    """Zero the smallest share s of each row's allowed weights, and normalise the rows again.

    Parameters
    ----------
    matrices : Tensor, (N, H, T, T)
    permitted : Tensor, (N, T)
        Weights allowed in each row (`engine.spectra.attention.allowed`); a row keeps at least one.
    doses : sequence of float
        s from 0 to 1; ⌊s · allowed⌋ weights of a row are removed.
    """
    # The rank of each weight in its row, 0 for the largest; masked weights are zero and come last.
    order = matrices.argsort(dim=-1, descending=True, stable=True)
    place = torch.arange(matrices.shape[-1], device=matrices.device).expand_as(order)
    rank = torch.empty_like(order).scatter_(-1, order, place)
    for dose in doses:
        removed = (dose * permitted.double() + 1e-9).floor().long()  # guard against rounding: 0.9 · 10 is 9
        kept = (permitted - removed).clamp(min=1)[:, None, :, None]
        thinned = torch.where(rank < kept, matrices, 0)
        yield thinned / thinned.sum(-1, keepdim=True).clamp(min=torch.finfo(matrices.dtype).tiny)


def sweep(
    matrices: Tensor, permitted: Tensor, values: Tensor | None = None, doses: Sequence[float] = DOSES
) -> dict[str, Tensor]:
    """Statistics of the thinned matrices, (N, H, dose) each.

    Parameters
    ----------
    matrices, permitted, doses
        See `sparser`.
    values : Tensor, (N, H, T, d_h), optional
        Value vectors; without them ``output_error`` is NaN.

    Returns
    -------
    dict
        ``erank`` and ``r_l1l2`` of the singular values, ``spectral_norm``, ``output_error`` ‖(A_s − A)V‖_F/‖AV‖_F.
    """
    results: dict[str, list[Tensor]] = {name: [] for name in MEASURED}
    whole = None if values is None else matrices @ values
    for thinned in sparser(matrices, permitted, doses):
        sigma = singular_values(thinned)
        for name, value in ranks(sigma).items():
            results[name].append(value)
        results["spectral_norm"].append(sigma[..., 0])
        if values is None or whole is None:
            results["output_error"].append(torch.full_like(sigma[..., 0], torch.nan))
        else:
            difference = (thinned @ values - whole).norm(dim=(-2, -1))
            results["output_error"].append(difference / whole.norm(dim=(-2, -1)))
    return {name: torch.stack(parts, -1) for name, parts in results.items()}
