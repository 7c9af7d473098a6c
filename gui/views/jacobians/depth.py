"""Views along depth: the mean operators' statistics with their regimes, and models compared (S3 figs 2, 3, S2–S6)."""

from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from engine.spectra.trends import Regimes, regimes, thirds, u_shape
from gui.plots.figure import Axis, Band, Figure, Floats, Line, Mark, Panel, Rule
from gui.plots.selection import Selection
from gui.views.base import Options
from gui.views.jacobians.data import (
    COMPONENTS,
    LABELS,
    OPERATOR,
    SAMPLED,
    VARIABLES,
    Component,
    JacobiansSlice,
    axis_of,
    depth,
    layer_axis,
)
from gui.views.model_slice import colors, dotted

if TYPE_CHECKING:
    import xarray as xr

ALIGNMENTS = ("self_alignment", "forward_alignment")


class DepthOptions(Options):
    component: Component = Field("block", title="Of", json_schema_extra=LABELS)
    regimes: Literal["change points", "thirds", "none"] = Field(
        "change points", title="Regimes", description="Levels between the change points that the layers support"
    )
    twin: bool = Field(True, title="Twin", description="The random-init twin")


def profiles(dataset: "xr.Dataset", selection: Selection, options: DepthOptions) -> Figure:
    """All statistics of the mean operators by layer, with regimes, U-shape index, baselines and twin."""
    jacobians = JacobiansSlice.of(dataset, selection)
    if options.component not in jacobians.measured("henrici"):
        return Figure(empty=jacobians.missing("henrici", options.component, "mean Jacobian"))
    measured = [name for name in OPERATOR if options.component in jacobians.measured(name)]
    panels = [_profile(jacobians, name, selection, options) for name in measured]
    title = jacobians.title(f"the mean Jacobian of the {COMPONENTS[options.component]} by layer")
    note = "U: mean of the first and last layer over the median of the others"
    if options.regimes == "change points" and np.isnan(jacobians.values("henrici", options.component)).any():
        note += "  ·  Change points are sought once every layer has arrived"
    return Figure(_rows(panels), title=title, note=jacobians.caveats(note))


def _rows(panels: list[Panel]) -> tuple[tuple[Panel, ...], ...]:
    """Two rows of panels."""
    columns = (len(panels) + 1) // 2
    return tuple(row for row in (tuple(panels[:columns]), tuple(panels[columns:])) if row)


def _profile(jacobians: JacobiansSlice, name: str, selection: Selection, options: DepthOptions) -> Panel:
    variable, values = VARIABLES[name], jacobians.values(name, options.component)
    x = depth(len(values))
    marks: list[Mark] = _baseline(jacobians, name)
    if options.twin and (twin := jacobians.twin) is not None:
        other = twin.values(name, options.component)
        marks.append(Line(depth(len(other)), other, "random-init twin", "twin", dash=True))
    title = [f"U = {u:.3g}"] if np.isfinite(u := float(u_shape(values))) else []
    if options.regimes == "thirds":
        edge = len(values) // 3
        marks.append(_levels(values, (edge, len(values) - edge), tuple(thirds(values)), "mean of each third"))
    elif options.regimes == "change points" and (steps := _regimes_of(values, variable.log)) is not None:
        title.append(_verdict(steps))
        if steps.supported and not steps.is_slope:
            levels = tuple(np.exp(m) if variable.log else m for m in steps.means[steps.supported])
            starts = steps.breaks[steps.supported]
            marks.append(_levels(values, starts, levels, "regimes"))
            marks += [Rule("x", start - 0.5, "change point", "accent") for start in starts]
    picks = tuple(jacobians.pick(i) for i in range(len(values)))
    marks.append(Rule("x", float(jacobians.layer(selection)), "selected layer", "muted"))
    marks.append(Line(x, values, "mean Jacobian", "data", 2, markers=True, picks=picks))
    return Panel(layer_axis(jacobians.layers), axis_of(variable), tuple(marks), title="  ·  ".join(title))


def _baseline(jacobians: JacobiansSlice, name: str) -> list[Mark]:
    """k/d, which random subspaces would give."""
    if name not in ALIGNMENTS or "alignment_baseline" not in jacobians.dataset:
        return []
    at = float(jacobians.dataset["alignment_baseline"].values[jacobians.model])
    return [Rule("y", at, "random subspaces, k/d", "null")]


def _levels(values: Floats, starts: tuple[int, ...], levels: tuple[float, ...], label: str) -> Line:
    """The level of each regime as one broken line."""
    edges = [0, *starts, len(values)]
    x = [v for a, b in pairwise(edges) for v in (a - 0.5, b - 0.5, np.nan)]
    y = [v for level in levels for v in (level, level, np.nan)]
    return Line(np.array(x, float), np.array(y, float), label, "accent", 1.5)


def _regimes_of(values: Floats, log: bool) -> Regimes | None:
    """The regimes of a whole profile (forward alignment has no last layer); None while layers are missing."""
    profile = values[:-1] if np.isnan(values[-1]) else values
    if len(profile) < 4 or not np.isfinite(profile).all() or (log and (profile <= 0).any()):
        return None
    return _regimes(tuple(np.log(profile) if log else profile))


@lru_cache(maxsize=256)
def _regimes(values: tuple[float, ...]) -> Regimes:
    return regimes(np.array(values))


def _verdict(steps: Regimes) -> str:
    if steps.supported == 0:
        return "no change point"
    if steps.is_slope:
        return "a slope rather than steps"
    return f"{steps.supported} change point{'s' if steps.supported > 1 else ''}"


class CompareOptions(Options):
    show: Literal["samples", "operators"] = Field(
        "samples",
        title="Show",
        json_schema_extra={"labels": {"samples": "means over samples", "operators": "the mean operator"}},
    )
    component: Component = Field("block", title="Of", json_schema_extra=LABELS)


def compare(dataset: "xr.Dataset", selection: Selection, options: CompareOptions) -> Figure:
    """Statistics against relative depth, one line for each model or checkpoint; means with their 95 % intervals."""
    chosen = JacobiansSlice.of(dataset, selection)
    names = SAMPLED if options.show == "samples" else OPERATOR
    first = names[0]
    if not any(options.component in model.measured(first) for model in chosen.every):
        return Figure(empty=chosen.missing(first, options.component, "such statistics"))
    panels = []
    for name in names:
        variable = VARIABLES[name]
        marks: list[Mark] = _baseline(chosen, name)
        for model, color in zip(chosen.every, colors(chosen.infos), strict=True):
            marks += _curve(model, name, options.component, color)
        middle = "median" if name == "kappa" else "mean"
        label = variable.label if options.show == "operators" else f"{middle} {variable.symbol}"
        panels.append(Panel(Axis("relative depth"), Axis(label, log=variable.log), tuple(marks)))
    what = "per-sample means" if options.show == "samples" else "mean Jacobians"
    context = chosen.context
    title = f"{what[0].upper()}{what[1:]} of the {COMPONENTS[options.component]} against relative depth ({context})"
    note = "Bands: 95 % intervals of the mean, of κ of the median" if options.show == "samples" else ""
    return Figure(_rows(panels), title=title, note=chosen.caveats(note, chosen.of_kappa([options.component], *names)))


def _curve(jacobians: JacobiansSlice, name: str, component: str, color: str) -> list[Mark]:
    """One model's layer means with their interval, or its operator statistic."""
    x = depth(jacobians.layers) / max(jacobians.layers - 1, 1)
    picks = tuple(jacobians.pick(i) for i in range(jacobians.layers))
    twin = jacobians.info.twin
    marks: list[Mark] = []
    if name in SAMPLED:
        low, values, high = jacobians.interval(name, component)
        marks.append(Band(x, low, high, jacobians.label, color))
    else:
        values = jacobians.values(name, component)
    dots = not twin and dotted(jacobians.infos)
    line = Line(x, values, jacobians.label, color, 1 if twin else 2, dash=twin, markers=dots, picks=picks)
    return [*marks, line]
