"""From the committed units of the weights analysis to its Dataset: merge, nulls, p-values, densities, notes."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engine.analyses.base import Result
from engine.analyses.weights.plan import WeightsParams, folded_draws, layer_key, null_keys
from engine.analyses.weights.variables import TESTED
from engine.request import Request

if TYPE_CHECKING:
    import xarray as xr

    from engine.models.info import ModelInfo

Array = NDArray[np.float64]

QUANTILES = (0.025, 0.5, 0.975)
DENSITY_BINS = 60
# Below which share of λ_1 the rounding of the stored weights decides: σ of about 1e-3 σ_1 for bf16, 1e-4 for fp16
# (methods §0), and by the same rule, an eighth of eps, for the others.
STORAGE_FLOORS = {"bfloat16": 1e-6, "float16": 1e-8, "float32": 2e-16, "float64": 8e-34}


class Tables:
    """Arrays by name with their dimensions, to become one Dataset; a blank array is NaN throughout."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self.sizes = sizes
        self.variables: dict[str, tuple[tuple[str, ...], NDArray[Any]]] = {}

    def blank(self, name: str, *dims: str, dtype: Any = np.float64) -> NDArray[Any]:
        """The array called `name`, created as NaN if missing."""
        if name not in self.variables:
            self.variables[name] = dims, np.full([self.sizes[dim] for dim in dims], np.nan, dtype)
        return self.variables[name][1]

    def __contains__(self, name: str) -> bool:
        return name in self.variables

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.variables[name][1]

    def __setitem__(self, name: str, value: tuple[tuple[str, ...], NDArray[Any]]) -> None:
        self.variables[name] = value


def result(
    request: Request, params: WeightsParams, models: Sequence["ModelInfo"], units: Mapping[str, "xr.Dataset"]
) -> Result:
    """Put all or some units together; what is absent, or beyond a smaller model's shape, is NaN."""
    import xarray as xr

    from engine.spectra.heads import PROBABILITIES

    sizes = {
        "model": len(models),
        "layer": max(info.n_layers for info in models),
        "head": max(info.n_heads for info in models),
        "mode": max(min(info.d_head, info.d_model) for info in models),
        "probability": len(PROBABILITIES),
        "quantile": len(QUANTILES),
    }
    tables = Tables(sizes)
    _merge(tables, models, units)
    _laws(tables, models)
    _nulls(tables, params, models, units)
    if "qk_eigenvalues" in tables:
        _densities(tables, models)
    coords = {
        "model": [info.label for info in models],
        **{name: np.arange(sizes[name]) for name in ("layer", "head", "mode")},
        "probability": PROBABILITIES,
        "quantile": list(QUANTILES),
    }
    return Result(xr.Dataset(tables.variables, coords), notes=_notes(params, models, units))


def _layers(model: int, info: "ModelInfo", units: Mapping[str, "xr.Dataset"]) -> list[tuple[int, "xr.Dataset"]]:
    """The committed layers of a model."""
    keys = ((layer, layer_key(model, layer)) for layer in range(info.n_layers))
    return [(layer, units[key]) for layer, key in keys if key in units]


def _merge(tables: Tables, models: Sequence["ModelInfo"], units: Mapping[str, "xr.Dataset"]) -> None:
    for m, info in enumerate(models):
        for layer, unit in _layers(m, info, units):
            for name, variable in unit.variables.items():
                if variable.dims[0] == "head":
                    merged = tables.blank(str(name), "model", "layer", *map(str, variable.dims), dtype=variable.dtype)
                    own = tuple(slice(size) for size in variable.shape)
                    merged[m, layer][own] = variable.values


def _laws(tables: Tables, models: Sequence["ModelInfo"]) -> None:
    """Limiting laws for each model's c = d_h/d: densities over the structurally nonzero λ, in units of `unit_scale`."""
    from engine.spectra import random_matrix as rm

    ratios = [info.d_head / info.d_model for info in models]
    grids = [rm.law_grid(c) for c in ratios]
    pairs = list(zip(grids, ratios, strict=True))
    points, edges = ("model", "law_point"), ("model", "edge")
    tables["law_x"] = points, np.array(grids)
    tables["law_density"] = points, np.array([rm.product_law_density(x, c) for x, c in pairs])
    tables["naive_density"] = points, np.array([rm.marchenko_pastur_density(x, c) for x, c in pairs])
    tables["law_edges"] = edges, np.array([rm.product_law_edges(c) for c in ratios])
    tables["naive_edges"] = edges, np.array([rm.marchenko_pastur_edges(c) for c in ratios])
    floors = [STORAGE_FLOORS.get(info.storage_dtype, np.nan) for info in models]
    tables["storage_floor"] = ("model",), np.array(floors)


def _nulls(
    tables: Tables, params: WeightsParams, models: Sequence["ModelInfo"], units: Mapping[str, "xr.Dataset"]
) -> None:
    """Bands, p-values and q-values; one null for a model, or one for each of its layers when a norm is folded."""
    from engine.spectra.p_values import benjamini_hochberg, two_sided_p

    where = ("model", "layer") if params.fold_norm else ("model",)
    shared: dict[str, Null] = {}
    for which, prefix in (("qk", ""), ("ov", "ov_")):
        bands = tables.blank(f"{prefix}null_quantiles", *where, "quantile", "mode")
        for m, info in enumerate(models):
            nulls: dict[tuple[int, ...], Null] = {}
            if params.fold_norm:
                for layer, unit in _layers(m, info, units):
                    nulls[m, layer] = Null(unit[f"{which}_null_eigenvalues"].values)
            elif parts := [units[key] for key in null_keys(params, info) if key in units]:
                shape = f"{info.d_head}x{info.d_model}"
                if shape not in shared:
                    shared[shape] = Null(np.concatenate([part["null_eigenvalues"].values for part in parts]))
                nulls[m,] = shared[shape]
            for at, null in nulls.items():
                bands[at][:, : null.bands.shape[1]] = null.bands
            for name in TESTED:
                level = tables.blank(f"{prefix}null_{name}", *where, "quantile")
                p, q = (tables.blank(f"{prefix}{test}_{name}", "model", "layer", "head") for test in "pq")
                for at, null in nulls.items():
                    level[at] = null.levels[name]
                    if prefix + name in tables:
                        unit_of = tables[f"{prefix}unit_scale"][at] if name == "leading" else 1.0
                        unit_of = np.where(unit_of, unit_of, np.nan)  # a head of zeros has none
                        p[at] = two_sided_p(null.statistics[name], tables[prefix + name][at] / unit_of)
                own = (m, slice(info.n_layers), slice(info.n_heads))
                q[own] = benjamini_hochberg(p[own])


class Null:
    """Monte Carlo null: pointwise bands of λ by rank (quantile, mode), and draws of the tested statistics."""

    def __init__(self, eigenvalues: Array) -> None:
        from engine.spectra.heads import STATISTICS

        self.bands: Array = np.quantile(eigenvalues, QUANTILES, axis=0)
        self.statistics = {name: STATISTICS[name](eigenvalues) for name in TESTED}
        self.levels: dict[str, Array] = {name: np.quantile(x, QUANTILES) for name, x in self.statistics.items()}


def _densities(tables: Tables, models: Sequence["ModelInfo"]) -> None:
    """P(λ) of all d eigenvalues on bins shared by all models; bin 0 holds the d − d_h zeros and mere rounding."""
    from engine.spectra.density import density, log_edges

    both = np.stack([tables[f"{which}_eigenvalues"] for which in ("qk", "ov")])
    floor = tables["storage_floor"][:, None, None, None] * both[..., :1]
    edges = log_edges(both, floor, DENSITY_BINS)
    tables["bin_edges"] = ("bin_edge",), edges
    for which, values in zip(("qk", "ov"), both, strict=True):
        densities = [density(values[m], edges, info.d_model) for m, info in enumerate(models)]
        tables[f"{which}_density"] = ("model", "layer", "head", "bin"), np.stack(densities)


def _notes(params: WeightsParams, models: Sequence["ModelInfo"], units: Mapping[str, "xr.Dataset"]) -> list[str]:
    """Notes for readers of the plots; each names its model where there are several."""
    from engine.spectra.heads import MOMENT_ENTRIES
    from engine.spectra.p_values import draws_for_one, smallest_p

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
