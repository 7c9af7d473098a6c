"""Views of the mean Jacobian of one layer: eigenvalues, singular values, columns; and the navigator (S3 figs 1, S1)."""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from gui.plots.figure import Axis, Band, Figure, Floats, Image, Line, Mark, Panel, Points, Rule
from gui.plots.selection import Pick, Selection
from gui.views.base import Options
from gui.views.jacobians.data import (
    COMPONENTS,
    LABELS,
    NOTHING,
    OPERATOR,
    SAMPLED,
    Component,
    JacobiansSlice,
    layer_axis,
    waiting,
)

if TYPE_CHECKING:
    import xarray as xr

Complex = npt.NDArray[np.complexfloating]
EIGENVALUES = "mean_eigenvalues"
SIGMA = "mean_singular_values"
FIT_RANKS = (10, 100)
"""The ranks, 1-based and inclusive, over which the analysis fits its slope."""
CELLS = 48
"""Of the grid on which a cloud's density is counted, along each side."""


class CloudOptions(Options):
    component: Component = Field("block", title="Of", json_schema_extra=LABELS)
    density: bool = Field(True, title="Density", description="Colour the eigenvalues by how many there are around them")
    twin: bool = Field(True, title="Twin", description="The same layer of the random-init twin")


def cloud(dataset: "xr.Dataset", selection: Selection, options: CloudOptions) -> Figure:
    """Eigenvalues of a layer's mean Jacobian in the complex plane, with the unit circle (S3 fig. 1)."""
    jacobians = JacobiansSlice.of(dataset, selection)
    layer, component = jacobians.layer(selection), options.component
    if component not in jacobians.measured(EIGENVALUES):
        return Figure(empty=jacobians.missing(EIGENVALUES, component, "mean Jacobian"))
    values = _eigenvalues(jacobians, component, layer)
    if not values.size:
        return Figure(empty=waiting(layer))
    marks: list[Mark] = [_unit_circle()]
    if options.twin and (twin := jacobians.twin) is not None:
        other = _eigenvalues(twin, component, layer)
        marks.append(Points(other.real, other.imag, "random-init twin", "twin", size=4))
    hover = tuple(
        f"λ = {z.real:.4g} {'+' if z.imag >= 0 else '−'} {abs(z.imag):.4g}i, |λ| = {abs(z):.4g}" for z in values
    )
    marks.append(_points(values, options.density, 5.0, hover))
    at = f"of the {COMPONENTS[component]}, layer {layer}"
    found = {name: float(jacobians.values(name, component)[layer]) for name in ("complex_fraction", "henrici")}
    expanding = int((np.abs(values) > 1).sum())
    note = (
        f"{expanding} of {len(values)} eigenvalues outside the unit circle, {found['complex_fraction']:.0%} in complex "
        f"pairs, Henrici departure {found['henrici']:.3g}"
    )
    panel = Panel(Axis("Re λ"), Axis("Im λ"), tuple(marks), equal=True)
    title = jacobians.title(f"eigenvalues of the mean Jacobian {at}")
    return Figure(((panel,),), title=title, note=jacobians.caveats(note))


class CloudsOptions(Options):
    component: Component = Field("block", title="Of", json_schema_extra=LABELS)
    range: Literal["shared", "own"] = Field(
        "own", title="Range", json_schema_extra={"labels": {"shared": "one for all layers", "own": "each its own"}}
    )


def clouds(dataset: "xr.Dataset", selection: Selection, options: CloudsOptions) -> Figure:
    """The eigenvalue clouds of all layers side by side, each with the unit circle (S3 fig. S1)."""
    jacobians = JacobiansSlice.of(dataset, selection)
    if options.component not in jacobians.measured(EIGENVALUES):
        return Figure(empty=jacobians.missing(EIGENVALUES, options.component, "mean Jacobian"))
    columns = int(np.ceil(np.sqrt(jacobians.layers * 1.6)))
    panels = []
    for layer in range(jacobians.layers):
        values = _eigenvalues(jacobians, options.component, layer)
        limits = None
        if options.range == "own" and values.size:
            reach = 1.08 * max(1.0, float(np.abs(values).max()))
            limits = (-reach, reach)
        marks = (_unit_circle(), _points(values, True, 3.0))
        panels.append(
            Panel(
                Axis("Re λ", limits=limits),
                Axis("Im λ", limits=limits),
                marks,
                title=f"layer {layer}" if values.size else f"layer {layer}, on its way",
                equal=True,
                pick=jacobians.pick(layer),
                current=layer == jacobians.layer(selection),
            )
        )
    rows = tuple(tuple(panels[i : i + columns]) for i in range(0, jacobians.layers, columns))
    title = jacobians.title(f"eigenvalues of the mean Jacobian of the {COMPONENTS[options.component]}")
    return Figure(rows, title=title, note=jacobians.caveats())


def _eigenvalues(jacobians: JacobiansSlice, component: str, layer: int) -> Complex:
    values = jacobians.spectrum(EIGENVALUES, component, layer)
    return np.asarray(values[np.isfinite(values)], complex)


def _unit_circle() -> Line:
    angle = np.linspace(0, 2 * np.pi, 181)
    return Line(np.cos(angle), np.sin(angle), "unit circle", "null", dash=True)


def _points(values: Complex, density: bool, size: float, hover: tuple[str, ...] = ()) -> Points:
    if not density or not values.size:
        return Points(values.real, values.imag, "eigenvalues", "data", size=size, hover=hover)
    level, label = _density(values), "log₁₀ of eigenvalues per unit area"
    return Points(values.real, values.imag, "eigenvalues", size=size, values=level, values_label=label, hover=hover)


def _density(values: Complex) -> Floats:
    """log₁₀ of how many eigenvalues there are per unit area around each of them, on a grid over the middle 98 %."""
    (low_x, high_x), (low_y, high_y) = (np.quantile(v, [0.01, 0.99]) for v in (values.real, values.imag))
    side = max(high_x - low_x, high_y - low_y) / CELLS or 1.0
    cells = np.stack([np.floor((values.real - low_x) / side), np.floor((values.imag - low_y) / side)])
    inside = np.clip(cells, -2, CELLS + 2).astype(int) + 3  # a rim of two cells holds what lies further out
    size = CELLS + 7
    counts = np.bincount(inside[0] * size + inside[1], minlength=size**2).reshape(size, size)
    around = sum(np.roll(counts, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1))
    return np.log10(np.asarray(around)[tuple(inside)] / (9 * side**2))


class SpectrumOptions(Options):
    component: Component = Field("block", title="Of", json_schema_extra=LABELS)
    others: bool = Field(False, title="All layers", description="The spectra of the other layers behind it")
    samples: bool = Field(True, title="Samples", description="The selected sample's own, where the run kept them")
    twin: bool = Field(True, title="Twin", description="The same layer of the random-init twin")


def spectrum(dataset: "xr.Dataset", selection: Selection, options: SpectrumOptions) -> Figure:
    """Singular values of a layer's mean Jacobian against rank, both logarithmic, with the fitted power law."""
    jacobians = JacobiansSlice.of(dataset, selection)
    layer, component = jacobians.layer(selection), options.component
    if component not in jacobians.measured(SIGMA):
        return Figure(empty=jacobians.missing(SIGMA, component, "mean Jacobian"))
    sigma = jacobians.spectrum(SIGMA, component, layer)
    if np.isnan(sigma).all():
        return Figure(empty=waiting(layer))
    rank = np.arange(1, len(sigma) + 1, dtype=float)
    marks: list[Mark] = []
    if options.others:
        for i in range(jacobians.layers):
            picks = (jacobians.pick(i),)
            marks.append(Line(rank, jacobians.spectrum(SIGMA, component, i), "other layers", "muted", picks=picks))
    if options.twin and (twin := jacobians.twin) is not None:
        marks.append(Line(rank, twin.spectrum(SIGMA, component, layer), "random-init twin", "twin"))
    every = jacobians.values("singular_values", component)
    if options.samples and every.ndim == 3 and (kept := np.isfinite(every[layer, :, 0])).any():
        of_samples, sample = every[layer, kept, : len(sigma)], jacobians.sample(selection)
        low, high = np.quantile(of_samples, [0.05, 0.95], axis=0)
        marks.append(Band(rank, low, high, "middle 90 % of samples", "null"))
        marks.append(Line(rank, every[layer, sample, : len(sigma)], f"sample {sample}", "c1"))
    hover = tuple(f"σ{k} = {value:.4g}" for k, value in enumerate(sigma, 1))
    marks.append(Line(rank, sigma, f"mean of layer {layer}", "data", width=2, markers=True, hover=hover))
    fit, note = _fit(jacobians, component, layer, sigma)
    marks += fit
    panel = Panel(Axis("rank i", log=True), Axis("singular value σᵢ", log=True), tuple(marks))
    title = jacobians.title(f"singular values of the mean Jacobian of the {COMPONENTS[component]}, layer {layer}")
    return Figure(((panel,),), title=title, note=jacobians.caveats(note))


def _fit(jacobians: JacobiansSlice, component: str, layer: int, sigma: Floats) -> tuple[list[Mark], str]:
    """The stored power law σᵢ² ∝ i^−α as a line, which least squares put through the mean of its window."""
    alpha, error, r2 = (
        float(jacobians.values(name, component)[layer]) for name in ("mean_alpha_rank", "mean_alpha_rank_se", "mean_r2")
    )
    rank = np.arange(FIT_RANKS[0], min(FIT_RANKS[1], len(sigma)) + 1)
    inside = sigma[rank - 1]
    positive = inside > 0
    if np.isnan(alpha) or not positive.any():
        return [], ""
    last = len(positive) if positive.all() else int(np.argmin(positive))  # the fit ends before the first zero
    x, y = np.log(rank[:last]), np.log(inside[:last])
    line = np.exp(y.mean() - alpha / 2 * (x - x.mean()))
    label = f"fit σᵢ² ∝ i^(−α), α = {alpha:.3g} ± {error:.1g}"
    note = f"α by least squares over ranks {rank[0]} to {rank[last - 1]}, R² = {r2:.4f}"
    return [Line(rank[:last].astype(float), line, label, "accent", 2, dash=True)], note


class ColumnOptions(Options):
    component: Component = Field("block", title="Of", json_schema_extra=LABELS)
    relative: bool = Field(True, title="Relative", description="Each norm over the median of its layer")


def columns(dataset: "xr.Dataset", selection: Selection, options: ColumnOptions) -> Figure:
    """Column norms ‖J eᵢ‖ of the mean Jacobian: how strongly each unit of the residual stream is passed on."""
    jacobians = JacobiansSlice.of(dataset, selection)
    component = options.component
    if component not in jacobians.measured("column_norm"):
        return Figure(empty=jacobians.missing("column_norm", component, "mean Jacobian"))
    z = jacobians.values("column_norm", component)[:, : jacobians.width]
    layers, width = z.shape
    label = "‖J eᵢ‖"
    if options.relative:
        z, label = z / np.median(z, axis=1, keepdims=True), "‖J eᵢ‖ over the layer’s median"
    layer = jacobians.layer(selection)
    edges = np.arange(width + 1) - 0.5
    picks = tuple(tuple(Pick(model=jacobians.model, layer=i, unit=j) for j in range(width)) for i in range(layers))
    unit = Rule("x", float(min(selection.unit, width - 1)), f"unit {selection.unit}", "accent")
    image = Image(z, edges, np.arange(layers + 1) - 0.5, label, log=True, picks=picks)
    frame = Line(edges[[0, -1, -1, 0, 0]], layer + np.array([-0.5, -0.5, 0.5, 0.5, -0.5]), "", "accent", 2)
    ticks = layer_axis(layers).ticks
    y = Axis("layer", ticks=ticks, limits=(-0.5, layers - 0.5), inverted=True)
    title = jacobians.title(f"column norms of the mean Jacobian of the {COMPONENTS[component]}")
    panel = Panel(Axis("unit i of the residual stream"), y, (image, frame, unit))
    return Figure(((panel,),), title=title, note=jacobians.caveats(), legend=False)


NAVIGATED: dict[str, Any] = {"labels": {name: kind.label for name, kind in {**SAMPLED, **OPERATOR}.items()}}
NavigatedName = Literal[
    "rho", "delta", "kappa", "pr", "frobenius",
    "complex_fraction", "expanding_fraction", "spectral_radius", "condition", "henrici", "self_alignment",
    "forward_alignment", "residual_norm",
]  # fmt: skip


class NavigatorOptions(Options):
    statistic: NavigatedName = Field("rho", title="Colour by", json_schema_extra=NAVIGATED)


def navigator(dataset: "xr.Dataset", selection: Selection, options: NavigatorOptions) -> Figure:
    """Components × layers coloured by one statistic, of samples their median; the selected layer is outlined."""
    jacobians = JacobiansSlice.of(dataset, selection)
    there = jacobians.measured(options.statistic)
    if not there:
        return Figure(empty=NOTHING)
    kind = {**SAMPLED, **OPERATOR}[options.statistic]
    z = np.array([_by_layer(jacobians.values(options.statistic, c)) for c in there])
    layers, layer = jacobians.layers, jacobians.layer(selection)
    label = kind.label if options.statistic in OPERATOR else f"median {kind.symbol}"
    image = Image(
        z,
        np.arange(layers + 1) - 0.5,
        np.arange(len(there) + 1) - 0.5,
        label=label,
        log=kind.log,
        picks=(tuple(jacobians.pick(i) for i in range(layers)),) * len(there),
        marked=tuple((row, layer) for row in range(len(there))),
    )
    x = Axis("layer", ticks=layer_axis(layers).ticks, limits=(-0.5, layers - 0.5))
    ticks = tuple((float(i), COMPONENTS[c]) for i, c in enumerate(there))
    y = Axis("", ticks=ticks, limits=(-0.5, len(there) - 0.5), inverted=True)
    return Figure(((Panel(x, y, (image,)),),), legend=False)


def _by_layer(values: Floats) -> Floats:
    """Medians over the samples that are there, or the operator's own values; an infinite κ has no colour."""
    if values.ndim == 1:
        return np.where(np.isfinite(values), values, np.nan)
    found = [np.median(there) if (there := row[np.isfinite(row)]).size else np.nan for row in values]
    return np.array(found)
