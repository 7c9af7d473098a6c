"""Dataset of the gradient analysis from its committed units: spectra, power laws and noise, losses, notes."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from engine.analyses.base import Result
from engine.analyses.gradients.claims import claims
from engine.analyses.gradients.plan import CHUNK, GradientsParams, chunk_key, weight_key
from engine.analyses.samples import splits_of
from engine.errors import UserError
from engine.gradients import layers_of
from engine.request import DataSpec, Request
from engine.spectra import power_law
from engine.spectra.summaries import participation_ratio

if TYPE_CHECKING:
    import xarray as xr

    from engine.models.info import ModelInfo

FITTED = ("alpha_rank", "alpha_rank_se", "r2", "noise_alpha_rank", "pr")


def result(
    request: Request, params: GradientsParams, models: Sequence["ModelInfo"], units: Mapping[str, "xr.Dataset"]
) -> Result:
    """Assemble all or some units; absent values are NaN."""
    import xarray as xr

    samples = (request.data or DataSpec()).samples
    head = (len(models), len(params.splits), max(info.n_layers for info in models))
    by_layer, by_sample = ("model", "split", "layer"), ("model", "split", "sample")
    spectra = {name: np.full((*head, samples), np.nan) for name in ("singular_values", "noise_singular_values")}
    scalars = {name: np.full(head, np.nan) for name in (*FITTED, "floor", "sequences", "parameters")}
    losses = {name: np.full((*head[:2], samples), np.nan) for name in ("loss", "predicted", "kept")}
    names, texts = np.full((head[0], head[2]), "", dtype=object), np.full((*head[:2], samples), "", dtype=object)
    notes = []
    for m, info in enumerate(models):
        for split in splits_of(params.splits, info):
            at = m, params.splits.index(split)
            for chunk in range(-(-samples // CHUNK)):
                if (unit := units.get(chunk_key(m, split, chunk))) is not None:
                    rows = slice(chunk * CHUNK, chunk * CHUNK + unit.sizes["sample"])
                    for name, array in losses.items():
                        array[*at, rows] = unit[name].values
                    texts[*at, rows] = unit["sample_text"].values
            for number in range(len(layers_of(params.weight, info))):
                if (unit := units.get(weight_key(m, split, number))) is not None:
                    layer = int(unit.attrs["layer"])
                    names[m, layer] = unit.attrs["weight"]
                    _fill(spectra, scalars, (*at, layer), unit, params)
            notes += _lost(info.label, split, losses, at)
    # Weight by tokens: sequences may differ in length.
    kept = losses["kept"] == 1
    tokens = np.where(kept, losses["predicted"], 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(kept, losses["loss"] * tokens, 0).sum(-1) / tokens.sum(-1)
        ratio = scalars["sequences"] / scalars["parameters"]
    ds = xr.Dataset(
        {name: ((*by_layer, "mode"), values) for name, values in spectra.items()}
        | {name: (by_layer, scalars[name]) for name in (*FITTED, "floor", "sequences")}
        | {
            "sequences_per_dim": (by_layer, ratio),
            "parameters": (("model", "layer"), _any_split(scalars["parameters"])),
            "weight": (("model", "layer"), names.astype(str)),
            "loss": (by_sample, losses["loss"]),
            "mean_loss": (("model", "split"), mean),
            "perplexity": (("model", "split"), np.exp(mean)),
            "sample_text": (by_sample, texts.astype(str)),
        },
        coords={
            "model": [info.label for info in models],
            "condition": ("model", [spec.condition for spec in request.models]),
            "seed": ("model", list(request.seeds)),
            "split": list(params.splits),
            "layer": np.arange(head[2]),
            "sample": np.arange(samples),
        },
    )
    last = [
        weight_key(m, split, len(layers_of(params.weight, info)) - 1)
        for m, info in enumerate(models)
        for split in splits_of(params.splits, info)
    ]
    return Result(
        ds,
        notes=_what(params, ds) + notes,
        settings={"fit_start": params.fit_start, "fit_stop": params.fit_stop},
        claims=claims if all(key in units for key in last) else None,
    )


def _fill(
    spectra: Mapping[str, np.ndarray],
    scalars: Mapping[str, np.ndarray],
    at: tuple[int, int, int],
    unit: "xr.Dataset",
    params: GradientsParams,
) -> None:
    """Write one weight's spectrum into the arrays, with the power laws of λ = σ² and of noise."""
    for name, array in spectra.items():
        array[*at, : unit.sizes["mode"]] = unit[name].values
    for name in ("floor", "sequences", "parameters"):
        scalars[name][at] = float(unit[name])
    sigma, noise = unit["singular_values"].values, unit["noise_singular_values"].values
    if sigma[0] == 0:
        return
    scalars["pr"][at] = participation_ratio(sigma**2)
    try:
        # Below the floor there is rounding, and no power law.
        fitted = power_law.fit(np.where(sigma > float(unit["floor"]), sigma, 0) ** 2, params.fit_start, params.fit_stop)
        of_noise = power_law.fit(noise**2, params.fit_start, params.fit_stop)
    except UserError:  # too few sequences are left for the window
        return
    for name, value in zip(FITTED, (fitted.alpha, fitted.se, fitted.r2, of_noise.alpha), strict=False):
        scalars[name][at] = float(value)


def _any_split(values: np.ndarray) -> np.ndarray:
    """Reduce (model, split, layer) to (model, layer) for values that are equal on all splits."""
    finite = np.isfinite(values)
    return np.where(finite.any(1), np.where(finite, values, 0).max(1), np.nan)


def _lost(label: str, split: str, losses: Mapping[str, np.ndarray], at: tuple[int, int]) -> list[str]:
    lost = np.flatnonzero(losses["kept"][at] == 0)
    if not len(lost):
        return []
    which = ", ".join(map(str, lost[:5])) + (" and others" if len(lost) > 5 else "")
    who = label + ("" if split == "all" else f", {split} split")
    are = "1 sequence is left out, as its" if len(lost) == 1 else f"{len(lost)} sequences are left out, as their"
    return [f"{who}: {are} loss or gradients are not finite (number {which})"]


def _what(params: GradientsParams, ds: "xr.Dataset") -> list[str]:
    """Note on the weight, on sequences per dimension, and on the window of the fit."""
    n, p = (float(np.nanmax(ds[name].values, initial=0)) for name in ("sequences", "parameters"))
    if not n:
        return []
    names = [name for name in ds["weight"].values[0].tolist() if name]
    weight = names[0] if len(names) == 1 else params.weight
    return [
        f"gradients of {weight}: N/p = {n:.0f}/{p:.0f} = {n / p:.2g}; "
        f"power law of λ = σ² over ranks {params.fit_start} to {params.fit_stop}, with noise of the same shape beside"
    ]
