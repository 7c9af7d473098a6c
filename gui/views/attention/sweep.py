"""Statistics of a head while its smallest weights are removed: S2 figs. 4 and 5 on real matrices."""

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from engine.studies import cited
from gui.plots.figure import Axis, Band, Figure, Floats, Line, Mark, Panel, Rule
from gui.plots.selection import Selection
from gui.views.attention.data import AttentionSlice, quantiles
from gui.views.base import Options

if TYPE_CHECKING:
    import xarray as xr

NAMES = ("expressivity", "margin", "output_error", "erank", "r_l1l2")


class SweepOptions(Options):
    of: Literal["this head", "all heads"] = Field(
        "this head", title="Of", description="The mean over samples of one head, or the median over heads"
    )
    twin: bool = Field(True, title="Twin", description="The random-init twin")


def sweep(dataset: "xr.Dataset", selection: Selection, options: SweepOptions) -> Figure:
    """Expressivity and margin with their crossing, effective ranks, ‖A‖₂ and the output error against sparsity."""
    attention = AttentionSlice.of(dataset, selection)
    head = attention.selected_head(selection)
    if not attention.has("sweep_erank"):
        return Figure(empty=attention.missing("sweep_erank", "thinned matrices", "sweep_samples"))
    every = options.of == "all heads"
    dose = attention.array("dose")
    twin = attention.twin if options.twin else None
    curves = {name: _curves(attention, name, head, every) for name in NAMES}
    if not np.isfinite(curves["expressivity"][1]).any():
        return Figure(empty=f"Layer {head[0]} has no attention matrices. Choose another layer.")
    others = {name: _curves(twin, name, head, every)[1] for name in NAMES} if twin is not None else {}
    crossings = attention.of_heads("sweep_crossing")
    at = float(np.nanmedian(crossings)) if every and np.isfinite(crossings).any() else float(crossings[head])
    balance: list[Mark] = []
    for name, label, color in (("expressivity", "expressivity, erank/T", "c1"), ("margin", "margin, 2 − ‖A‖₂", "c2")):
        low, middle, high = curves[name]
        balance += [Band(dose, low, high, "", color, 0.18), Line(dose, middle, label, color, 2, markers=True)]
        if others:
            balance.append(Line(dose, others[name], "random-init twin", color, dash=True))
    if np.isfinite(at):
        balance.append(Rule("x", at, f"they cross at {at:.2f}", "c4"))
    x = Axis("sparsity: share of the allowed weights set to zero", limits=(-0.02, 1.02))
    y = Axis("erank/T; 2 − ‖A‖₂")
    panels = [Panel(x, y, (Rule("y", 0.0, "", "muted"), *balance), title=cited("S2 fig. 5, measured"))]
    for title, label, drawn in (
        ("effective ranks", "effective rank", (("erank", "erank", "c0"), ("r_l1l2", "(Σσ)²/Σσ²", "c6"))),
        ("error of the head’s output", "‖(A_s − A)V‖_F/‖AV‖_F", (("output_error", "output error", "c4"),)),
    ):
        marks: list[Mark] = []
        for name, text, color in drawn:
            low, middle, high = curves[name]
            marks += [Band(dose, low, high, "", color, 0.18), Line(dose, middle, text, color, 2, markers=True)]
            if others:
                marks.append(Line(dose, others[name], "random-init twin", color, dash=True))
        panels.append(Panel(x, Axis(label), tuple(marks), title=title))
    over = "median over heads, with their middle 90 %" if every else "mean over samples ± their standard deviation"
    crosses = int(np.isfinite(crossings).sum())
    where = f"expressivity and margin cross at {at:.2f}" if np.isfinite(at) else "expressivity and margin do not cross"
    note = attention.caveats(where, f"they cross in {crosses} of {crossings.size} heads", over)
    what = "every head" if every else f"layer {head[0]}, head {head[1]}"
    title = f"{attention.label}: the smallest weights taken away, {what}"
    return Figure((tuple(panels),), title=title, note=note)


def _curves(attention: AttentionSlice, name: str, head: tuple[int, int], every: bool) -> Floats:
    """Low, middle and high at every dose."""
    values = attention.of_heads(f"sweep_{name}")
    if every:
        return quantiles(values.reshape(-1, values.shape[-1]))
    spread = attention.of_heads(f"sweep_{'spectral_norm' if name == 'margin' else name}_std")[head]
    return np.array([values[head] - spread, values[head], values[head] + spread])
