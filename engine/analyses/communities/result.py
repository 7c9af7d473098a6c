"""From the committed units of the communities analysis to its Dataset: merge, layers compared, FDR, rates, notes."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engine.analyses.base import Result
from engine.analyses.communities.claims import claims
from engine.analyses.communities.packing import NUMBERS, SITES, unpack
from engine.analyses.communities.plan import CommunitiesParams, layer_key, resolution_key
from engine.analyses.communities.variables import LAYER, VARIABLES
from engine.graphs import partitions
from engine.request import DataSpec, Request

if TYPE_CHECKING:
    import xarray as xr

    from engine.models.info import ModelInfo

# Of the two rate-level correlations and of self-alignment against d.
RATE_PERMUTATIONS = 10_000
SIGNIFICANT = 0.05
COMPARED = ("nmi_next", "ari_next", "disruption", "sigma_change", "variance_change")
FLOW = ("flow_source", "flow_target", "flow_units")
ADJUSTED = {"p_value": "q_value", "variance_p": "variance_q", "detector_p_value": "detector_q_value"}
# Variables of layers that no unit has: they are computed here from those of all layers.
DERIVED = {*COMPARED, *FLOW, *ADJUSTED.values(), "lineage"}
SINGLE = ("edge_weight", "correlation_tiles", "position")
RATES = ("sigma", "variance")
SPEARMAN = ("rho", "low", "high", "p", "n")


def result(
    request: Request, params: CommunitiesParams, models: Sequence["ModelInfo"], units: Mapping[str, "xr.Dataset"]
) -> Result:
    """Put all or some units together; what is absent, or beyond a smaller model's shape, is NaN (−1 for numbers)."""
    import xarray as xr

    snapshots = {
        (m, i): units[layer_key(m, i)]
        for m, info in enumerate(models)
        for i in range(info.n_layers)
        if layer_key(m, i) in units
    }
    sizes = {"model": len(models), "site": len(SITES), "layer": max(info.n_layers for info in models)}
    sizes |= {"unit": max(info.d_model for info in models), "xy": 2, "detector": len(params.detector)}
    sizes["restart"] = params.restarts
    for dim in ("rank", "edge", "row", "column", "community", "community_to"):
        sizes[dim] = max((unit.sizes[dim] for unit in snapshots.values()), default=0)
    dims = {v.name: v.dims for v in VARIABLES if v.dims[: len(LAYER)] == LAYER and v.name not in DERIVED}
    values: dict[str, NDArray[Any]] = {
        name: np.full([sizes[d] for d in axes], -1 if name in NUMBERS else np.nan, _dtype(name))
        for name, axes in dims.items()
    }
    for (m, layer), packed in snapshots.items():
        unit = unpack(packed)
        for s, site in enumerate(SITES):
            if site not in unit["site"].values:
                continue
            snapshot = unit.sel(site=site)
            for name, array in values.items():
                array[m, s, layer, ...][_corner(snapshot[name].shape)] = snapshot[name].values
    ds = xr.Dataset(
        {name: (dims[name], array) for name, array in values.items()},
        coords={
            "model": [info.label for info in models],
            "condition": ("model", [spec.condition for spec in request.models]),
            "seed": ("model", list(request.seeds)),
            "site": list(SITES),
            "layer": np.arange(sizes["layer"]),
            "unit": np.arange(sizes["unit"]),
            "xy": ["x", "y"],
            "detector": list(params.detector),
            "rate": list(RATES),
        },
    )
    ds = ds.assign(_compared(values))
    depths = {m: models[m].n_layers for m, _ in snapshots}
    ds = ds.assign(_tests(ds, depths, request.seed))
    ds = ds.assign(_table(ds))
    ds = ds.assign(_resolutions(models, units, params))
    data = request.data or DataSpec()
    ds["noise_correlation"] = "model", np.full(len(models), data.samples**-0.5)
    ds["alignment_baseline"] = "model", np.array([min(params.k, info.d_model) / info.d_model for info in models])
    return Result(
        ds,
        notes=_notes(ds, params, models, units),
        settings={"context": params.context},
        claims=partial(claims, steps=[info.step for info in models]),
    )


def _corner(shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Where an array of this shape goes in one that is at least as large."""
    return tuple(slice(n) for n in shape)


def _dtype(name: str) -> type:
    return np.int32 if name in NUMBERS else np.float32 if name in SINGLE else np.float64


def _compared(values: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Each layer's partition beside that of the next, at the same site; communities followed through the layers."""
    membership, sizes = values["membership"], values["community_size"]
    head = membership.shape[:3]
    measures = {name: np.full(head, np.nan) for name in COMPARED}
    lineage = np.full((*head, sizes.shape[-1]), np.nan)
    flows: dict[tuple[int, ...], NDArray[np.int64]] = {}
    for m, s in np.ndindex(*head[:2]):
        lines: NDArray[np.int64] | None = None
        last: NDArray[np.int64] | None = None
        for layer in range(head[2]):
            here = _proper(membership[m, s, layer])
            count = int(np.isfinite(sizes[m, s, layer]).sum())
            if here is None:
                lines = last = None
                continue
            if lines is None or last is None:
                lines = np.arange(count)
            else:
                both = np.stack([last, here])[:, (last > -2) & (here > -2)]
                lines = partitions.lineage(both[0], both[1], lines)
                # Communities all of whose units are new here.
                lines = np.concatenate([lines, int(lines.max(initial=-1)) + 1 + np.arange(count - len(lines))])
                flows[m, s, layer - 1] = np.stack(partitions.flow(both[0], both[1]))
                a, b = both[:, (both >= 0).all(0)]
                measures["nmi_next"][m, s, layer - 1] = partitions.nmi(a, b)
                measures["ari_next"][m, s, layer - 1] = partitions.ari(a, b)
            last = here
            lineage[m, s, layer, :count] = lines
    measures["disruption"] = 1 - measures["nmi_next"]
    for name, source in (("sigma_change", "mesoscale_sigma"), ("variance_change", "variance_captured")):
        measures[name][..., :-1] = np.abs(np.diff(values[source], axis=-1))
    variables: dict[str, Any] = {name: (LAYER, array) for name, array in measures.items()}
    widest = max((flow.shape[1] for flow in flows.values()), default=0)
    for row, name in enumerate(FLOW):
        array = np.full((*head, widest), np.nan)
        for at, flow in flows.items():
            array[at][: flow.shape[1]] = flow[row]
        variables[name] = (*LAYER, "flow"), array
    variables["lineage"] = (*LAYER, "community"), lineage
    return variables


def _proper(membership: NDArray[np.float64]) -> NDArray[np.int64] | None:
    """Labels with −1 in degenerate communities and −2 for units that are not there; None if none is."""
    present = np.isfinite(membership)
    if not present.any():
        return None
    labels = np.full(len(membership), -2, np.int64)
    labels[present] = partitions.proper(membership[present].astype(np.int64))
    return labels


def _tests(ds: "xr.Dataset", depths: Mapping[int, int], seed: int) -> dict[str, Any]:
    """False discovery rates over layers, and correlations through the layers of each model and site.

    `depths` has the number of layers of each model of which anything is there.
    """
    from engine.graphs.coupling import spearman_along_depth
    from engine.spectra.p_values import benjamini_hochberg

    tests: dict[str, Any] = {}
    for name, q in ADJUSTED.items():
        p = np.moveaxis(ds[name].values, 2, -1)
        adjusted = np.full(p.shape, np.nan)
        for at in np.ndindex(*p.shape[:-1]):
            # Layers that only a deeper model has are no tests of this one.
            depth = depths.get(at[0], 0)
            adjusted[at][:depth] = benjamini_hochberg(p[at][:depth])
        tests[q] = ds[name].dims, np.moveaxis(adjusted, -1, 2)
    rates = {name: np.full((ds.sizes["model"], len(SITES), len(RATES)), np.nan) for name in SPEARMAN}
    couplings = {name: np.full((ds.sizes["model"], len(SITES)), np.nan) for name in SPEARMAN}
    for m, s in product(depths, range(len(SITES))):
        series = {name: ds[name].values[m, s] for name in (*COMPARED, "self_alignment", "cohens_d")}
        rng = np.random.default_rng([seed, m, s])
        for r, rate in enumerate(RATES):
            correlation = spearman_along_depth(series["disruption"], series[f"{rate}_change"], RATE_PERMUTATIONS, rng)
            for name in SPEARMAN:
                rates[name][m, s, r] = getattr(correlation, name)
        correlation = spearman_along_depth(series["self_alignment"], series["cohens_d"], RATE_PERMUTATIONS, rng)
        for name in SPEARMAN:
            couplings[name][m, s] = getattr(correlation, name)
    tests |= {f"rate_{name}": (("model", "site", "rate"), array) for name, array in rates.items()}
    tests |= {f"coupling_{name}": (("model", "site"), array) for name, array in couplings.items()}
    return tests


def _table(ds: "xr.Dataset") -> dict[str, Any]:
    """Detectors by models, as S3's Table 1: the share of layers with q < 0.05, and the mean and median of d."""
    d, q = ds["detector_cohens_d"].values, ds["detector_q_value"].values
    tested = np.isfinite(q).sum(2)
    share = np.where(tested > 0, (q < SIGNIFICANT).sum(2) / np.maximum(tested, 1), np.nan)
    dims = ("model", "site", "detector")
    median, mean = (
        np.ma.filled(reduce(np.ma.masked_invalid(d), axis=2), np.nan) for reduce in (np.ma.median, np.ma.mean)
    )
    return {
        "detector_significant_share": (dims, share),
        "detector_mean_d": (dims, mean),
        "detector_median_d": (dims, median),
    }


def _resolutions(
    models: Sequence["ModelInfo"], units: Mapping[str, "xr.Dataset"], params: CommunitiesParams
) -> dict[str, Any]:
    """The stability profiles, and each model's γ⁺ with its reason."""
    profiles = {m: units[resolution_key(m)] for m in range(len(models)) if resolution_key(m) in units}
    count, grid = (max((unit.sizes[dim] for unit in profiles.values()), default=0) for dim in ("profiled", "gamma"))
    arrays = {f"gamma_{n}": np.full((len(models), count, grid), np.nan) for n in ("nmi", "communities", "covered")}
    arrays |= {
        "gamma_grid": np.full((len(models), grid), np.nan),
        "profiled_layer": np.full((len(models), count), np.nan),
    }
    chosen = np.full(len(models), np.nan if params.gamma_positive is None else params.gamma_positive)
    reasons = ["" if params.gamma_positive is None else "as the request says"] * len(models)
    for m, unit in profiles.items():
        for name, array in arrays.items():
            array[m][_corner(unit[name].shape)] = unit[name].values
        chosen[m], reasons[m] = float(unit["gamma_chosen"]), unit.attrs["gamma_reason"]
    dims = {"gamma_grid": ("model", "gamma"), "profiled_layer": ("model", "profiled")}
    variables: dict[str, Any] = {n: (dims.get(n, ("model", "profiled", "gamma")), a) for n, a in arrays.items()}
    profile = np.ma.filled(np.ma.masked_invalid(arrays["gamma_nmi"]).mean(1), np.nan)
    variables["gamma_profile"] = ("model", "gamma"), profile.reshape(len(models), grid)
    variables |= {"gamma_chosen": ("model", chosen), "gamma_reason": ("model", np.array(reasons, dtype=str))}
    return variables


def _notes(
    ds: "xr.Dataset", params: CommunitiesParams, models: Sequence["ModelInfo"], units: Mapping[str, "xr.Dataset"]
) -> list[str]:
    """Caveats that belong under every plot; places are named by layer."""
    notes = []
    for m, info in enumerate(models):
        of_model = ds.isel(model=m)
        layers = [units[key] for i in range(info.n_layers) if (key := layer_key(m, i)) in units]
        if not layers:
            continue

        def where(places: "xr.DataArray", part: "xr.Dataset" = of_model) -> str:
            """“before attention of layers 0, 3” for a condition (site, layer)."""
            named = []
            for site, title in (("attn", "attention"), ("mlp", "the MLP")):
                at = [str(int(i)) for i in part["layer"].values[places.sel(site=site).values]]
                if at:
                    named.append(f"before {title} of layer{'s' if len(at) > 1 else ''} {', '.join(at)}")
            return " and ".join(named)

        def say(places: "xr.DataArray", text: str, label: str = info.label) -> None:
            if bool(places.any()):
                notes.append(f"{label}, {where(places)}: {text}")

        samples = int(np.nanmin(of_model["n_samples"].values))
        say(
            of_model["n_constant"] > 0,
            f"constant units are left out ({int(np.nanmax(of_model['n_constant'].values))} at most)",
        )
        say(
            (of_model["significant_share"] == 0) | (of_model["n_samples"] < 10),
            "too few samples for any edge to be significant "
            f"(|r| above {float(of_model['significant_correlation'].max()):.2f} among so many pairs); "
            f"the |r| of noise is about 1/√N = {samples**-0.5:.2f} with {samples} samples",
        )
        say(of_model["n_edges"] == 0, "no edges, so that every unit is alone")
        edges = of_model["n_edges"] > 0
        say(edges & (of_model["negative_share"] == 0), "no negative edges; positive ones alone make the communities")
        say(edges & (of_model["negative_share"] == 1), "no positive edges, so that every unit is alone")
        alone = of_model["n_communities"] == 0
        say(alone, "no community of three units or more; what depends on communities means nothing there")
        whole = (of_model["n_communities"] == 1) & (of_model["n_degenerate"] == 0)
        say(whole, "one community of all units: participation is 0 and there is no boundary to test; try a larger γ⁺")
        tails = (
            of_model["n_communities"].notnull() & of_model["cohens_d"].isnull() & of_model["self_alignment"].notnull()
        )
        say(tails & ~alone & ~whole & edges, "too few different participations for a top and a bottom 10 %")
        lost = max(len(json.loads(unit.attrs["lost"])) for unit in layers)
        if lost:
            notes.append(f"{info.label}: {lost} samples whose activations are not finite are left out")
        if refusal := next((unit.attrs["refusal"] for unit in layers if unit.attrs["refusal"]), ""):
            notes.append(f"{info.label}: {refusal} Only sites before attention have an operator here")
        if params.gamma_positive is None and "cpm" in params.detector and (why := str(of_model["gamma_reason"].values)):
            notes.append(f"{info.label}: γ⁺ = {float(of_model['gamma_chosen']):.3g}, because {why}")
    return notes
