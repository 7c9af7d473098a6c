"""Views of single heads: spectrum, density, complex cloud, Q-Q plot, the grid of a layer (S4 figs 1, 2, 5, 6)."""

from statistics import NormalDist
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from gui.plots.figure import Axis, Band, Figure, Line, Mark, Panel, Points, Rule, Steps
from gui.plots.selection import Selection
from gui.views.base import Options
from gui.views.weights.data import VARIABLES, Matrix, WeightsSlice

if TYPE_CHECKING:
    import xarray as xr


class SpectrumOptions(Options):
    matrix: Matrix = Field("QK", title="Matrix", description="W_QK = W_QᵀW_K, or W_OV = W_O W_V")
    units: Literal["absolute", "relative"] = Field(
        "absolute", title="Units", description="λ as it is, or in each head's own d²σ_Q²σ_K², where nulls coincide"
    )
    log_rank: bool = Field(False, title="Log rank", description="Draw the index on a logarithmic axis")
    shuffled: bool = Field(True, title="Shuffled", description="The same entries in random places")
    twin: bool = Field(True, title="Twin", description="The same head of the random-init twin")


def _spectrum_marks(weights: WeightsSlice, layer: int, head: int, options: SpectrumOptions) -> tuple[Mark, ...]:
    def unit(model: WeightsSlice) -> float:
        return model.scale(layer, head) if options.units == "relative" else 1.0

    eigenvalues = weights.spectrum(layer, head) / unit(weights)
    rank = np.arange(1, len(eigenvalues) + 1, dtype=float)
    low, middle, high = weights.null("quantiles", layer) * weights.scale(layer, head) / unit(weights)
    marks: list[Mark] = [
        Band(rank, low, high, "product null, 95 % of draws", "null"),
        Line(rank, middle, "product null, median", "null", dash=True),
    ]
    if options.shuffled and options.matrix == "QK" and "shuffled_qk_eigenvalues" in weights.dataset:
        shuffled = weights.dataset["shuffled_qk_eigenvalues"].values[weights.model, layer, head, : len(rank)]
        marks.append(Line(rank, shuffled / unit(weights), "shuffled weights", "shuffled"))
    if options.twin and (twin := weights.twin) is not None and twin.arrived(layer):
        marks.append(Line(rank, twin.spectrum(layer, head) / unit(twin), "random-init twin", "twin"))
    floor = float(weights.dataset["storage_floor"].values[weights.model]) * eigenvalues[0]
    if eigenvalues[-1] < 100 * floor:
        marks.append(Rule("y", floor, f"rounding of the stored {weights.info.storage_dtype}", "muted"))
    hover = tuple(f"λ{k} = {value:.4g}" for k, value in enumerate(eigenvalues, 1))
    marks.append(Line(rank, eigenvalues, "this head", "data", width=2, markers=True, hover=hover))
    return tuple(marks)


def spectrum(dataset: "xr.Dataset", selection: Selection, options: SpectrumOptions) -> Figure:
    """λ_k against index, over the product null's per-rank band (S4 fig. 2 left)."""
    weights = WeightsSlice.of(dataset, selection, options.matrix)
    layer, head = weights.selected_head(selection)
    if nothing := weights.nothing(layer):
        return Figure(empty=nothing)
    variable = weights.variable("eigenvalues")
    unit = f" / {VARIABLES['unit_scale'].symbol}" if options.units == "relative" else ""
    panel = Panel(
        Axis("index k", log=options.log_rank),
        Axis(f"{variable.symbol}ₖ of {variable.of}{unit}", log=variable.log),
        _spectrum_marks(weights, layer, head, options),
    )
    title = f"{weights.label}: spectrum of W_{options.matrix}, layer {layer}, head {head}"
    return Figure(((panel,),), title=title, note=weights.note)


class DensityOptions(Options):
    matrix: Matrix = Field("QK", title="Matrix")
    pool: Literal["head", "layer", "model"] = Field(
        "head", title="Pool", description="Eigenvalues of one head, of its layer, or of the whole model"
    )
    axis: Literal["log", "linear"] = Field(
        "log", title="λ axis", description="Logarithmic, with the density per unit of ln λ, or linear"
    )
    bins: int = Field(30, title="Bins", ge=5, le=200)


def _density_marks(weights: WeightsSlice, layer: int, values: np.ndarray, bins: int, log: bool) -> tuple[Mark, ...]:
    """A histogram of eigenvalues in units of d²σ²σ′² under the product law and the naive one.

    On a logarithmic axis areas stay probabilities because the density is per unit of ln λ, which is λ P(λ).
    """
    law_x, *laws = (weights.law(name, layer) for name in ("law_x", "law_density", "naive_density"))
    values = values[values > 0] if log else values
    low, high = min(values.min(), law_x[0]), max(values.max(), law_x[-1])
    edges = np.geomspace(low, high, bins + 1) if log else np.linspace(0, high, bins + 1)
    edges[-1] = np.nextafter(edges[-1], np.inf)
    height = np.histogram(values, edges)[0] / len(values) / np.diff(np.log(edges) if log else edges)
    return (
        Steps(edges, height, "measured", "data"),
        Line(law_x, laws[0] * law_x if log else laws[0], VARIABLES["law_density"].long_name, "law", width=2),
        Line(law_x, laws[1] * law_x if log else laws[1], VARIABLES["naive_density"].long_name, "naive", 2, dash=True),
    )


DENSITY = {True: "λ P(λ), the density of ln λ", False: "P(λ)"}


def _in_units(weights: WeightsSlice, layer: int, head: int) -> np.ndarray:
    return weights.spectrum(layer, head) / weights.scale(layer, head)


def density(dataset: "xr.Dataset", selection: Selection, options: DensityOptions) -> Figure:
    """P(λ) of the structurally nonzero eigenvalues beside the product law and the naive one (S4 figs 1, 2 right)."""
    weights = WeightsSlice.of(dataset, selection, options.matrix)
    layer, head = weights.selected_head(selection)
    if nothing := weights.nothing(layer):
        return Figure(empty=nothing)
    # The laws depend on the width of the heads, so only those of one width are pooled.
    width = weights.width(layer)
    alike = [i for i in range(weights.layers) if weights.arrived(i) and weights.width(i) == width]
    every = f"all heads of width {width}" if len(weights.info.head_widths) > 1 else "all heads"
    pooled, what = {
        "head": ([(layer, head)], f"layer {layer}, head {head}"),
        "layer": ([(layer, h) for h in range(weights.info.head_count(layer))], f"all heads of layer {layer}"),
        "model": ([(i, h) for i in alike for h in range(weights.info.head_count(i))], every),
    }[options.pool]
    values = np.concatenate([_in_units(weights, i, h) for i, h in pooled])
    log = options.axis == "log"
    marks = _density_marks(weights, layer, values, options.bins, log)
    panel = Panel(Axis(VARIABLES["law_x"].symbol, log=log), Axis(DENSITY[log]), marks)
    note = "The d − d_h structural zeros are left out. σ², σ′²: mean squares of the two factors' entries."
    title = f"{weights.label}: density of W_{options.matrix}, {what}"
    return Figure(((panel,),), title=title, note="  ·  ".join(filter(None, (note, weights.note))))


class CloudOptions(Options):
    matrix: Matrix = Field("QK", title="Matrix")


def cloud(dataset: "xr.Dataset", selection: Selection, options: CloudOptions) -> Figure:
    """Complex eigenvalues of W_QK or W_OV with the disc that the product of Gaussian factors would fill."""
    weights = WeightsSlice.of(dataset, selection, options.matrix)
    layer, head = weights.selected_head(selection)
    if nothing := weights.nothing(layer):
        return Figure(empty=nothing)
    values = weights.spectrum(layer, head, "complex_eigenvalues")
    angle = np.linspace(0, 2 * np.pi, 181)
    radius = float(weights.heads("null_radius")[layer, head])
    marks: list[Mark] = [
        Line(
            radius * np.cos(angle),
            radius * np.sin(angle),
            f"null disc, radius {VARIABLES['null_radius'].symbol}",
            "null",
            dash=True,
        )
    ]
    if (twin := weights.twin) is not None and twin.arrived(layer):
        other = twin.spectrum(layer, head, "complex_eigenvalues")
        marks.append(Points(other.real, other.imag, "random-init twin", "twin", size=5))
    hover = tuple(f"λ = {z.real:.4g} {'+' if z.imag >= 0 else '−'} {abs(z.imag):.4g}i" for z in values)
    marks.append(Points(values.real, values.imag, "this head", "data", hover=hover))
    positive = float(np.mean(values.real > 0))
    note = f"{positive:.0%} of the eigenvalues have a positive real part"
    if options.matrix == "OV":
        note += " (all positive: a copying head)"
    panel = Panel(Axis("Re λ"), Axis("Im λ"), tuple(marks), equal=True)
    title = f"{weights.label}: complex eigenvalues of W_{options.matrix}, layer {layer}, head {head}"
    return Figure(((panel,),), title=title, note="  ·  ".join(filter(None, (note, weights.note))))


class QQOptions(Options):
    """No options: the three matrices stand side by side."""


def gaussian_qq(dataset: "xr.Dataset", selection: Selection, options: QQOptions) -> Figure:
    """Standardised entries of W_Q, W_K and W_QK against a Gaussian of the same mean and σ."""
    weights = WeightsSlice.of(dataset, selection)
    layer, head = weights.selected_head(selection)
    if nothing := weights.nothing(layer):
        return Figure(empty=nothing)
    normal = np.array([NormalDist().inv_cdf(p) for p in dataset["probability"].values])
    panels = []
    for weight in ("wq", "wk", "wqk"):
        variable = VARIABLES[f"{weight}_quantiles"]
        values = dataset[variable.name].values[weights.model, layer, head]
        kurtosis = float(weights.heads(f"{weight}_kurtosis")[layer, head])
        skew = float(weights.heads(f"{weight}_skew")[layer, head])
        marks = (
            Line(normal, normal, "Gaussian", "null", dash=True),
            Points(normal, values, "entries", "data", size=5),
        )
        title = f"{variable.of}: skew {skew:.2f}, excess kurtosis {kurtosis:.2f}"
        panels.append(Panel(Axis("Gaussian quantile"), Axis(variable.short_label), marks, title=title))
    title = f"{weights.label}: entries against a Gaussian, layer {layer}, head {head}"
    return Figure((tuple(panels),), title=title, note=weights.note)


class GridOptions(Options):
    show: Literal["spectrum", "density"] = Field("spectrum", title="Show")
    matrix: Matrix = Field("QK", title="Matrix")


def grid(dataset: "xr.Dataset", selection: Selection, options: GridOptions) -> Figure:
    """All heads of a layer side by side, each beside its null (S4 figs 5 and 6)."""
    weights = WeightsSlice.of(dataset, selection, options.matrix)
    layer, current = weights.selected_head(selection)
    if nothing := weights.nothing(layer):
        return Figure(empty=nothing)
    heads = weights.info.head_count(layer)
    columns = int(np.ceil(np.sqrt(heads * 1.6)))
    panels = []
    for head in range(heads):
        eigenvalues = weights.spectrum(layer, head)
        if options.show == "spectrum":
            rank = np.arange(1, len(eigenvalues) + 1, dtype=float)
            low, _, high = weights.null("quantiles", layer) * weights.scale(layer, head)
            marks: tuple[Mark, ...] = (
                Band(rank, low, high, "product null, 95 % of draws", "null"),
                Line(rank, eigenvalues, "head", "data", width=2),
            )
            x, y = Axis("index k"), Axis("λₖ", log=True)
        else:
            marks = _density_marks(weights, layer, _in_units(weights, layer, head), 20, log=True)
            x, y = Axis(VARIABLES["law_x"].symbol, log=True), Axis(DENSITY[True])
        pick = weights.pick(layer, head)
        panels.append(Panel(x, y, marks, title=f"head {head}", pick=pick, current=head == current))
    rows = tuple(tuple(panels[i : i + columns]) for i in range(0, heads, columns))
    return Figure(rows, title=f"{weights.label}: W_{options.matrix} of every head of layer {layer}", note=weights.note)
