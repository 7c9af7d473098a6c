"""From the committed units of the weights analysis to its Dataset: merge, nulls, p-values, densities, notes."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.analyses.weights import WeightsParams, folded_draws, layer_key, null_keys
from engine.request import Request

if TYPE_CHECKING:
    import xarray as xr

    from engine.models.info import ModelInfo

Array = NDArray[np.float64]

TESTED = ("leading", "npr", "entropy", "kappa")
QUANTILES = (0.025, 0.5, 0.975)
DENSITY_BINS = 60
# Below which share of λ_1 the rounding of the stored weights decides: σ of about 1e-3 σ_1 for bf16, 1e-4 for fp16
# (methods §0), and by the same rule, an eighth of eps, for the others.
STORAGE_FLOORS = {"bfloat16": 1e-6, "float16": 1e-8, "float32": 2e-16, "float64": 8e-34}
DEFINITION = "W_QK = W_Qᵀ W_K and W_OV = W_O W_V of the weights alone: no biases, no 1/√d_h; eigenvalues are λ = σ²"


def assemble(
    request: Request, params: WeightsParams, models: Sequence["ModelInfo"], units: Mapping[str, "xr.Dataset"]
) -> "xr.Dataset":
    """Put all or some units together; what is absent, or beyond a smaller model's shape, is NaN."""
    import xarray as xr

    from engine.spectra.heads import PROBABILITIES

    shape = {
        "model": len(models),
        "layer": max(info.n_layers for info in models),
        "head": max(info.n_heads for info in models),
        "mode": max(min(info.d_head, info.d_model) for info in models),
        "probability": len(PROBABILITIES),
        "quantile": len(QUANTILES),
    }
    ds = xr.Dataset(
        coords={
            "model": [info.label for info in models],
            **{name: np.arange(shape[name]) for name in ("layer", "head", "mode")},
            "probability": PROBABILITIES,
            "quantile": list(QUANTILES),
        }
    )
    _merge(ds, shape, models, units)
    _laws(ds, models)
    _nulls(ds, shape, params, models, units)
    if "qk_eigenvalues" in ds:
        _densities(ds, models)
    ds.attrs = {
        "analysis": request.analysis,
        "request": request.model_dump_json(),
        "models": json.dumps([info.model_dump(mode="json") for info in models]),
        "seed": request.seed,
        "definition": DEFINITION,
        "notes": json.dumps(_notes(params, models, units), ensure_ascii=False),
    }
    return ds


def _layers(model: int, info: "ModelInfo", units: Mapping[str, "xr.Dataset"]) -> list[tuple[int, "xr.Dataset"]]:
    """The layers of a model that are there."""
    keys = ((layer, layer_key(model, layer)) for layer in range(info.n_layers))
    return [(layer, units[key]) for layer, key in keys if key in units]


def _merge(
    ds: "xr.Dataset",
    shape: Mapping[str, int],
    models: Sequence["ModelInfo"],
    units: Mapping[str, "xr.Dataset"],
) -> None:
    for m, info in enumerate(models):
        for layer, unit in _layers(m, info, units):
            for name, variable in unit.data_vars.items():
                if variable.dims[0] != "head":
                    continue
                if name not in ds:
                    dims = ("model", "layer", *map(str, variable.dims))
                    ds[name] = dims, np.full([shape[dim] for dim in dims], np.nan, variable.dtype)
                own = tuple(slice(size) for size in variable.shape)
                ds[name].values[m, layer][own] = variable.values


def _laws(ds: "xr.Dataset", models: Sequence["ModelInfo"]) -> None:
    """Limiting laws for each model's c = d_h/d: densities over the structurally nonzero λ, in units of `unit_scale`."""
    from engine.spectra import random_matrix as rm

    ratios = [info.d_head / info.d_model for info in models]
    grids = [rm.law_grid(c) for c in ratios]
    pairs = list(zip(grids, ratios, strict=True))
    ds["law_x"] = ("model", "law_point"), np.array(grids)
    ds["law_density"] = ("model", "law_point"), np.array([rm.product_law_density(x, c) for x, c in pairs])
    ds["naive_density"] = ("model", "law_point"), np.array([rm.marchenko_pastur_density(x, c) for x, c in pairs])
    ds["law_edges"] = ("model", "edge"), np.array([rm.product_law_edges(c) for c in ratios])
    ds["naive_edges"] = ("model", "edge"), np.array([rm.marchenko_pastur_edges(c) for c in ratios])
    ds["storage_floor"] = "model", np.array([STORAGE_FLOORS.get(info.storage_dtype, np.nan) for info in models])


def _nulls(
    ds: "xr.Dataset",
    shape: Mapping[str, int],
    params: WeightsParams,
    models: Sequence["ModelInfo"],
    units: Mapping[str, "xr.Dataset"],
) -> None:
    """Bands, p-values and q-values; one null for a model, or one for each of its layers when a norm is folded."""
    from engine.spectra.testing import benjamini_hochberg, two_sided_p

    where = ("model", "layer") if params.fold_norm else ("model",)
    variables = {"null_quantiles": (*where, "quantile", "mode")}
    variables |= {f"null_{name}": (*where, "quantile") for name in TESTED}
    variables |= {f"{test}_{name}": ("model", "layer", "head") for test in "pq" for name in TESTED}
    for prefix in ("", "ov_"):
        for name, dims in variables.items():
            ds[prefix + name] = dims, np.full([shape[dim] for dim in dims], np.nan)

    shared: dict[str, Null] = {}
    for m, info in enumerate(models):
        for which, prefix in (("qk", ""), ("ov", "ov_")):
            nulls: dict[tuple[int, ...], Null] = {}
            if params.fold_norm:
                for layer, unit in _layers(m, info, units):
                    nulls[m, layer] = Null(unit[f"{which}_null_eigenvalues"].values)
            elif parts := [units[key] for key in null_keys(params, info) if key in units]:
                key = f"{info.d_head}x{info.d_model}"
                if key not in shared:
                    shared[key] = Null(np.concatenate([part["null_eigenvalues"].values for part in parts]))
                nulls[m,] = shared[key]
            for at, null in nulls.items():
                ds[f"{prefix}null_quantiles"].values[at][:, : null.bands.shape[1]] = null.bands
                for name, draws in null.statistics.items():
                    ds[f"{prefix}null_{name}"].values[at] = np.quantile(draws, QUANTILES)
                    if prefix + name in ds:
                        observed = ds[prefix + name].values[at]
                        if name == "leading":
                            observed = observed / ds[f"{prefix}unit_scale"].values[at]
                        ds[f"{prefix}p_{name}"].values[at] = two_sided_p(draws, observed)
            for name in TESTED:
                own = (m, slice(info.n_layers), slice(info.n_heads))
                ds[f"{prefix}q_{name}"].values[own] = benjamini_hochberg(ds[f"{prefix}p_{name}"].values[own])


class Null:
    """What random weights give: pointwise bands of λ by rank (quantile, mode), and draws of the tested statistics."""

    def __init__(self, eigenvalues: Array) -> None:
        from engine.spectra.heads import STATISTICS

        self.bands: Array = np.quantile(eigenvalues, QUANTILES, axis=0)
        self.statistics = {name: STATISTICS[name](eigenvalues) for name in TESTED}


def _densities(ds: "xr.Dataset", models: Sequence["ModelInfo"]) -> None:
    """P(λ) of all d eigenvalues on bins shared by all models; bin 0 holds the d − d_h zeros and mere rounding."""
    from engine.spectra.density import density, log_edges

    both = np.stack([ds[f"{which}_eigenvalues"].values for which in ("qk", "ov")])
    floor = ds["storage_floor"].values[:, None, None, None] * both[..., :1]
    edges = log_edges(both, floor, DENSITY_BINS)
    ds["bin_edges"] = "bin_edge", edges
    for which, values in zip(("qk", "ov"), both, strict=True):
        found = [density(values[m], edges, info.d_model) for m, info in enumerate(models)]
        ds[f"{which}_density"] = ("model", "layer", "head", "bin"), np.stack(found)


def _notes(params: WeightsParams, models: Sequence["ModelInfo"], units: Mapping[str, "xr.Dataset"]) -> list[str]:
    """What a reader of the plots must know; each names its model where there are several."""
    from engine.spectra.heads import MOMENT_ENTRIES
    from engine.spectra.testing import draws_for_one, smallest_p

    notes = []
    for m, info in enumerate(models):
        layers = [unit for _, unit in _layers(m, info, units)]
        own = []
        if info.qk_norm:
            own.append(
                "queries and keys are normalised after projection, so the bilinear form depends on the input: "
                "W_QK is the raw product"
            )
        if caps := {unit.attrs["softcap"] for unit in layers if unit.attrs["softcap"]}:
            own.append(f"scores are soft-capped at {max(caps):g}: W_QK is the product before that")
        if params.offset and not info.rotary:
            own.append("positions are not rotary: the relative position has no effect")
        if params.fold_norm and any(not unit.attrs["folded"] for unit in layers):
            own.append("no norm stands before attention: nothing was folded")
        if info.d_model**2 > MOMENT_ENTRIES:
            rows = MOMENT_ENTRIES // info.d_model
            own.append(f"skewness and kurtosis of W_QK come from {rows:,} of its {info.d_model:,} rows")
        draws = folded_draws(params, info) if params.fold_norm else params.null_draws
        tests = info.n_layers * info.n_heads
        if draws < (needed := draws_for_one(tests)):
            only = " (the most with a folded norm at this size)" if draws < params.null_draws else ""
            more = "" if only else f": raise the null draws to {needed:,}"
            own.append(
                f"{draws:,} null draws{only} give p ≥ {smallest_p(draws):.2g}, too coarse for one outlier alone among "
                f"{tests:,} heads at q < 0.05{more}"
            )
        notes += [f"{info.label}: {note}" if len(models) > 1 else note[0].upper() + note[1:] for note in own]
    return notes
