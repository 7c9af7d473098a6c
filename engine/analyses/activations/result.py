"""Dataset of the activation analysis from its committed units: conditions side by side, and notes."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from engine.analyses.activations.claims import claims
from engine.analyses.activations.plan import DENSITY, ActivationsParams, split_key
from engine.analyses.base import Result
from engine.analyses.samples import splits_of
from engine.request import Request

if TYPE_CHECKING:
    import xarray as xr

    from engine.models.info import ModelInfo

DIMS: dict[str, tuple[str, ...]] = {
    "eigenvalues": ("site", "layer", "mode"),
    "noise_eigenvalues": ("site", "layer", "mode"),
    **dict.fromkeys(("trace", "alpha_rank", "alpha_rank_se", "r2", "noise_alpha_rank"), ("site", "layer")),
    **dict.fromkeys(("positions_per_dim", "rank"), ("site",)),
    **dict.fromkeys(("positions", "loss", "perplexity"), ()),
}


def result(
    request: Request, params: ActivationsParams, models: Sequence["ModelInfo"], units: Mapping[str, "xr.Dataset"]
) -> Result:
    """Assemble all or some units; values absent, or beyond the shape of a smaller model, are NaN."""
    import xarray as xr

    from engine.models.sites import SUBLAYERS

    arrived = {
        (m, s): units[key]
        for m in range(len(models))
        for s, split in enumerate(params.splits)
        if (key := split_key(m, split)) in units
    }
    present = {str(name) for unit in arrived.values() for name in unit.site.values} or {"block"}
    names = [name for name in SUBLAYERS if name in present]
    sizes = {
        "site": len(names),
        "layer": max(info.n_layers for info in models),
        "mode": max((unit.sizes["mode"] for unit in arrived.values()), default=max(info.d_model for info in models)),
    }
    dims = DIMS | (dict.fromkeys(DENSITY, ("site", "layer")) if params.density else {})
    values = {
        name: np.full([len(models), len(params.splits), *(sizes[dim] for dim in own_dims)], np.nan)
        for name, own_dims in dims.items()
    }
    for (m, s), unit in arrived.items():
        rows = [names.index(str(name)) for name in unit.site.values]
        for name, own_dims in dims.items():
            array, own = values[name][m, s], unit[name].values
            if not own_dims:
                values[name][m, s] = own
                continue
            for row, part in zip(rows, own, strict=True):
                array[(row, *map(slice, np.shape(part)))] = part
    ds = xr.Dataset(
        {name: (("model", "split", *own_dims), values[name]) for name, own_dims in dims.items()},
        coords={
            "model": [info.label for info in models],
            "condition": ("model", [spec.condition for spec in request.models]),
            "seed": ("model", list(request.seeds)),
            "split": list(params.splits),
            "site": names,
            "layer": np.arange(sizes["layer"]),
        },
    )
    whole = len(arrived) == sum(len(splits_of(params.splits, info)) for info in models)
    return Result(
        ds,
        notes=_notes(params, models, arrived),
        settings={"fit_start": params.fit_start, "fit_stop": params.fit_stop},
        claims=claims if whole else None,
    )


def _notes(
    params: ActivationsParams, models: Sequence["ModelInfo"], arrived: Mapping[tuple[int, int], "xr.Dataset"]
) -> list[str]:
    """Caveats that belong under every plot."""
    notes = []
    for (m, s), unit in arrived.items():
        split = params.splits[s]
        who = models[m].label + ("" if split == "all" else f", {split} split")
        if lost := json.loads(unit.attrs["lost"]):
            first = ", ".join(map(str, sorted(lost)[:5]))
            notes.append(
                f"{who}: {len(lost)} of {len(lost) + unit.attrs['sequences']} samples are left out, as their loss or "
                f"activations are not finite (first: {first})"
            )
        if params.sites == "sublayers" and models[m].family == "unsupported":
            notes.append(f"{who}: Eigenscope has no adapter for {models[m].architecture}, so only its blocks are seen")
        count = int(unit.positions)
        if short := [str(name) for name in unit.site.values if float(unit.positions_per_dim.sel(site=name)) <= 1]:
            notes.append(
                f"{who}: {count:,} positions are no more than the dimensions of {', '.join(short)}, so these spectra "
                f"end at rank {count - 1:,}"
            )
        if np.isnan(unit.loss.values):
            why = models[m].lacks.get("loss", "it has no language-model head or no mask token").removesuffix(".")
            notes.append(f"{who}: there is no loss: {why}")
    return notes
