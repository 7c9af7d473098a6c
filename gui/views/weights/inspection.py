"""The selected head for the inspector: its numbers and one plain sentence."""

from typing import TYPE_CHECKING

import numpy as np

from engine.analyses.weights.variables import TESTED
from gui.plots.selection import Selection
from gui.views.inspection import Inspection, Row
from gui.views.weights.data import SIGNIFICANT, Matrix, WeightsSlice, stored

if TYPE_CHECKING:
    import xarray as xr


def inspect_head(dataset: "xr.Dataset", selection: Selection, matrix: Matrix = "QK") -> Inspection:
    """Statistics of the selected head beside their null, and the laws that its eigenvalues leave."""
    weights = WeightsSlice.of(dataset, selection, matrix)
    layer, head = weights.selected_head(selection)
    title, subtitle = f"Layer {layer}, head {head}", weights.label
    if reason := weights.no_heads(layer):
        return Inspection(f"Layer {layer}", subtitle, verdict=reason, help="weights")
    if not weights.arrived(layer):
        return Inspection(title, subtitle, verdict="This layer has not been computed yet.", help="weights")
    rows = []
    for name in TESTED:
        variable = weights.variable(name)
        null = float(weights.null(name, layer)[1]) if f"null_{name}" in dataset else float("nan")
        unit = weights.scale(layer, head) if name == "leading" else 1.0
        p, q = (_at(weights, f"{test}_{name}", layer, head) for test in ("p", "q"))
        meaning = f"{variable.full_name}: {variable.reading}"
        rows.append(Row(variable.symbol, meaning, _at(weights, name, layer, head), null * unit, p, q))
    law, naive = (_at(weights, name, layer, head) for name in ("outside_law", "outside_naive"))
    smallest = min((row.q for row in rows if np.isfinite(row.q)), default=float("nan"))
    return Inspection(
        title,
        subtitle,
        rows=tuple(rows),
        verdict=_verdict(law, naive, smallest, weights.width(layer)),
        outside=None if np.isnan(smallest) else smallest < SIGNIFICANT,
        help="weights",
    )


def _at(weights: WeightsSlice, name: str, layer: int, head: int) -> float:
    if stored(weights.matrix, name) not in weights.dataset:
        return float("nan")
    return float(weights.heads(name)[layer, head])


def _verdict(law: float, naive: float, q: float, d_head: int) -> str:
    """Say which law's edges are left, and whether the head is unusual beside finite random weights.

    The edges belong to the limit of large d: a few eigenvalues of random weights lie just outside them, so only the
    Monte Carlo null, corrected for all heads, calls a head unusual.
    """
    if np.isnan(law):
        return ""
    where = f"{law:.0f} of {d_head} eigenvalues outside the product law’s edges, {naive:.0f} outside the naive ones"
    if np.isnan(q):
        return f"{where}. The null is still being drawn."
    tested = f"smallest q {'< 0.001' if q < 0.001 else f'{q:.2g}'}"
    if q < SIGNIFICANT and law:
        return f"Leaves the product law: {where} ({tested})."
    if q < SIGNIFICANT:
        return f"Inside the product law’s edges, yet unlike random weights in shape ({tested})."
    if law:
        return f"Like random weights ({tested}): {where}, as happens by chance at this size."
    if naive:
        return f"Leaves only the naive law: {naive:.0f} of {d_head} eigenvalues outside its edges, none outside the \
product law’s, which is the right one for two random factors ({tested})."
    return f"Inside both laws: all {d_head} eigenvalues lie where random factors put them ({tested})."
