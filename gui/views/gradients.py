"""The views of the `gradients` analysis: exponents by layer, and the spectrum of one layer."""

from typing import TYPE_CHECKING, Any

import numpy as np

from gui.figure import Axis, Figure, Image, Line, Mark, Panel, Rule
from gui.reading import Reading, Row
from gui.selection import Pick, Selection
from gui.views.base import Options, View
from gui.views.jacobians_data import layer_axis
from gui.views.measured import Measured

if TYPE_CHECKING:
    import xarray as xr

NAME = "gradients"
NOTHING = "No spectrum has arrived yet: the gradients of all sequences come first."
COLUMNS = ("", "value", "noise")


def _chosen(dataset: "xr.Dataset", selection: Selection) -> tuple[Measured, int]:
    """The selected model and layer, each within the dataset."""
    measured = Measured(dataset, min(selection.model, dataset.sizes["model"] - 1))
    return measured, min(selection.layer, measured.layers - 1)


def _conditions(dataset: "xr.Dataset") -> list[tuple[int, int, str, str]]:
    """Model, split, name and colour of everything that was measured."""
    splits, models = dataset["split"].values.tolist(), dataset["model"].values.tolist()
    found: list[tuple[int, int, str, str]] = []
    for model, label in enumerate(models):
        for split, part in enumerate(splits):
            if np.isfinite(dataset["alpha_rank"].values[model, split]).any():
                name = label if part == "all" else f"{label}, {part}"
                found.append((model, split, name, f"c{len(found) % 8}"))
    return found


def by_layer(dataset: "xr.Dataset", selection: Selection, options: Options) -> Figure:
    """`alpha_rank` against layer, under every condition, with the slope of noise of the same shape."""
    measured, layer = _chosen(dataset, selection)
    conditions = _conditions(dataset)
    if not conditions:
        return Figure(empty=NOTHING)
    depth = dataset.sizes["layer"]
    layers = np.arange(depth, dtype=float)
    marks: list[Mark] = [
        Line(
            layers,
            dataset["alpha_rank"].values[model, split],
            name,
            color,
            markers=True,
            picks=tuple(Pick(model=model, layer=i) for i in range(depth)),
        )
        for model, split, name, color in conditions
    ]
    model, split, *_ = conditions[0]
    marks.append(Line(layers, dataset["noise_alpha_rank"].values[model, split], "noise", "null", dash=True))
    marks.append(Rule("x", float(layer), color="muted"))
    panel = Panel(layer_axis(depth), Axis("α: σ² ∝ rank^(−α)"), tuple(marks))
    return Figure(((panel,),), title="Gradients: exponent of the spectrum", note=measured.note)


def spectrum(dataset: "xr.Dataset", selection: Selection, options: Options) -> Figure:
    """Singular values of the selected layer's gradients under every condition, over noise and the floor of rounding."""
    measured, layer = _chosen(dataset, selection)
    sigma, noise = (dataset[name].values[:, :, layer] for name in ("singular_values", "noise_singular_values"))
    ranks = np.arange(1, sigma.shape[-1] + 1, dtype=float)
    there = [one for one in _conditions(dataset) if np.isfinite(sigma[one[0], one[1], 0])]
    if not there:
        return Figure(empty=NOTHING)

    def drawn(values: Any) -> Any:
        return np.where(values > 0, values, np.nan)

    marks: list[Mark] = [
        Line(ranks, drawn(sigma[model, split]), name, color, picks=(Pick(model=model),))
        for model, split, name, color in there
    ]
    model, split, *_ = there[0]
    marks.append(Line(ranks, drawn(noise[model, split]), "noise of the same shape and trace", "null", dash=True))
    marks.append(Rule("y", float(dataset["floor"].values[model, split, layer]), "floor of rounding", "muted"))
    panel = Panel(Axis("rank", log=True), Axis("singular value σ", log=True), tuple(marks))
    weight = dataset["weight"].values[measured.model, layer]
    return Figure(((panel,),), title=f"Layer {layer}: gradients of {weight}", note=measured.note)


def navigator(dataset: "xr.Dataset", selection: Selection, options: Options) -> Figure:
    """Conditions × layers coloured by `alpha_rank`; the selected layer is outlined."""
    _, layer = _chosen(dataset, selection)
    conditions = _conditions(dataset)
    if not conditions:
        return Figure(empty=NOTHING)
    depth = dataset.sizes["layer"]
    image = Image(
        np.array([dataset["alpha_rank"].values[model, split] for model, split, *_ in conditions]),
        np.arange(depth + 1) - 0.5,
        np.arange(len(conditions) + 1) - 0.5,
        label="α",
        picks=tuple(tuple(Pick(model=model, layer=i) for i in range(depth)) for model, *_ in conditions),
        marked=tuple((row, layer) for row in range(len(conditions))),
    )
    x = Axis("layer", ticks=layer_axis(depth).ticks, limits=(-0.5, depth - 0.5))
    ticks = tuple((float(row), name) for row, (_, _, name, _) in enumerate(conditions))
    y = Axis("", ticks=ticks, limits=(-0.5, len(conditions) - 0.5), inverted=True)
    return Figure(((Panel(x, y, (image,)),),), legend=False)


def read_layer(dataset: "xr.Dataset", selection: Selection) -> Reading:
    """The selected layer's exponent and participation ratio on every split, beside noise."""
    measured, layer = _chosen(dataset, selection)
    rows = []
    for at, split in enumerate(dataset["split"].values.tolist()):
        part = "" if split == "all" else f" ({split})"

        def value(name: str, at: int = at) -> float:
            return float(dataset[name].values[measured.model, at, layer])

        of_data = float(dataset["perplexity"].values[measured.model, at])
        rows += [
            Row(f"α{part}", "minus the slope of ln σ² on ln rank", value("alpha_rank"), value("noise_alpha_rank")),
            Row(f"s.e.{part}", "standard error of α", value("alpha_rank_se")),
            Row(f"R²{part}", "of the fit; noise alone has a high one too", value("r2")),
            Row(f"PR{part}", "participation ratio of σ²", value("pr")),
            Row(f"N/p{part}", "sequences over the weight's entries", value("sequences_per_dim")),
            Row(f"perplexity{part}", "of the text, in the same pass", of_data),
        ]
    there = tuple(row for row in rows if not np.isnan(row.value))
    verdict = "" if there else "This layer has not been computed yet."
    return Reading(f"Layer {layer}", measured.label, COLUMNS, there, verdict, help=NAME)


READ = read_layer
NAVIGATOR = View("navigator", "Navigator", NAME, NAME, Options, navigator)
VIEWS: tuple[View, ...] = (
    View("layers", "By layer", NAME, NAME, Options, by_layer),
    View("spectrum", "Spectrum", NAME, NAME, Options, spectrum),
)
