"""The views of the `activations` analysis: exponents by layer, and the spectrum of one site."""

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

NAME = "activations"
NOTHING = "No spectrum has arrived yet: all sequences go through the model first."
COLUMNS = ("", "value", "noise")


def _chosen(dataset: "xr.Dataset", selection: Selection) -> tuple[Measured, int, int]:
    """The selected model, layer and site, each within the dataset; the blocks' outputs where no site was picked."""
    measured = Measured(dataset, min(selection.model, dataset.sizes["model"] - 1))
    sites = dataset["site"].values.tolist()
    site = selection.site if 0 <= selection.site < len(sites) else sites.index("block")
    return measured, min(selection.layer, measured.layers - 1), site


def _conditions(dataset: "xr.Dataset") -> list[tuple[int, int, str, str]]:
    """Model, split, name and colour of everything that was measured."""
    splits = dataset["split"].values.tolist()
    found: list[tuple[int, int, str, str]] = []
    for model, label in enumerate(dataset["model"].values.tolist()):
        for split, part in enumerate(splits):
            if np.isfinite(dataset["trace"].values[model, split]).any():
                name = label if part == "all" else f"{label}, {part}"
                found.append((model, split, name, f"c{len(found) % 8}"))
    return found


def by_layer(dataset: "xr.Dataset", selection: Selection, options: Options) -> Figure:
    """`alpha_rank` of the selected site against layer, under every condition, with the slope of noise."""
    measured, layer, site = _chosen(dataset, selection)
    conditions = _conditions(dataset)
    if not conditions:
        return Figure(empty=NOTHING)
    depth = dataset.sizes["layer"]
    layers = np.arange(depth, dtype=float)
    marks: list[Mark] = [
        Line(
            layers,
            dataset["alpha_rank"].values[model, split, site],
            name,
            color,
            markers=True,
            picks=tuple(Pick(model=model, layer=i) for i in range(depth)),
        )
        for model, split, name, color in conditions
    ]
    model, split, *_ = conditions[0]
    marks.append(Line(layers, dataset["noise_alpha_rank"].values[model, split, site], "noise", "null", dash=True))
    marks.append(Rule("x", float(layer), color="muted"))
    panel = Panel(layer_axis(depth), Axis("α: λ ∝ rank^(−α)"), tuple(marks))
    title = f"Activations at {dataset['site'].values[site]}: exponent of the spectrum"
    return Figure(((panel,),), title=title, note=measured.note)


def spectrum(dataset: "xr.Dataset", selection: Selection, options: Options) -> Figure:
    """Eigenvalues at the selected site and layer under every condition, over those of noise."""
    measured, layer, site = _chosen(dataset, selection)
    lambdas, noise = (dataset[name].values[:, :, site, layer] for name in ("eigenvalues", "noise_eigenvalues"))
    ranks = np.arange(1, lambdas.shape[-1] + 1, dtype=float)
    there = [one for one in _conditions(dataset) if np.isfinite(lambdas[one[0], one[1], 0])]
    if not there:
        return Figure(empty=NOTHING if not _conditions(dataset) else "This layer has no such site; pick another.")

    def drawn(values: Any) -> Any:
        return np.where(values > 0, values, np.nan)

    marks: list[Mark] = [
        Line(ranks, drawn(lambdas[model, split]), name, color, picks=(Pick(model=model),))
        for model, split, name, color in there
    ]
    model, split, *_ = there[0]
    per = float(dataset["positions_per_dim"].values[model, split, site])
    marks.append(Line(ranks, drawn(noise[model, split]), "noise of the same N, d and trace", "null", dash=True))
    panel = Panel(Axis("rank", log=True), Axis("eigenvalue λ", log=True), tuple(marks), title=f"N/d = {per:.3g}")
    return Figure(((panel,),), title=f"Layer {layer}, {dataset['site'].values[site]}", note=measured.note)


def navigator(dataset: "xr.Dataset", selection: Selection, options: Options) -> Figure:
    """Sites × layers of the selected model coloured by `alpha_rank`; what is selected is outlined."""
    measured, layer, site = _chosen(dataset, selection)
    splits = [split for model, split, *_ in _conditions(dataset) if model == measured.model]
    if not splits:
        return Figure(empty=NOTHING)
    sites, depth = dataset["site"].values.tolist(), dataset.sizes["layer"]
    image = Image(
        dataset["alpha_rank"].values[measured.model, splits[0]],
        np.arange(depth + 1) - 0.5,
        np.arange(len(sites) + 1) - 0.5,
        label="α",
        picks=tuple(tuple(Pick(layer=i, site=row) for i in range(depth)) for row in range(len(sites))),
        marked=((site, layer),),
    )
    x = Axis("layer", ticks=layer_axis(depth).ticks, limits=(-0.5, depth - 0.5))
    ticks = tuple((float(row), name) for row, name in enumerate(sites))
    y = Axis("", ticks=ticks, limits=(-0.5, len(sites) - 0.5), inverted=True)
    return Figure(((Panel(x, y, (image,)),),), legend=False)


def read_site(dataset: "xr.Dataset", selection: Selection) -> Reading:
    """The selected site's exponents on every split, beside noise."""
    measured, layer, site = _chosen(dataset, selection)
    rows = []
    for at, split in enumerate(dataset["split"].values.tolist()):
        part = "" if split == "all" else f" ({split})"

        def value(name: str, *where: int, at: int = at) -> float:
            return float(dataset[name].values[(measured.model, at, *where)]) if name in dataset else float("nan")

        noise = value("noise_alpha_rank", site, layer)
        rows += [
            Row(f"α{part}", "minus the slope of ln λ on ln rank", value("alpha_rank", site, layer), noise),
            Row(f"± {part}", "standard error of α", value("alpha_rank_se", site, layer)),
            Row(f"R²{part}", "of the fit; noise alone has a high one too", value("r2", site, layer)),
            Row(f"α of density{part}", "maximum likelihood on the eigenvalues", value("alpha_esd", site, layer)),
            Row(f"N/d{part}", "positions over dimensions", value("positions_per_dim", site)),
            Row(f"perplexity{part}", "of the text, in the same pass", value("perplexity")),
        ]
    there = tuple(row for row in rows if not np.isnan(row.value))
    verdict = "" if there else "This site has not been computed yet."
    return Reading(f"Layer {layer}, {dataset['site'].values[site]}", measured.label, COLUMNS, there, verdict, help=NAME)


READ = read_site
NAVIGATOR = View("navigator", "Navigator", NAME, NAME, Options, navigator)
VIEWS: tuple[View, ...] = (
    View("layers", "By layer", NAME, NAME, Options, by_layer),
    View("spectrum", "Spectrum", NAME, NAME, Options, spectrum),
)
