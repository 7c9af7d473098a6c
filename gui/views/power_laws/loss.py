"""α of every model against its loss."""

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from engine.spectra.trends import spearman, thirds
from gui.plots.figure import Axis, Figure, Floats, Mark, Panel, Points
from gui.plots.selection import Selection
from gui.views.base import Options
from gui.views.power_laws.data import NOTHING, PowerLawSlice

if TYPE_CHECKING:
    import xarray as xr


class LossOptions(Options):
    against: Literal["loss", "perplexity"] = Field("loss", title="Against")
    take: Literal["this layer", "last third"] = Field(
        "last third", title="α of", description="The selected layer, or the mean of the last third of the layers"
    )


def against_loss(dataset: "xr.Dataset", selection: Selection, options: LossOptions) -> Figure:
    """α of every model and split against its loss in the same pass: does a larger α come with a smaller loss?"""
    fitted = PowerLawSlice.of(dataset, selection)
    if not fitted.conditions:
        return Figure(empty=NOTHING)
    name = "mean_loss" if options.against == "loss" and "mean_loss" in dataset else options.against
    layer = fitted.layer(selection)
    marks: list[Mark] = []
    parts: dict[str, list[tuple[Floats, Floats]]] = {}
    for condition in fitted.conditions:
        alpha = fitted.at(condition, "alpha_rank")
        y = alpha[:, layer] if options.take == "this layer" else thirds(alpha)[:, 2]
        x = condition.of(dataset[name].values)
        if np.isfinite(x).any():
            hover = tuple(
                f"{condition.label}, seed {seed}: α = {v:.3f}"
                for seed, v in zip(fitted.seeds(condition), y, strict=True)
            )
            picks = tuple(fitted.pick(condition, layer) for _ in x)
            color = fitted.colors[condition.label]
            marks.append(Points(x, y, condition.label, color, 9, picks=picks, hover=hover))
            # A twin would decide a correlation alone; checkpoints of one training are one model.
            if condition.final and condition.kind != "random":
                parts.setdefault(condition.split, []).append((x, y))
    if not marks:
        return Figure(empty="These models have no loss: they have no language-model head, or no mask token.")
    correlations = [_correlation(split, *map(np.concatenate, zip(*xy, strict=True))) for split, xy in parts.items()]
    where = f"layer {layer}" if options.take == "this layer" else "last third of the layers"
    measure = fitted.variables[name]
    panel = Panel(Axis(measure.label, log=measure.log), Axis(fitted.variables["alpha_rank"].label), tuple(marks))
    title = f"{fitted.place[:1].upper()}{fitted.place[1:]}, {where}: α against {options.against}"
    return Figure(((panel,),), title=title, note=fitted.caveats(*correlations))


def _correlation(split: str, loss: Floats, alpha: Floats) -> str:
    """Rank correlation over all models on one part of the text, in words."""
    rho, p = spearman(loss, alpha)
    where = f" on {split}" if split else ""
    if np.isnan(rho):
        return f"Fewer than five independent trained models{where}: too few for a correlation; add models or seeds"
    return f"Spearman ρ{where} = {rho:.2f}, p = {p:.2g}, {len(loss)} independent models, random twins left out"
