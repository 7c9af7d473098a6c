"""What one unit of the communities analysis computes: a layer's two snapshots, or the resolution for a model."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import astuple
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.analyses.base import Computation, Unit
from engine.analyses.communities.packing import NUMBERS, SITES, pack
from engine.analyses.communities.plan import CommunitiesParams, layer_key, resolution_key
from engine.analyses.samples import Streams
from engine.graphs.correlation import (
    SignedGraph,
    correlation_graph,
    mean_correlation,
    significant_correlation,
    standardise,
)
from engine.graphs.coupling import boundary_effect, variance_captured
from engine.graphs.detect import Detector, Partition, average, choose_resolution, detect, resolutions, stability
from engine.graphs.layout import place
from engine.graphs.participation import participation
from engine.graphs.partitions import proper
from engine.jacobians.means import JacobianSum, sum_jacobians, sum_operator
from engine.jacobians.mlp_half import mlp_half
from engine.jacobians.reference import reference_operators
from engine.models.memory import halve_on_oom
from engine.models.sites import sites
from engine.request import DataSpec, Request
from engine.spectra.nonnormal import forward_alignment

if TYPE_CHECKING:
    from engine.jacobians.state import ResidualState
    from engine.jacobians.stream import ResidualStream
    from engine.models.adapters import Block
    from engine.models.opening import OpenModel

# The fields of `Effect` and `Captured`, as the Dataset calls them.
TESTED = (
    "cohens_d", "cohens_d_low", "cohens_d_high", "p_value", "tail_top", "tail_bottom",
    "variance_captured", "mesoscale_sigma", "variance_null_mean", "variance_null_std", "variance_z", "variance_p",
)  # fmt: skip
BLOCK: tuple[Literal["block"]] = ("block",)
# Seeds of the stability profile: ten pairs at each resolution.
PROFILED = 5
# The correlation matrix is kept as means of tiles, at most so many along a side.
TILES = 256
# Operators of as many samples at a time as their factors fit into this, and dense ones where there is no closed form.
CHUNK_BYTES = 2**28


def profile(streams: Iterable["ResidualStream"], params: CommunitiesParams, rng: np.random.Generator) -> xr.Dataset:
    """How stable partitions are against γ⁺, before attention of a few layers, and the γ⁺ that follows from it."""
    layers, graphs = [], []
    for stream in streams:
        layers.append(stream.layer)
        x = torch.cat([state.chosen for _, state in stream.states(torch.float32)])
        graphs.append(correlation_graph(standardise(x)[0], params.top_k))
    gammas = resolutions(graphs)
    seeds = rng.integers(2**31, size=PROFILED).tolist()
    profiles = [stability(graph, gammas, params.gamma_negative, seeds) for graph in graphs]
    gamma, why = choose_resolution(average(profiles))
    dims = ("profiled", "gamma")
    return xr.Dataset(
        {
            "gamma_grid": ("gamma", gammas),
            "gamma_nmi": (dims, np.array([layer_profile.nmi for layer_profile in profiles])),
            "gamma_communities": (dims, np.array([layer_profile.communities for layer_profile in profiles])),
            "gamma_covered": (dims, np.array([layer_profile.covered for layer_profile in profiles])),
            "profiled_layer": ("profiled", np.array(layers)),
            "gamma_chosen": ((), gamma),
        },
        attrs={"gamma_reason": why},
    )


def measure_layer(
    stream: "ResidualStream",
    model: "OpenModel",
    params: CommunitiesParams,
    gamma: float | None,
    rng: np.random.Generator,
    before: NDArray[np.float64] | None,
) -> xr.Dataset:
    """Graph, communities, participation and tests of both snapshots of the stream's layer.

    `before` are the units' positions in the last snapshot, (d, 2).
    """
    refusal = model.closed_form_refusal() or ""
    block = None if refusal else model.block(stream.layer, "all")
    parts = []
    snapshots = _snapshots(stream, model)
    for site, x in zip(SITES, snapshots, strict=True):
        if x is None:
            continue
        jacobian = _mean_jacobian(stream, block, x, site, params)
        parts.append(_measure(x, jacobian, params, gamma, rng, before).expand_dims(site=[site]))
        before = parts[-1]["position"].values[0]
    ds = xr.concat(parts, "site", join="outer", fill_value=dict.fromkeys(NUMBERS, -1))
    ds = pack(ds.drop_vars(set(ds.indexes) - {"site"}))
    ds.attrs = {"lost": json.dumps(stream.lost), "refusal": refusal}
    return ds


@torch.no_grad()
def _snapshots(stream: "ResidualStream", model: "OpenModel") -> tuple[Tensor, Tensor | None]:
    """The chosen tokens' residual stream as attention and as the MLP meet it, (N, d) each.

    The latter is None where the architecture does not say where its MLP begins.
    """
    module, layer = model.module(), stream.layer
    mlp = [site for site in sites(module, "entrances") if site.layer == layer and site.name == "before_mlp"]
    entered: list[Tensor] = []
    caught: list[Tensor] = []
    dtype = next(module.parameters()).dtype
    for samples, state in stream.states(dtype):
        entered.append(state.chosen)
        if mlp:
            entrance = module.get_submodule(mlp[0].path)
            parts = halve_on_oom(partial(_chosen_at, entrance, stream, samples, state), range(len(samples)))
            caught += [chosen for _, chosen in parts]
    return torch.cat(entered), torch.cat(caught) if caught else None


def _chosen_at(
    entrance: nn.Module, stream: "ResidualStream", samples: Tensor, state: "ResidualState", part: range
) -> Tensor:
    """What a module in the stream's block is given at the chosen tokens of some of the samples, (n, d)."""
    inside = slice(part.start, part.stop)
    hidden, positions = state.hidden[inside], state.positions[inside]
    seen: list[Tensor] = []
    handle = entrance.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    try:
        stream.blocks.call(stream.layer, stream.inputs(samples[inside]))[1](hidden)
    finally:
        handle.remove()
    # Some of the library's blocks (OPT) run their MLP on a flattened batch.
    return seen[0].reshape(hidden.shape)[torch.arange(len(part), device=hidden.device), positions]


def _mean_jacobian(
    stream: "ResidualStream", block: "Block | None", x: Tensor, site: str, params: CommunitiesParams
) -> Tensor | None:
    """The mean Jacobian from a site to the end of its block, (d, d) float64; None where there is no way to it."""
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    total: JacobianSum | None = None
    d = x.shape[1]
    if site == "mlp":
        if block is None or block.mlp is None:
            return None
        step = max(1, CHUNK_BYTES // (8 * (len(block.mlp.w_in) + 8 * d)))
        for part in x.to(wide).split(step):
            addend = sum_operator(mlp_half(block, part))
            total = addend if total is None else total + addend
    else:
        size = None if block is not None else max(1, CHUNK_BYTES // (8 * d * d))
        for samples, state in stream.states(wide, size):
            if block is not None:
                addend = sum_jacobians(block, state, BLOCK, params.context)["block"]
            else:
                inputs = stream.inputs(samples)
                operators = reference_operators(stream.blocks, stream.layer, inputs, state, BLOCK, params.context)
                addend = sum_operator(operators["block"])
            total = addend if total is None else total + addend
    return None if total is None else total.mean


def _measure(
    x: Tensor,
    jacobian: Tensor | None,
    params: CommunitiesParams,
    gamma: float | None,
    rng: np.random.Generator,
    before: NDArray[np.float64] | None,
) -> xr.Dataset:
    """One snapshot."""
    d = x.shape[1]
    z, varies = standardise(x)
    graph = correlation_graph(z, params.top_k)
    seeds = rng.integers(2**31, size=params.restarts).tolist()
    detected = [_tested(graph, name, varies, jacobian, params, gamma, seeds, rng) for name in params.detector]
    partition, tests = detected[0]
    labels = partition.labels
    p, within = participation(graph, labels)
    order = np.lexsort((-graph.degree, labels))
    earlier = None if before is None else before[varies]
    proper_labels = proper(labels)
    sizes = np.bincount(proper_labels[proper_labels >= 0])

    def of_units(values: NDArray[Any]) -> NDArray[np.float64]:
        spread = np.full((d, *values.shape[1:]), np.nan)
        spread[varies] = values
        return spread

    numbers = np.flatnonzero(varies).astype(np.int32)
    tiles = np.empty(graph.n, np.int64)
    tiles[order] = np.arange(graph.n) * min(TILES, graph.n) // max(1, graph.n)
    floor = significant_correlation(len(x), graph.n)
    size = np.abs(graph.weight)
    scalars = {
        "n_communities": partition.communities,
        "n_degenerate": int((proper_labels < 0).sum()),
        "n_constant": int((~varies).sum()),
        "n_edges": len(size),
        "n_samples": len(x),
        "negative_share": float((graph.weight < 0).mean()) if size.size else np.nan,
        "weakest_edge": float(size.min()) if size.size else np.nan,
        "significant_share": float((size > floor).mean()) if size.size else np.nan,
        "significant_correlation": floor,
        "quality": partition.quality,
        **tests,
        **_operator(jacobian, params.k),
    }
    units = {
        "membership": labels,
        "participation": p,
        "within_degree_z": within,
        "degree": graph.degree,
    }
    ds: dict[str, Any] = {name: ((), value) for name, value in scalars.items()}
    ds |= {name: ("unit", of_units(values)) for name, values in units.items()}
    column = np.full(d, np.nan) if jacobian is None else torch.linalg.vector_norm(jacobian, dim=0).cpu().numpy()
    ds |= {
        "column_norm": ("unit", column),
        "position": (("unit", "xy"), of_units(place(graph, labels, seeds[0], earlier))),
        "order": ("rank", numbers[order]),
        "edge_source": ("edge", numbers[graph.source]),
        "edge_target": ("edge", numbers[graph.target]),
        "edge_weight": ("edge", graph.weight.astype(np.float32)),
        "correlation_tiles": (("row", "column"), mean_correlation(z, tiles).astype(np.float32)),
        "community_size": ("community", sizes.astype(float)),
        "community_correlation": (("community", "community_to"), mean_correlation(z, proper_labels)),
        "restart_quality": ("restart", np.array(partition.qualities)),
    }
    for name in ("cohens_d", "p_value", "variance_z", "n_communities"):
        values = [statistics[name] if name != "n_communities" else part.communities for part, statistics in detected]
        ds[f"detector_{name}"] = "detector", np.array(values, float)
    snapshot = xr.Dataset(ds, {"detector": list(params.detector), "xy": ["x", "y"]})
    # Dimensions that differ between the sites are joined by number.
    counted = set(snapshot.sizes) - {"detector", "xy", "unit"}
    return snapshot.assign_coords({dim: np.arange(snapshot.sizes[dim]) for dim in counted})


def _tested(
    graph: SignedGraph,
    detector: Detector,
    varies: NDArray[np.bool_],
    jacobian: Tensor | None,
    params: CommunitiesParams,
    gamma: float | None,
    seeds: list[int],
    rng: np.random.Generator,
) -> tuple[Partition, dict[str, float]]:
    """One detector's communities, and the tests of what they have to do with the operator."""
    resolution = 1.0 if gamma is None or np.isnan(gamma) else gamma
    partition = detect(graph, detector, seeds, resolution, params.gamma_negative)
    if jacobian is None:
        return partition, dict.fromkeys(TESTED, float("nan"))
    column = torch.linalg.vector_norm(jacobian, dim=0).cpu().numpy()[varies]
    effect = boundary_effect(participation(graph, partition.labels)[0], column, params.permutations, rng)
    kept = torch.as_tensor(np.flatnonzero(varies), device=jacobian.device)
    among = jacobian[kept][:, kept].float()
    captured = variance_captured(among, proper(partition.labels), params.partitions, rng)
    values = (*astuple(effect), *astuple(captured))
    return partition, dict(zip(TESTED, map(float, values), strict=True))


def _operator(jacobian: Tensor | None, k: int) -> dict[str, float]:
    """Self-alignment of the mean Jacobian (methods §6): its k leading directions read against those written."""
    if jacobian is None:
        return {"self_alignment": float("nan"), "sigma": float("nan")}
    u, sigma, vh = torch.linalg.svd(jacobian)
    k = min(k, len(jacobian))
    left, right = u[:, :k].cpu().numpy(), vh[:k].mT.cpu().numpy()
    return {"self_alignment": forward_alignment(left, right), "sigma": float(sigma[0])}


class Compute(Computation[CommunitiesParams]):
    """The resolution of a model, then its layers along one residual stream."""

    def __init__(self) -> None:
        self._streams = Streams()

    def __call__(
        self,
        unit: Unit,
        request: Request,
        params: CommunitiesParams,
        model: "OpenModel",
        rng: np.random.Generator,
        done: Mapping[str, "xr.Dataset"],
    ) -> "xr.Dataset":
        data, seed = request.data or DataSpec(), request.seeds[unit.model]

        def stream_at(layer: int) -> "ResidualStream":
            return self._streams.at(layer, model, data, params.samples, seed)

        if unit.layer is None:
            layers = sorted({model.info.n_layers * quarter // 4 for quarter in (1, 2, 3)})
            return profile(map(stream_at, layers), params, rng)
        chosen = done.get(resolution_key(unit.model))
        gamma = params.gamma_positive if chosen is None else float(chosen["gamma_chosen"])
        before = done[layer_key(unit.model, unit.layer - 1)]["position"].values[-1] if unit.layer else None
        return measure_layer(stream_at(unit.layer), model, params, gamma, rng, before)
