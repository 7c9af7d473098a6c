"""What one unit of the Jacobian analysis computes: all samples at one layer, or the product of all layers."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from engine.analyses.base import Computation, Unit
from engine.analyses.jacobians.plan import VERIFIED_WIDTH, Component, JacobiansParams, layer_key
from engine.analyses.samples import Streams, tokenizer_if_any
from engine.errors import UserError
from engine.jacobians.closed import component_operators
from engine.jacobians.condition import ConditionNumbers
from engine.jacobians.cumulative import compose
from engine.jacobians.means import JacobianSum, sum_operators
from engine.jacobians.reference import reference_operators, sublayers_at
from engine.jacobians.spectra import STATISTICS, sample_statistics, singular_values
from engine.jacobians.surgery import DOSES, operate
from engine.jacobians.verify import errors_at
from engine.models.memory import halve_on_oom
from engine.request import DataSpec, Request
from engine.spectra import power_law
from engine.spectra.nonnormal import OperatorStatistics, describe

if TYPE_CHECKING:
    from engine.jacobians.operators import Operator
    from engine.jacobians.state import ResidualState
    from engine.jacobians.stream import ResidualStream
    from engine.models.opening import OpenModel


Measured = tuple[dict[Component, dict[str, Tensor]], Mapping[Component, JacobianSum]]
CONSTRUCTIONS = ("surgery", "control_a", "control_b")
DRAWS = 4
# What the Jacobians of one chunk of samples may take when they are formed, as κ and the reference path do.
CHUNK_BYTES = 2**28


def measure_layer(stream: "ResidualStream", model: "OpenModel", params: JacobiansParams) -> xr.Dataset:
    """Every sample's Jacobians at the stream's layer, and the spectra of their means."""
    layer, d = stream.layer, model.info.d_model
    refusal = model.closed_form_refusal() or ""
    block = None if refusal else model.block(layer, "all")
    components, inseparable = (params.components, "") if block is not None else _separable(stream, params)
    dtype = torch.float64 if next(model.module().parameters()).dtype == torch.float64 else torch.float32
    names = [name for name in STATISTICS if name != "kappa" or params.kappa]
    n = len(stream.tokens)
    stored = [*names, "kappa_at_least"] if params.kappa else names
    sampled: dict[str, NDArray[np.floating]] = {name: np.full((len(components), n), np.nan) for name in stored}
    if params.spectra:
        sampled["singular_values"] = np.full((len(components), n, d), np.nan, np.float32)
    sums: dict[Component, JacobianSum] = {}

    def operators(samples: Tensor, state: "ResidualState") -> "Mapping[Component, Operator]":
        if block is not None:
            return component_operators(block, state, params.context)
        inputs = stream.inputs(samples)
        return reference_operators(stream.blocks, layer, inputs, state, components, params.context)

    at_once = max(1, CHUNK_BYTES // (8 * d * d))
    conditions = ConditionNumbers(block, params.context, operators, at_once)

    def measure(samples: Tensor, state: "ResidualState") -> "Measured":
        jacobians = operators(samples, state)
        statistics: dict[Component, dict[str, Tensor]] = {}
        for name in components:
            singular = conditions.singular(name, state) if params.kappa else None
            # Where all are singular by proof, no κ is sought.
            sought = [key for key in names if key != "kappa" or singular is None or not singular.all()]
            statistics[name] = {str(key): values for key, values in sample_statistics(jacobians[name], sought).items()}
            if singular is not None:
                unsettled = statistics[name].get("kappa", torch.full((len(state),), torch.inf, dtype=torch.float64))
                statistics[name] |= conditions.settle(name, unsettled, singular, samples, state)
            if params.spectra:
                statistics[name]["singular_values"] = singular_values(jacobians[name])
        return statistics, sum_operators(jacobians, components)

    chunks = stream.states(dtype, at_once)
    for samples, measured in (part for chunk in chunks for part in _in_parts(measure, *chunk)):
        statistics, totals = measured
        for row, component in enumerate(components):
            for name, values in statistics[component].items():
                sampled[name][row, samples.numpy()] = values.double().cpu().numpy()
        sums = {name: sums[name] + total if name in sums else total for name, total in totals.items()}

    dims = ("component", "sample", "mode")
    ds = xr.Dataset({name: (dims[: values.ndim], values) for name, values in sampled.items()})
    ds = ds.assign_coords(component=list(components))
    ds = ds.assign(_mean_operators({name: sums[name].mean for name in components}, params))
    if "block" in components:
        ds["mean_jacobian"] = ("unit_out", "unit"), sums["block"].mean.float().cpu().numpy()
    errors, unverified = np.full(len(components), np.nan), ""
    if params.verify and block is not None and d <= VERIFIED_WIDTH:
        # The shortest sample: the reference goes through all its tokens.
        *_, (samples, state) = stream.states(torch.float64, 1)
        try:
            errors = errors_at(stream, block, samples, state, components, params.context).numpy()
        except Exception as error:  # the library's own code may not be made for float64
            unverified = f"{type(error).__name__}: {error}"
    ds["verified_error"] = "component", errors
    ds = ds.reindex(component=list(params.components))
    if layer == params.chosen(model.info.n_layers)[0]:
        ds = ds.assign(_texts(stream, model))
    ds.attrs = {"lost": json.dumps(stream.lost), "refusal": refusal}
    ds.attrs |= {"inseparable": inseparable, "unverified": unverified}
    ds.attrs["singular"] = json.dumps({name: sorted(why) for name, why in conditions.reasons.items() if why})
    return ds


def _separable(stream: "ResidualStream", params: JacobiansParams) -> tuple[tuple[Component, ...], str]:
    """The components that the reference path can tell apart, and why it cannot tell apart the others."""
    *_, (samples, state) = stream.states(torch.float64, 1)
    try:
        if not {"attn", "mlp"}.isdisjoint(params.components):
            sublayers_at(stream.blocks, stream.layer, stream.inputs(samples), state)
    except UserError as error:
        whole: tuple[Component, ...] = tuple(name for name in params.components if name not in ("attn", "mlp"))
        if not whole:
            raise
        return whole, error.message
    return params.components, ""


def _in_parts(
    measure: "Callable[[Tensor, ResidualState], Measured]", samples: Tensor, state: "ResidualState"
) -> "Iterator[tuple[Tensor, Measured]]":
    """What `measure` gives for a chunk of samples, in parts that fit into memory: each sample once."""
    chunk = range(len(samples))
    for part, measured in halve_on_oom(
        lambda rows: measure(samples[rows.start : rows.stop], state[rows.start : rows.stop]), chunk
    ):
        yield samples[part.start : part.stop], measured


def _mean_operators(means: Mapping[Component, Tensor], params: JacobiansParams) -> dict[str, Any]:
    """Statistics of the mean operators, (component, ...)."""
    statistics: dict[Component, OperatorStatistics] = {
        name: describe(mean, params.k) for name, mean in means.items() if name != "block"
    }
    if "block" in means:
        eigenvalues = statistics["residual"].eigenvalues + 1 if "residual" in statistics else None
        statistics["block"] = describe(means["block"], params.k, eigenvalues)
    described = [statistics[name] for name in means]

    def stacked(name: str) -> NDArray[Any]:
        return np.array([getattr(operator, name) for operator in described])

    scalars = ("henrici", "self_alignment", "alignment_gap", "expanding_fraction", "complex_fraction")
    ds: dict[str, Any] = {name: ("component", stacked(name)) for name in (*scalars, "spectral_radius", "residual_norm")}
    ds |= {"mean_eigenvalues": (("component", "mode"), stacked("eigenvalues"))}
    ds |= {"mean_singular_values": (("component", "mode"), stacked("singular_values"))}
    ds |= {"column_norm": (("component", "unit"), stacked("column_norm"))}
    ds |= {f"mean_{side}": (("component", "unit", "leading"), stacked(side)) for side in ("left", "right")}
    try:
        fitted = power_law.fit(stacked("singular_values") ** 2)
    except UserError:  # fewer singular values than a fit needs: there is no exponent
        return ds
    fits = {"mean_alpha_rank": fitted.alpha, "mean_alpha_rank_se": fitted.se, "mean_r2": fitted.r2}
    return ds | {name: ("component", values) for name, values in fits.items()}


def _texts(stream: "ResidualStream", model: "OpenModel") -> dict[str, Any]:
    """What each sample says, and its chosen token."""
    tokenizer = tokenizer_if_any(model)
    rows = [row[:length] for row, length in zip(stream.tokens.tolist(), stream.lengths.tolist(), strict=True)]

    def spelled(token: int) -> str:
        if tokenizer is None:
            return str(token)
        text, piece = str(tokenizer.decode([token])), str(tokenizer.convert_ids_to_tokens(token))
        return f" {text}" if piece.startswith("▁") and not text.startswith(" ") else text  # SentencePiece drops it

    texts = [" ".join(map(str, row)) if tokenizer is None else str(tokenizer.decode(row)) for row in rows]
    tokens = [spelled(row[at]) for row, at in zip(rows, stream.positions.tolist(), strict=True)]
    return {
        "sample_text": ("sample", np.array(texts)),
        "sample_token": ("sample", np.array(tokens)),
        "sample_position": ("sample", stream.positions.double().numpy()),
    }


def through_depth(means: Sequence[NDArray[np.floating]], params: JacobiansParams, device: str, seed: int) -> xr.Dataset:
    """The product of all layers' mean block Jacobians, and its dose response to Schur surgery."""

    def backwards() -> Any:
        return (torch.from_numpy(mean).to(device) for mean in reversed(means))

    product = compose(backwards(), params.rank, seed)
    ds = xr.Dataset(
        {
            "cumulative_effective_rank": ("layer", product.effective_rank),
            "cumulative_singular_values": (("layer", "mode"), np.exp(product.log_singular_values)),
            "cumulative_exponents": (("layer", "mode"), product.exponents),
            "cumulative_discarded": ("layer", product.discarded),
        },
        coords={"layer": np.arange(len(means))},
    )
    if params.surgery:
        surgery = operate(backwards(), DOSES, DRAWS, params.rank, params.surgery_of == "residual", seed)
        ds["surgery_effective_rank"] = ("construction", "dose", "layer", "draw"), surgery.effective_rank
        ds["surgery_moved"] = "layer", surgery.moved
        ds = ds.assign_coords(construction=list(CONSTRUCTIONS), dose=list(surgery.doses))
    return ds


class Compute(Computation[JacobiansParams]):
    """Layers in order, along one residual stream a model, then the product of all layers."""

    def __init__(self) -> None:
        self._streams = Streams()

    def __call__(
        self,
        unit: Unit,
        request: Request,
        params: JacobiansParams,
        model: "OpenModel",
        rng: np.random.Generator,
        done: Mapping[str, "xr.Dataset"],
    ) -> "xr.Dataset":
        if unit.layer is not None:
            data, seed = request.data or DataSpec(), request.seeds[unit.model]
            stream = self._streams.at(unit.layer, model, data, params.samples, seed, params.position)
            return measure_layer(stream, model, params)
        layers = [done[layer_key(unit.model, i)] for i in range(model.info.n_layers)]
        return through_depth(
            [layer["mean_jacobian"].values for layer in layers], params, model.device, int(rng.integers(2**31))
        )
