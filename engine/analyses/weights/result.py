"""From the committed units of the weights analysis to its Dataset: merge, nulls, p-values, densities, notes."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engine.analyses.base import Result
from engine.analyses.weights.claims import claims
from engine.analyses.weights.plan import WeightsParams, folded_draws, layer_key, null_keys
from engine.analyses.weights.plan import units as planned
from engine.analyses.weights.variables import TESTED
from engine.models.formats import storage_floor
from engine.request import Request

if TYPE_CHECKING:
    import xarray as xr

    from engine.models.info import ModelInfo

Array = NDArray[np.float64]

QUANTILES = (0.025, 0.5, 0.975)
DENSITY_BINS = 60


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

    widths = list(dict.fromkeys(width for info in models for width in info.head_widths))
    sizes = {
        "model": len(models),
        "width": len(widths),
        "layer": max(info.n_layers for info in models),
        "head": max(info.n_heads for info in models),
        "mode": max(min(info.d_head, info.d_model) for info in models),
        "probability": len(PROBABILITIES),
        "quantile": len(QUANTILES),
    }
    tables = Tables(sizes)
    _merge(tables, models, units)
    # Where layers differ in the width of their heads, what depends on it is there for each width too.
    several = widths if any(len(info.head_widths) > 1 for info in models) else []
    _laws(tables, models, several)
    _nulls(tables, params, models, units, several)
    if "qk_eigenvalues" in tables:
        _densities(tables, models)
    coords = {
        "model": [info.label for info in models],
        **{name: np.arange(sizes[name]) for name in ("layer", "head", "mode")},
        "probability": PROBABILITIES,
        "quantile": list(QUANTILES),
        **({"width": several} if several else {}),
    }
    whole = all(unit.key in units for unit in planned(request, params, models))
    return Result(
        xr.Dataset(tables.variables, coords),
        notes=_notes(params, models, units),
        claims=partial(claims, params=params) if whole else None,
    )


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


def _laws(tables: Tables, models: Sequence["ModelInfo"], widths: Sequence[int]) -> None:
    """Limiting laws for c = d_h/d: densities over the structurally nonzero λ, in units of `unit_scale`.

    Those of a model are for its widest heads; with `widths`, also for each of them that the model has.
    """
    from engine.spectra import random_matrix as rm

    def laws(c: float) -> dict[str, Any]:
        x = rm.law_grid(c)
        return {
            "law_x": x,
            "law_density": rm.product_law_density(x, c),
            "naive_density": rm.marchenko_pastur_density(x, c),
            "law_edges": rm.product_law_edges(c),
            "naive_edges": rm.marchenko_pastur_edges(c),
        }

    of_models = [laws(info.d_head / info.d_model) for info in models]
    for name, values in of_models[0].items():
        dim, size = "edge" if name.endswith("edges") else "law_point", len(values)
        tables[name] = ("model", dim), np.array([model[name] for model in of_models])
        if widths:
            by_width = np.full((len(models), len(widths), size), np.nan)
            for m, info in enumerate(models):
                for width in info.head_widths:
                    by_width[m, widths.index(width)] = laws(width / info.d_model)[name]
            tables[f"{name}_by_width"] = ("model", "width", dim), by_width
    floors = [storage_floor(info.storage_dtype) for info in models]
    tables["storage_floor"] = ("model",), np.array(floors)


def _nulls(
    tables: Tables,
    params: WeightsParams,
    models: Sequence["ModelInfo"],
    units: Mapping[str, "xr.Dataset"],
    widths: Sequence[int],
) -> None:
    """Bands, p-values and q-values; one null for each shape of heads, or one for each layer when a norm is folded."""
    from engine.spectra.p_values import benjamini_hochberg, two_sided_p

    where = ("model", "layer") if params.fold_norm else ("model",)
    shared: dict[tuple[int, int], Null] = {}
    for which, prefix in (("qk", ""), ("ov", "ov_")):
        places = [("", where)] + [("_by_width", ("model", "width"))] * bool(widths and not params.fold_norm)
        for suffix, dims in places:
            tables.blank(f"{prefix}null_quantiles{suffix}", *dims, "quantile", "mode")
            for name in TESTED:
                tables.blank(f"{prefix}null_{name}{suffix}", *dims, "quantile")
        for name in TESTED:
            for test in "pq":
                tables.blank(f"{prefix}{test}_{name}", "model", "layer", "head")

        def put(null: Null, suffix: str, at: tuple[int, ...], prefix: str = prefix) -> None:
            tables[f"{prefix}null_quantiles{suffix}"][at][:, : null.bands.shape[1]] = null.bands
            for name, levels in null.levels.items():
                tables[f"{prefix}null_{name}{suffix}"][at] = levels

        for m, info in enumerate(models):
            nulls: dict[int, Null] = {}
            shapes = {layer: shape for layer in range(info.n_layers) if (shape := info.heads_at(layer))}
            if params.fold_norm:
                for layer, unit in _layers(m, info, units):
                    nulls[layer] = Null(unit[f"{which}_null_eigenvalues"].values)
                    put(nulls[layer], "", (m, layer))
            for width in () if params.fold_norm else info.head_widths:
                factor = (width, info.d_model)
                if factor not in shared:
                    parts = [units[key] for key in null_keys(params, *factor) if key in units]
                    if not parts:
                        continue
                    shared[factor] = Null(np.concatenate([part["null_eigenvalues"].values for part in parts]))
                if width == info.d_head:
                    put(shared[factor], "", (m,))
                if widths:
                    put(shared[factor], "_by_width", (m, widths.index(width)))
                nulls |= {layer: shared[factor] for layer, own in shapes.items() if own.d_head == width}
            exists = np.zeros(tables[f"{prefix}p_leading"][m].shape, bool)
            for layer, own in shapes.items():
                exists[layer, : own.n_heads] = True
            for name in TESTED:
                p, q = (tables[f"{prefix}{test}_{name}"][m] for test in "pq")
                for layer, null in nulls.items() if prefix + name in tables else ():
                    unit_of = tables[f"{prefix}unit_scale"][m, layer] if name == "leading" else 1.0
                    unit_of = np.where(unit_of, unit_of, np.nan)  # a head of zeros has none
                    p[layer] = two_sided_p(null.statistics[name], tables[prefix + name][m, layer] / unit_of)
                q[exists] = benjamini_hochberg(p[exists])


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
        if len(info.head_widths) > 1:
            each = " and ".join(f"d_h = {width}" for width in info.head_widths)
            own.append(f"heads of {each} each have a null of their own; q-values are over all heads together")
        if headless := info.n_layers - len(info.headed_layers):
            own.append(f"{headless} of its {info.n_layers} layers have no softmax heads and stay empty")
        if borrowing := [unit.attrs["keys_of_layer"] for unit in layers if "keys_of_layer" in unit.attrs]:
            made = " or ".join(map(str, sorted(set(borrowing))))
            own.append(
                f"{len(borrowing)} layers read keys and values of layer {made}: their W_QK and W_OV join the residual "
                "streams of both"
            )
        draws = folded_draws(params, info.d_head, info.d_model) if params.fold_norm else params.null_draws
        tests = info.total_heads
        if draws < (needed := draws_for_one(tests)):
            only = " (the most with a folded norm at this size)" if draws < params.null_draws else ""
            more = "" if only else f": raise the null draws to {needed:,}"
            own.append(
                f"{draws:,} null draws{only} give p ≥ {smallest_p(draws):.2g}, too coarse for one outlier alone among "
                f"{tests:,} heads at q < 0.05{more}"
            )
        notes += [f"{info.label}: {note}" if len(models) > 1 else note[0].upper() + note[1:] for note in own]
    return notes
