"""Views of all layers and sublayers at once: grid of spectra, exponents through every sublayer."""

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from engine.analyses.conditions import Condition
from engine.errors import UserError
from engine.spectra.student import interval
from gui.plots.figure import Axis, Figure, Line, Mark, Panel, Points, Rule
from gui.plots.selection import Selection
from gui.views.base import Options
from gui.views.power_laws.data import NOTHING, PowerLawSlice, geometric_mean, ranked
from gui.views.power_laws.depth import curve_marks

if TYPE_CHECKING:
    import xarray as xr

COLUMNS = 4
DRAWN_POINTS = 800
"""In one small panel, shared by its layers."""
ONLY_BLOCKS = (
    "This run has the outputs of the blocks only. Choose “sublayers” under Sites in the parameters and run it again."
)


class GridOptions(Options):
    show: Literal["all layers", "this layer"] = Field(
        "all layers", title="Show", description="Every layer of the selected model, or this layer of every condition"
    )


def grid(dataset: "xr.Dataset", selection: Selection, options: GridOptions) -> Figure:
    """One small spectrum for each sublayer, with the slopes (S1 fig. 3); a click selects its layer and sublayer."""
    fitted = PowerLawSlice.of(dataset, selection)
    if (condition := fitted.current) is None:
        return Figure(empty=NOTHING)
    layer = fitted.layer(selection)
    panels = [_small(fitted, condition, site, layer, options.show == "all layers") for site in range(len(fitted.sites))]
    rows = tuple(tuple(panels[i : i + COLUMNS]) for i in range(0, len(panels), COLUMNS))
    start, stop = fitted.run_window
    subject = condition.label if options.show == "all layers" else f"layer {layer}, every condition"
    return Figure(
        rows,
        title=f"Spectra of every sublayer: {subject}; slopes over ranks {start} to {stop}",
        note=fitted.caveats("" if len(panels) > 1 else ONLY_BLOCKS),
    )


def _small(fitted: PowerLawSlice, condition: Condition, site: int, layer: int, every: bool) -> Panel:
    marks = _cloud(fitted, condition, site) if every else _lines(fitted, site, layer)
    alpha = interval(fitted.at(condition, "alpha_rank", site))[1]
    finite = alpha[np.isfinite(alpha)]
    own = alpha[layer]
    if len(finite) == 1:  # the embedding and the final norm are at one layer only
        slopes = f"α {finite[0]:.2f}"
    else:
        slopes = f"α {own:.2f}" if not every else f"α {finite.min():.2f}–{finite.max():.2f}" if len(finite) else ""
    return Panel(
        Axis("rank i", log=True),
        Axis("λᵢ", log=True),
        tuple(marks),
        title=f"{fitted.name_of(site)}: {slopes}",
        pick=fitted.pick(condition, layer, site),
        current=site == fitted.site,
    )


def _cloud(fitted: PowerLawSlice, condition: Condition, site: int) -> list[Mark]:
    """All layers' spectra at a few ranks each, coloured by layer, and the fit of each."""
    spectra = geometric_mean(fitted.spectra(condition, site))
    width = int(np.isfinite(spectra).any(0).sum())
    if not width:
        return []
    layers = [i for i in range(len(spectra)) if np.isfinite(spectra[i]).any()]
    count = min(max(DRAWN_POINTS // len(layers), 16), 48)
    at = np.unique(np.geomspace(1, width, count).astype(int)) - 1
    y = np.concatenate([spectra[i, at] for i in layers])
    depth = np.repeat(np.array(layers, float), len(at))
    picks = tuple(fitted.pick(condition, i, site) for i in layers for _ in at)
    x = np.tile(at + 1.0, len(layers))
    marks: list[Mark] = [Points(x, y, size=3, values=depth, values_label="layer", picks=picks)]
    try:
        law = fitted.fit(spectra[layers], *fitted.run_window)
    except UserError:
        return marks
    gaps = np.full((len(layers), 1), np.nan)
    ranks = np.concatenate([np.tile(law.ranks[[0, -1]].astype(float), (len(layers), 1)), gaps], axis=1)
    ends = np.concatenate([fitted.line(law)[:, [0, -1]], gaps], axis=1)
    marks.append(Line(ranks.ravel(), ends.ravel(), "power laws", "ink", 1, dash=True))
    return marks


def _lines(fitted: PowerLawSlice, site: int, layer: int) -> list[Mark]:
    """One layer's spectrum under every condition."""
    marks: list[Mark] = []
    for condition in fitted.conditions:
        values = geometric_mean(fitted.spectra(condition, site)[:, layer])
        if np.isfinite(values).any():
            marks.append(Line(*ranked(values), condition.label, fitted.colors[condition.label]))
    return marks


class PathOptions(Options):
    noise: bool = Field(True, title="Noise", description="α of iid Gaussian noise of the same shape and trace")
    points: bool = Field(True, title="Seeds", description="Each seed's own value")


def along_path(dataset: "xr.Dataset", selection: Selection, options: PathOptions) -> Figure:
    """α through every sublayer in the order of the forward pass, under all conditions (S1 fig. 2a)."""
    fitted = PowerLawSlice.of(dataset, selection)
    if not fitted.conditions:
        return Figure(empty=NOTHING)
    if len(fitted.sites) < 2:
        return Figure(empty=ONLY_BLOCKS)
    alpha = np.isfinite(dataset["alpha_rank"].values).any((0, 1))  # (site, layer)
    steps = sorted((layer, site) for site, layer in np.argwhere(alpha).tolist())
    if not steps:
        return Figure(empty=NOTHING)
    at = np.arange(len(steps), dtype=float)
    layers, sites = (np.array(part) for part in zip(*steps, strict=True))
    marks: list[Mark] = []
    for condition in fitted.conditions:
        if options.noise:
            noise = interval(condition.of(dataset["noise_alpha_rank"].values)[:, sites, layers])[1]
            marks.append(Line(at, noise, "noise control", "null", dash=True))
    for condition in fitted.conditions:
        values = condition.of(dataset["alpha_rank"].values)[:, sites, layers]
        for line in curve_marks(fitted, condition, values, options.points):
            if not isinstance(line, Line):
                marks.append(line)
                continue
            picks = tuple(fitted.pick(condition, layer, site) for layer, site in steps)
            names = tuple(
                f"{condition.label}, layer {layer}, {fitted.name_of(site)}: α = {value:.3f}"
                for (layer, site), value in zip(steps, line.y, strict=True)
            )
            marks.append(Line(line.x, line.y, line.label, line.color, 1.3, line.dash, True, picks, names))
    if (now := (fitted.layer(selection), fitted.site)) in steps:
        marks.insert(0, Rule("x", float(steps.index(now)), "", "muted"))
    first = [steps.index(next(step for step in steps if step[0] == layer)) for layer in sorted(set(layers.tolist()))]
    every = max(1, len(first) // 16)
    ticks = tuple((float(i), f"layer {steps[i][0]}") for i in first[::every])
    x = Axis("sublayers in the order of the forward pass", ticks=ticks, limits=(-0.6, len(steps) - 0.4))
    panel = Panel(x, Axis(fitted.variables["alpha_rank"].label), tuple(marks))
    title = "α through every sublayer, ranks {} to {}".format(*fitted.run_window)
    return Figure(((panel,),), title=title, note=fitted.caveats())
