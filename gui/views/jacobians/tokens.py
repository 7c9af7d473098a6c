"""A per-sample statistic grouped by what its token is and where it stands (methods §6)."""

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from gui.plots.figure import Axis, Boxes, Figure, Mark, Panel, Points
from gui.plots.selection import Selection
from gui.views.base import Options
from gui.views.boxes import box_of
from gui.views.jacobians.data import (
    COLORS,
    COMPONENTS,
    LABELS,
    SAMPLED,
    SAMPLED_LABELS,
    Component,
    JacobiansSlice,
    SampledName,
    waiting,
)

if TYPE_CHECKING:
    import xarray as xr

CLASSES = ("first of a word", "inside a word", "number", "punctuation", "other")


class TokenOptions(Options):
    statistic: SampledName = Field("rho", title="Statistic", json_schema_extra=SAMPLED_LABELS)
    component: Component = Field("block", title="Of", json_schema_extra=LABELS)


def by_token(dataset: "xr.Dataset", selection: Selection, options: TokenOptions) -> Figure:
    """Samples of one layer by the class of their token, and against its position in the sample."""
    jacobians = JacobiansSlice.of(dataset, selection)
    kind, component, layer = SAMPLED[options.statistic], options.component, jacobians.layer(selection)
    if component not in jacobians.measured(options.statistic):
        return Figure(empty=jacobians.missing(options.statistic, component, kind.label))
    values = jacobians.values(options.statistic, component)[layer]
    if np.isnan(values).all():
        return Figure(empty=waiting(layer))
    tokens = [token for _, token in jacobians.texts]
    found = np.array([token_class(token) for token in tokens])
    there = [name for name in CLASSES if (found == name).any()]
    x = np.array([there.index(name) for name in found], float)
    hover = tuple(f"sample {s} at “{tokens[s]}”: {kind.symbol} = {v:.4g}" for s, v in enumerate(values.tolist()))
    picks = tuple(jacobians.pick(layer, s) for s in range(len(values)))
    color, sample = COLORS[component], jacobians.sample(selection)
    spread = 0.5 * ((np.arange(len(values)) * 0.6180339887) % 1 - 0.5)  # neighbours apart, and alike at every draw
    box = box_of(np.array([np.where(found == name, values, np.nan) for name in there]))
    groups = Boxes(np.arange(len(there), dtype=float), *box, width=0.7, label=COMPONENTS[component], color=color)
    axis = Axis(kind.label, log=kind.log)
    panels = []
    ticks = tuple((float(i), f"{name} ({(found == name).sum()})") for i, name in enumerate(there))
    position = jacobians.positions
    for label, at, marks in (
        (Axis("token", ticks=ticks, limits=(-0.6, len(there) - 0.4)), x + spread, (groups,)),
        (Axis("position of the token in its sample"), position, ()),
    ):
        points = Points(at, values, "samples", color, size=4, picks=picks, hover=hover)
        ring = Points(at[[sample]], values[[sample]], f"sample {sample}", "ink", size=12, filled=False)
        drawn: tuple[Mark, ...] = (*marks, points, ring)
        panels.append(Panel(label, axis, drawn))
    title = jacobians.title(f"{kind.symbol} of the {COMPONENTS[component]} by token, layer {layer}")
    same = "" if len(np.unique(position)) > 1 else "All tokens stand at the same position"
    return Figure((tuple(panels),), title=title, note=jacobians.caveats(same, kind.note))


def token_class(token: str) -> str:
    """What `token` is, by its first character that says so; tokenizers mark the inside of a word or its start."""
    inside = token.startswith("##")
    bare = token.removeprefix("##").strip()
    if not bare or (bare.startswith(("[", "<")) and bare.endswith(("]", ">")) and len(bare) > 2):
        return "other"
    if bare[0].isdigit():
        return "number"
    if not bare[0].isalpha():
        return "punctuation"
    return "inside a word" if inside or not token[0].isspace() else "first of a word"
