"""From the committed units of the Jacobian analysis to its Dataset: merge, intervals, forward alignment, notes."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from engine.analyses.base import Result
from engine.analyses.jacobians.claims import claims
from engine.analyses.jacobians.plan import JacobiansParams, depth_key, layer_key
from engine.analyses.jacobians.plan import units as planned
from engine.analyses.jacobians.variables import HEAD, VARIABLES
from engine.analyses.variables import declared
from engine.request import DataSpec, Request

if TYPE_CHECKING:
    import xarray as xr

    from engine.models.info import ModelInfo

BOUNDS = ("low", "mean", "high")


def result(
    request: Request, params: JacobiansParams, models: Sequence["ModelInfo"], units: Mapping[str, "xr.Dataset"]
) -> Result:
    """Put all or some units together; what is absent, or beyond a smaller model's shape, is NaN."""
    import xarray as xr

    data = request.data or DataSpec()
    sizes = {
        "model": len(models),
        "component": len(params.components),
        "layer": max(info.n_layers for info in models),
        "sample": data.samples,
        "mode": max(info.d_model for info in models),
        "unit": max(info.d_model for info in models),
        "bound": len(BOUNDS),
    }
    ds = xr.Dataset(
        coords={
            "model": [info.label for info in models],
            "component": list(params.components),
            "layer": np.arange(sizes["layer"]),
            "sample": np.arange(sizes["sample"]),
            "bound": list(BOUNDS),
        }
    )
    variables = declared(VARIABLES, params)
    intervals = [name for name, variable in variables.items() if "bound" in variable.dims]
    dims = {name: v.dims for name, v in variables.items() if v.dims[: len(HEAD)] == HEAD and name not in intervals}
    values = {
        name: np.full([sizes[d] for d in axes], np.nan, complex if name == "mean_eigenvalues" else float)
        for name, axes in dims.items()
    }
    positions = np.full((len(models), data.samples), np.nan)
    text = {name: np.full((len(models), data.samples), "", dtype=object) for name in ("sample_text", "sample_token")}
    baseline = np.array([min(params.k, info.d_model) / info.d_model for info in models])
    for m, info in enumerate(models):
        layers = {i: units[layer_key(m, i)] for i in range(info.n_layers) if layer_key(m, i) in units}
        for layer, unit in layers.items():
            for name, array in values.items():
                if name in unit:
                    part = unit[name].values
                    array[m, :, layer][(slice(None), *map(slice, part.shape[1:]))] = part
            if "sample_text" in unit:
                positions[m] = unit["sample_position"].values
                for name, strings in text.items():
                    strings[m] = unit[name].values
            if layer + 1 in layers:
                values["forward_alignment"][m, :, layer] = _forward(unit, layers[layer + 1])
    ds = ds.assign({name: (dims[name], array) for name, array in values.items()})
    ds = ds.assign({name: (("model", "sample"), strings.astype(str)) for name, strings in text.items()})
    ds["sample_position"] = ("model", "sample"), positions
    ds["alignment_baseline"] = "model", baseline
    for name in intervals:
        sampled = name.removesuffix("_interval")
        ds[name] = variables[name].dims, _intervals(ds[sampled].values, request.seed, sampled == "kappa")
    _add_depth(ds, models, units, sizes["layer"])
    settings = {"context": params.context, "kappa": _singular(ds, models, units)}
    whole = all(unit.key in units for unit in planned(request, params, models))
    return Result(ds, notes=_notes(params, models, units), settings=settings, claims=claims if whole else None)


def _singular(ds: "xr.Dataset", models: Sequence["ModelInfo"], units: Mapping[str, "xr.Dataset"]) -> str:
    """What is to be said of κ, as JSON by component: which are infinite by proof, and which are lower bounds."""
    said: dict[str, dict[str, list[str]]] = {}

    def say(component: str, sentence: str, label: str) -> None:
        said.setdefault(component, {}).setdefault(sentence, []).append(label)

    for m, info in enumerate(models if "kappa" in ds else ()):
        layers = [units[key] for i in range(info.n_layers) if (key := layer_key(m, i)) in units]
        for component, reason in {
            (component, reason): None
            for unit in layers
            for component, reasons in json.loads(unit.attrs.get("singular", "{}")).items()
            for reason in reasons
        }:
            say(component, f"infinite: {reason}", info.label)
        for component in ds["component"].values:
            of_component = ds.sel(component=component).isel(model=m)
            bounds = of_component["kappa_at_least"].values == 1
            if bounds.any():
                least, times = of_component["kappa"].values[bounds].min(), bounds.sum()
                say(str(component), f"at least {least:.1e} and not resolved in float64 {times} times", info.label)
    every = len(models)
    return json.dumps(
        {
            component: [
                sentence if len(labels) == every else f"{sentence} ({', '.join(labels)})"
                for sentence, labels in sentences.items()
            ]
            for component, sentences in said.items()
        },
        ensure_ascii=False,
    )


def _forward(unit: "xr.Dataset", following: "xr.Dataset") -> np.ndarray:
    """What a layer writes against what the next one reads, for each component."""
    from engine.spectra.nonnormal import forward_alignment

    pairs = zip(unit["mean_left"].values, following["mean_right"].values, strict=True)
    return np.array([forward_alignment(left, right) for left, right in pairs])


def _intervals(samples: np.ndarray, seed: int, median: bool) -> np.ndarray:
    """Mean or median over samples between the ends of its bootstrap 95 % interval."""
    from engine.spectra.bootstrap import interval

    rng = np.random.default_rng(seed)
    ends = interval(samples, rng, "median" if median else "mean", draws=500)
    present = ~np.isnan(samples).all(-1)
    middles = (np.nanmedian if median else np.nanmean)(np.where(present[..., None], samples, 0.0), axis=-1)
    return np.stack([ends[..., 0], np.where(present, middles, np.nan), ends[..., 1]], axis=-1)


def _add_depth(
    ds: "xr.Dataset", models: Sequence["ModelInfo"], units: Mapping[str, "xr.Dataset"], n_layers: int
) -> None:
    """What the products of all layers gave, padded to the deepest and the widest model."""
    import xarray as xr

    products = {m: units[depth_key(m)] for m in range(len(models)) if depth_key(m) in units}
    if not products:
        return
    widest = max(unit.sizes["mode"] for unit in products.values())
    products = {m: unit.pad({"mode": (0, widest - unit.sizes["mode"])}) for m, unit in products.items()}
    blank = next(iter(products.values()))
    parts = [products.get(m, xr.full_like(blank, np.nan)) for m in range(len(models))]
    joined = xr.concat(parts, dim="model", join="outer", combine_attrs="drop").reindex(layer=np.arange(n_layers))
    for name, variable in joined.data_vars.items():
        renamed = variable.rename({"mode": "depth_mode"}) if "mode" in variable.dims else variable
        ds[name] = renamed.transpose("model", ...).drop_vars("model", errors="ignore")


def _notes(params: JacobiansParams, models: Sequence["ModelInfo"], units: Mapping[str, "xr.Dataset"]) -> list[str]:
    """Caveats that belong under every plot."""
    notes = []
    for m, info in enumerate(models):
        layers = [units[key] for i in range(info.n_layers) if (key := layer_key(m, i)) in units]
        lost = max((len(json.loads(unit.attrs["lost"])) for unit in layers), default=0)
        if lost:
            first = sorted(map(int, json.loads(layers[-1].attrs["lost"])))[:5]
            which = ", ".join(map(str, first))
            notes.append(f"{info.label}: {lost} samples whose activations are not finite are left out (first: {which})")
        if refusal := next((unit.attrs["refusal"] for unit in layers if unit.attrs["refusal"]), ""):
            notes.append(f"{info.label}: {refusal} These Jacobians come from automatic differentiation")
        if inseparable := next((reason for unit in layers if (reason := unit.attrs.get("inseparable"))), ""):
            notes.append(f"{info.label}: {inseparable}")
        if unverified := next((reason for unit in layers if (reason := unit.attrs.get("unverified"))), ""):
            notes.append(f"{info.label}: the closed form could not be compared with autograd ({unverified})")
        worst = max(
            (float(np.nanmax(unit["verified_error"].values)) for unit in layers if _verified(unit)), default=None
        )
        if worst is not None:
            notes.append(f"{info.label}: closed form and autograd differ by at most {worst:.1e} (relative)")
    return notes


def _verified(unit: "xr.Dataset") -> bool:
    return bool(np.isfinite(unit["verified_error"].values).any())
