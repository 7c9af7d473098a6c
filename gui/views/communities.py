"""The views of the `communities` analysis, in the order of their tabs."""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from gui.figure import Axis, Figure, Image, Line, Mark, Panel, Points, Rule
from gui.reading import Reading, Row
from gui.selection import Pick, Selection
from gui.views.base import Options, View

if TYPE_CHECKING:
    import xarray as xr

NAME = "communities"
SITES: dict[str, Any] = {"attn": "before attention", "mlp": "before the MLP"}
SIGNIFICANT = 0.05
Statistic = Literal["cohens_d", "variance_z", "n_communities", "nmi_next", "self_alignment"]
LABELS: dict[str, Any] = {
    "cohens_d": "Cohen’s d of column norms, boundary units against the others",
    "variance_z": "captured variance, z against random partitions",
    "n_communities": "communities of at least 3 units",
    "nmi_next": "NMI with the next layer",
    "self_alignment": "self-alignment of the mean Jacobian",
}
TESTED = {"cohens_d": "q_value", "variance_z": "variance_q"}
NOTHING = "No layer has been computed yet: communities appear here as their layers arrive."


def _layers(ds: "xr.Dataset", model: int) -> "np.ndarray[Any, Any]":
    """Layers of a model that have arrived."""
    return np.flatnonzero(np.isfinite(ds["n_communities"].isel(model=model).values).any(0))


class EffectOptions(Options):
    statistic: Statistic = Field("cohens_d", title="Of", json_schema_extra={"labels": LABELS})
    site: Literal["attn", "mlp"] = Field("attn", title="Site", json_schema_extra={"labels": SITES})


def effect(dataset: "xr.Dataset", selection: Selection, options: EffectOptions) -> Figure:
    """One statistic by layer, a line for each model; dots where q < 0.05 (S3 fig. 7)."""
    marks: list[Mark] = []
    depth = dataset.sizes["layer"]
    for m, label in enumerate(dataset["model"].values):
        one = dataset.isel(model=m).sel(site=options.site)
        y, color = one[options.statistic].values, f"c{m % 8}"
        if np.isnan(y).all():
            continue
        picks = tuple(Pick(model=m, layer=layer) for layer in range(depth))
        hover = tuple(f"{label}, layer {layer}: {value:.4g}" for layer, value in enumerate(y))
        marks.append(Line(np.arange(depth, dtype=float), y, str(label), color, picks=picks, hover=hover))
        if options.statistic in TESTED:
            found = np.flatnonzero(one[TESTED[options.statistic]].values < SIGNIFICANT)
            marks.append(Points(found.astype(float), y[found], "", color, size=9))
    if not marks:
        return Figure(empty=NOTHING)
    if options.statistic in TESTED:
        marks.append(Rule("y", 0.0, "null", "null"))
    ticks = tuple((float(i), str(i)) for i in range(0, depth, max(1, depth // 12)))
    panel = Panel(Axis("layer", ticks=ticks), Axis(LABELS[options.statistic]), tuple(marks))
    note = "Dots: q < 0.05 over the layers of the model (Benjamini–Hochberg)." if options.statistic in TESTED else ""
    return Figure(((panel,),), title=f"Communities {SITES[options.site]}, by layer", note=note)


class NavigatorOptions(Options):
    statistic: Statistic = Field("cohens_d", title="Colour by", json_schema_extra={"labels": LABELS})


def navigator(dataset: "xr.Dataset", selection: Selection, options: NavigatorOptions) -> Figure:
    """Sites × layers coloured by one statistic of the selected model; the selected layer is outlined."""
    model = min(selection.model, dataset.sizes["model"] - 1)
    if not _layers(dataset, model).size:
        return Figure(empty=NOTHING)
    z = dataset[options.statistic].isel(model=model).values
    layers = z.shape[1]
    layer = min(selection.layer, layers - 1)
    signed = options.statistic in TESTED
    reach = float(np.nanmax(np.abs(z))) if signed and np.isfinite(z).any() else 0.0
    image = Image(
        z,
        np.arange(layers + 1) - 0.5,
        np.arange(len(SITES) + 1) - 0.5,
        label=LABELS[options.statistic],
        colormap="diverging" if signed else "sequential",
        limits=(-reach, reach) if reach else None,
        picks=(tuple(Pick(layer=i) for i in range(layers)),) * len(SITES),
        marked=tuple((row, layer) for row in range(len(SITES))),
    )
    ticks = tuple((float(i), str(i)) for i in range(0, layers, max(1, layers // 12)))
    x = Axis("layer", ticks=ticks, limits=(-0.5, layers - 0.5))
    y = Axis("", ticks=tuple((float(i), title) for i, title in enumerate(SITES.values())), inverted=True)
    return Figure(((Panel(x, y, (image,)),),), legend=False)


def read_unit(dataset: "xr.Dataset", selection: Selection) -> Reading:
    """The selected unit among the communities of the selected layer, at both sites."""
    model = min(selection.model, dataset.sizes["model"] - 1)
    layer, unit = min(selection.layer, dataset.sizes["layer"] - 1), min(selection.unit, dataset.sizes["unit"] - 1)
    label = str(dataset["model"].values[model])
    columns = ("", "before attention", "before the MLP")
    title = f"Layer {layer}, unit {unit}"
    if layer not in _layers(dataset, model):
        return Reading(title, label, columns, verdict="This layer has not been computed yet.", help=NAME)
    one = dataset.isel(model=model, layer=layer)
    names = {
        "membership": ("community", "Number by descending size"),
        "participation": ("participation", "P: how evenly its edges spread over communities"),
        "within_degree_z": ("degree within", "z-score of its degree within its community"),
        "column_norm": ("‖J eᵢ‖", "Column norm of the mean Jacobian: how strongly the unit is passed on"),
    }
    rows = [Row(short, long, *map(float, one[name].values[:, unit])) for name, (short, long) in names.items()]
    effects = {
        "cohens_d": ("Cohen’s d", "Column norms of boundary units against the others, of this layer"),
        "q_value": ("q", "False discovery rate over the layers"),
        "n_communities": ("communities", "Of at least 3 units, of this layer"),
    }
    rows += [Row(short, long, *map(float, one[name].values)) for name, (short, long) in effects.items()]
    return Reading(title, label, columns, tuple(rows), help=NAME)


READ = read_unit
NAVIGATOR = View("navigator", "Navigator", NAME, NAME, NavigatorOptions, navigator)
VIEWS: tuple[View, ...] = (View("effect", "Effect by layer", NAME, NAME, EffectOptions, effect),)
