"""Views of a whole model: heatmaps, statistics by layer, scatters, models compared (S4 figs 3–4, 7–16)."""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from engine.analyses.weights.variables import TESTED
from gui.plots.figure import Axis, Band, Figure, Floats, Image, Line, Mark, Panel, Points
from gui.plots.selection import Selection
from gui.views.base import Options
from gui.views.model_slice import colors, dotted
from gui.views.weights.data import SIGNIFICANT, STATISTICS, VARIABLES, Matrix, WeightsSlice, stored

if TYPE_CHECKING:
    import xarray as xr

if TYPE_CHECKING:
    StatisticName = str
else:
    StatisticName = Literal[STATISTICS]
# Where both W_QK and W_OV have a statistic, another option chooses the matrix.
LABELS: dict[str, Any] = {
    "labels": {
        name: VARIABLES[name].long_name if stored("OV", name) != name else VARIABLES[name].full_name
        for name in STATISTICS
    }
}
NOTHING = "No layer has arrived yet: the first one is drawn as soon as it is computed."


def _layer_mean(values: Floats) -> Floats:
    counts = np.isfinite(values).sum(axis=1)
    return np.where(counts > 0, np.nansum(values, axis=1) / np.maximum(counts, 1), np.nan)


def _cells(layers: int, heads: int) -> tuple[np.ndarray, np.ndarray]:
    layer, head = np.mgrid[:layers, :heads]
    return layer.ravel(), head.ravel()


class NavigatorOptions(Options):
    statistic: StatisticName = Field("npr", title="Colour by", json_schema_extra=LABELS)
    matrix: Matrix = Field("QK", title="Matrix")


def navigator(dataset: "xr.Dataset", selection: Selection, options: NavigatorOptions) -> Figure:
    """The layer × head grid coloured by one statistic; the current head is outlined."""
    weights = WeightsSlice.of(dataset, selection, options.matrix)
    layers, heads = weights.shape
    values = weights.heads(options.statistic)
    if not np.isfinite(values).any():
        return Figure(empty=NOTHING)
    variable = weights.variable(options.statistic)
    image = Image(
        values.T,
        np.arange(layers + 1) - 0.5,
        np.arange(heads + 1) - 0.5,
        label=variable.short_label,
        log=variable.log,
        picks=weights.cells(),
        marked=(weights.selected_head(selection)[::-1],),
    )
    x = Axis("layer", ticks=_integer_ticks(layers), limits=(-0.5, layers - 0.5))
    y = Axis("head", ticks=_integer_ticks(heads), limits=(-0.5, heads - 0.5), inverted=True)
    return Figure(((Panel(x, y, (image,)),),), legend=False)


def _integer_ticks(count: int) -> tuple[tuple[float, str], ...]:
    step = max(1, int(np.ceil(count / 16)))
    return tuple((float(i), str(i)) for i in range(0, count, step))


class HeatmapOptions(Options):
    show: Literal["spectra", "densities"] = Field("spectra", title="Show")
    matrix: Matrix = Field("QK", title="Matrix")


def heatmap(dataset: "xr.Dataset", selection: Selection, options: HeatmapOptions) -> Figure:
    """Every head of every layer as one row: λ against index, or P(λ) (S4 figs 3 and 4)."""
    weights = WeightsSlice.of(dataset, selection, options.matrix)
    layers, heads = weights.shape
    if not np.isfinite(weights.heads("leading")).any():
        return Figure(empty=NOTHING)
    name = "eigenvalues" if options.show == "spectra" else "density"
    variable = f"{options.matrix.lower()}_{name}"
    z = dataset[variable].values[weights.model, :layers, :heads].reshape(layers * heads, -1)
    note = weights.note
    if options.show == "spectra":
        z = z[:, : weights.info.d_head]
        x = Axis("index k")
        x_edges = np.arange(1, z.shape[1] + 2) - 0.5
        limits, label = None, "λₖ"
    else:
        x, x_edges = _bin_axis(dataset["bin_edges"].values)
        positive = z[:, 1:][z[:, 1:] > 0]
        limits, label = (float(positive.min()), float(positive.max())), "P(λ)"
        note = "  ·  ".join(filter(None, ("The zero bin (first column) is left out of the colour scale", note)))
    layer, head = weights.selected_head(selection)
    row = layer * heads + head
    frame = Line(x_edges[[0, -1, -1, 0, 0]], row + np.array([-0.5, -0.5, 0.5, 0.5, -0.5]), "", "accent", width=2)
    cells = weights.cells()
    picks = tuple((cells[h][i],) * z.shape[1] for i in range(layers) for h in range(heads))
    image = Image(z, x_edges, np.arange(len(z) + 1) - 0.5, label=label, log=True, limits=limits, picks=picks)
    step = max(1, layers // 16)
    ticks = tuple((i * heads + (heads - 1) / 2, f"layer {i}") for i in range(0, layers, step))
    y = Axis("head, by layer", ticks=ticks, limits=(-0.5, len(z) - 0.5), inverted=True)
    count = f"{weights.info.total_heads}" if weights.info.head_shapes else f"{layers} × {heads}"
    title = f"{weights.label}: {options.show} of W_{options.matrix}, all {count} heads"
    return Figure(((Panel(x, y, (image, frame)),),), title=title, note=note, legend=False)


def _bin_axis(edges: np.ndarray) -> tuple[Axis, np.ndarray]:
    """An axis of equal cells for log-spaced bins, the first of which reaches down to zero."""
    position = np.arange(len(edges), dtype=float)
    decades = np.arange(np.ceil(np.log10(edges[1])), np.floor(np.log10(edges[-1])) + 1)
    at = np.interp(decades, np.log10(edges[1:]), position[1:])
    ticks = ((0.5, "0"), *((float(p), f"{10.0**d:g}") for p, d in zip(at, decades, strict=True) if p > 4))
    return Axis("λ", ticks=ticks, limits=(0, len(edges) - 1)), position


class LayersOptions(Options):
    statistic: StatisticName = Field("npr", title="Statistic", json_schema_extra=LABELS)
    matrix: Matrix = Field("QK", title="Matrix")


def by_layer(dataset: "xr.Dataset", selection: Selection, options: LayersOptions) -> Figure:
    """One statistic of every head by layer, with layer means, null level and twin (S4 figs 7–10)."""
    weights = WeightsSlice.of(dataset, selection, options.matrix)
    values = weights.heads(options.statistic)
    if not np.isfinite(values).any():
        return Figure(empty=NOTHING)
    layers, heads = weights.shape
    variable = weights.variable(options.statistic)
    depth = np.arange(layers, dtype=float)
    marks: list[Mark] = _null_level(weights, options.statistic, depth)
    if (twin := weights.twin) is not None:
        marks.append(Line(depth, _layer_mean(twin.heads(options.statistic)), "twin, layer mean", "twin", dash=True))
    layer, head = _cells(layers, heads)
    x = layer + 0.7 * ((head + 0.5) / heads - 0.5)
    flat = values.ravel()
    for keep, label, color in _verdicts(weights, options.statistic):
        keep = keep.ravel() & np.isfinite(flat)
        if keep.any():
            marks.append(_head_points(weights, x[keep], flat[keep], layer[keep], head[keep], label, color))
    marks.append(Line(depth, _layer_mean(values), "layer mean", "c1", width=2))
    marks.append(_ring(weights, selection, x.reshape(layers, heads), values))
    panel = Panel(
        Axis("layer", ticks=_integer_ticks(layers), limits=(-0.6, layers - 0.4)),
        Axis(variable.label, log=variable.log),
        tuple(marks),
    )
    return Figure(((panel,),), title=f"{weights.label}: {variable.full_name} by layer", note=weights.note)


def _verdicts(weights: WeightsSlice, statistic: str) -> list[tuple[np.ndarray, str, str]]:
    """Heads grouped by what they leave: the product null, only the naive law, or neither; one group if untested."""
    tested = f"q_{statistic}"
    if not weights.has(tested):
        return [(np.ones(weights.shape, bool), "heads", "data")]
    outside = weights.heads(tested) < SIGNIFICANT
    naive = weights.heads("outside_naive") > 0
    return [
        (~outside & ~naive, "inside both", "data"),
        (~outside & naive, "leaves only the naive law", "naive"),
        (outside, f"leaves the product null (q < {SIGNIFICANT})", "accent"),
    ]


def _null_level(weights: WeightsSlice, statistic: str, depth: Floats) -> list[Mark]:
    """The Monte Carlo null of a statistic by layer; λ₁ in each head's own unit, averaged over the layer."""
    if not weights.has(f"null_{statistic}"):
        return []
    level = np.array([weights.null(statistic, int(layer)) for layer in depth]).T
    if statistic == "leading":
        level = level * _layer_mean(weights.heads("unit_scale"))
    return [
        Band(depth, level[0], level[2], "product null, 95 %", "null"),
        Line(depth, level[1], "product null, median", "null", dash=True),
    ]


def _head_points(
    weights: WeightsSlice, x: Floats, y: Floats, layer: np.ndarray, head: np.ndarray, label: str, color: str
) -> Points:
    picks = tuple(weights.pick(int(i), int(h)) for i, h in zip(layer, head, strict=True))
    hover = tuple(f"layer {i}, head {h}: {v:.4g}" for i, h, v in zip(layer, head, y, strict=True))
    return Points(x, y, label, color, picks=picks, hover=hover)


def _ring(weights: WeightsSlice, selection: Selection, x: Floats, y: Floats) -> Points:
    """A ring around the selected head; `x` and `y` are (layers, heads)."""
    at = weights.selected_head(selection)
    return Points(np.array([x[at]]), np.array([y[at]]), "selected", "ink", size=15, filled=False)


def _by_layer_points(weights: WeightsSlice, x: Floats, y: Floats) -> Points:
    """All heads as points coloured by layer."""
    layer, head = _cells(*weights.shape)
    keep = np.isfinite(x.ravel()) & np.isfinite(y.ravel())
    layer, head = layer[keep], head[keep]
    hover = tuple(f"layer {i}, head {h}" for i, h in zip(layer, head, strict=True))
    picks = tuple(weights.pick(int(i), int(h)) for i, h in zip(layer, head, strict=True))
    return Points(
        x.ravel()[keep],
        y.ravel()[keep],
        "heads",
        values=layer.astype(float),
        values_label="layer",
        picks=picks,
        hover=hover,
    )


class ScatterOptions(Options):
    matrix: Matrix = Field("QK", title="Matrix")


def entropy_npr(dataset: "xr.Dataset", selection: Selection, options: ScatterOptions) -> Figure:
    """Spectral entropy against NPR, coloured by layer (S4 fig. 11)."""
    weights = WeightsSlice.of(dataset, selection, options.matrix)
    x, y = weights.heads("npr"), weights.heads("entropy")
    if not np.isfinite(x).any():
        return Figure(empty=NOTHING)
    marks = (_by_layer_points(weights, x, y), _ring(weights, selection, x, y))
    panel = Panel(Axis(weights.variable("npr").label), Axis(weights.variable("entropy").label), marks)
    return Figure(((panel,),), title=f"{weights.label}: entropy against NPR of W_{options.matrix}", note=weights.note)


class SigmaOptions(Options):
    """W_QK only: its element-wise σ is the abscissa."""


def against_sigma(dataset: "xr.Dataset", selection: Selection, options: SigmaOptions) -> Figure:
    """λ₁, Σλ, Σλ² and entropy against the standard deviation of the entries of W_QK (S4 fig. 12)."""
    weights = WeightsSlice.of(dataset, selection)
    sigma = weights.heads("wqk_std")
    if not np.isfinite(sigma).any():
        return Figure(empty=NOTHING)
    panels = []
    for name in ("leading", "lambda_sum", "lambda_sq_sum", "entropy"):
        values = weights.heads(name)
        marks = (_by_layer_points(weights, sigma, values), _ring(weights, selection, sigma, values))
        x, y = (weights.variable(each) for each in ("wqk_std", name))
        panels.append(Panel(Axis(x.label, log=x.log), Axis(y.short_label, log=y.log), marks))
    rows = (tuple(panels[:2]), tuple(panels[2:]))
    return Figure(
        rows, title=f"{weights.label}: eigenvalue statistics of W_QK against element-wise σ", note=weights.note
    )


class CompareOptions(Options):
    matrix: Matrix = Field("QK", title="Matrix")


def compare(dataset: "xr.Dataset", selection: Selection, options: CompareOptions) -> Figure:
    """Layer means of λ₁, NPR, entropy and κ against relative depth, one line for each model (S4 figs 13–16)."""
    models = [WeightsSlice(dataset, index, options.matrix) for index in range(dataset.sizes["model"])]
    panels = []
    for name in TESTED:
        marks: list[Mark] = []
        for weights, colour in zip(models, colors(models[0].infos), strict=True):
            layers = weights.shape[0]
            depth = np.arange(layers) / max(layers - 1, 1)
            picks = tuple(weights.pick(layer, weights.selected_head(selection)[1]) for layer in range(layers))
            mean = _layer_mean(weights.heads(name))
            twin = weights.info.twin
            marks.append(
                Line(
                    depth,
                    mean,
                    weights.label,
                    colour,
                    1 if twin else 2,
                    dash=twin,
                    markers=not twin and dotted(weights.infos),
                    picks=picks,
                )
            )
        variable = models[0].variable(name)
        panels.append(Panel(Axis("relative depth"), Axis(variable.short_label, log=variable.log), tuple(marks)))
    rows = (tuple(panels[:2]), tuple(panels[2:]))
    return Figure(rows, title=f"Layer means of W_{options.matrix} against relative depth", note=models[0].note)
