"""Views of the product of all layers: the funnel and the response to Schur surgery (S3 figs 4 and 5)."""

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from gui.plots.figure import Axis, Figure, Line, Mark, Panel, Points, Rule
from gui.plots.selection import Selection
from gui.views.base import Options
from gui.views.jacobians.data import JacobiansSlice, depth, layer_axis
from gui.views.model_slice import colors

if TYPE_CHECKING:
    import xarray as xr

RANK = "cumulative_effective_rank"
SURGERY = "surgery_effective_rank"
CONSTRUCTIONS = {
    "surgery": ("surgery: spectrum and basis kept", "data"),
    "control_a": ("control A: random instead of triangular", "c1"),
    "control_b": ("control B: random basis", "c2"),
}
PRODUCT = "product of all layers"


class FunnelOptions(Options):
    others: bool = Field(True, title="Other models", description="Twins and checkpoints of the same run")


def funnel(dataset: "xr.Dataset", selection: Selection, options: FunnelOptions) -> Figure:
    """Effective rank of the product from each layer to the last, and that product's spectrum and exponents."""
    jacobians = JacobiansSlice.of(dataset, selection)
    if np.isnan(jacobians.product(RANK)).all():
        return Figure(empty=jacobians.absent(RANK, PRODUCT))
    layer = jacobians.layer(selection)
    shown = [one for one in jacobians.every if options.others or one.model == jacobians.model]
    marks: tuple[list[Mark], list[Mark], list[Mark]] = ([Rule("x", layer, "selected layer", "muted")], [], [])
    for one in shown:
        color, chosen = colors(jacobians.infos)[one.model], one.model == jacobians.model
        width, dash = 2.0 if chosen else 1.0, one.info.twin
        picks = tuple(one.pick(i) for i in range(one.layers))
        ranks = one.product(RANK)
        line = Line(depth(len(ranks)), ranks, one.label, color, width, dash, markers=chosen, picks=picks)
        marks[0].append(line)
        at = min(layer, one.layers - 1)
        for place, name in enumerate(("cumulative_singular_values", "cumulative_exponents"), 1):
            values = one.product(name)[at] if name in dataset else np.zeros(0)
            values = values[np.isfinite(values)]
            if values.size:
                values = values / values[0] if place == 1 else values
                index = np.arange(1, len(values) + 1, dtype=float)
                marks[place].append(Line(index, values, one.label, color, width, dash))
    panels = (
        Panel(
            layer_axis(jacobians.layers),
            Axis("effective rank of the product", log=True),
            tuple(marks[0]),
            title="from each layer to the last",
        ),
        Panel(Axis("rank i", log=True), Axis("σᵢ/σ₁", log=True), tuple(marks[1]), title=f"from layer {layer}"),
        Panel(Axis("rank i", log=True), Axis("ln σᵢ per layer"), tuple(marks[2]), title=f"from layer {layer}"),
    )
    ranks = jacobians.product(RANK)
    note = f"From layer {layer} to the last about {ranks[layer]:.3g} of {jacobians.width:,} directions are left"
    title = jacobians.title("the funnel, effective rank of the product of mean Jacobians")
    return Figure((panels,), title=title, note=jacobians.caveats(note))


class SurgeryOptions(Options):
    start: Literal["first", "selected"] = Field(
        "first",
        title="From",
        json_schema_extra={"labels": {"first": "the first layer", "selected": "the selected layer"}},
    )
    twin: bool = Field(True, title="Twin", description="The same surgery on the random-init twin")


def surgery(dataset: "xr.Dataset", selection: Selection, options: SurgeryOptions) -> Figure:
    """Effective rank of the product against the dose of its non-normal part, with both controls; and by layer."""
    jacobians = JacobiansSlice.of(dataset, selection)
    if SURGERY not in dataset:
        return Figure(empty="This run has no Schur surgery. Tick “Schur surgery” before the next run.")
    ranks = jacobians.product(SURGERY)  # layer, construction, dose, draw
    if np.isnan(ranks).all():
        return Figure(empty=jacobians.absent(SURGERY, "surgery"))
    layer = 0 if options.start == "first" else jacobians.layer(selection)
    dose = dataset["dose"].values.astype(float)
    names = list(dataset["construction"].values)
    marks: list[Mark] = []
    for at, name in enumerate(names):
        label, color = CONSTRUCTIONS.get(name, (name, "c3"))
        draws = ranks[layer, at]
        if options.twin and name == "surgery" and (twin := jacobians.twin) is not None:
            other = _mean(twin.product(SURGERY)[min(layer, twin.layers - 1), at])
            marks.append(Line(dose, other, "surgery, random-init twin", "twin", dash=True, markers=True))
        apart = np.isfinite(draws) & (np.ptp(np.nan_to_num(draws), axis=1) > 0)[:, None]
        if apart.any():
            x = np.broadcast_to(dose[:, None], draws.shape)[apart]
            marks.append(Points(x, draws[apart], label, color, size=4))
        marks.append(Line(dose, _mean(draws), label, color, 2, markers=True))
    marks.append(Rule("x", 1.0, "the model itself", "null"))
    by_layer: list[Mark] = []
    whole = names.index("surgery") if "surgery" in names else 0
    for i, value in enumerate(dose):
        x, y = depth(jacobians.layers), _mean(ranks[:, whole, i])
        by_layer.append(Line(x, y, f"dose {value:g}", f"c{i % 8}", 2 if value == 1 else 1, markers=value == 1))
    panels = (
        Panel(
            Axis("dose α of the non-normal part"),
            Axis("effective rank of the product", log=True),
            tuple(marks),
            title=f"from layer {layer} to the last",
        ),
        Panel(
            layer_axis(jacobians.layers),
            Axis("effective rank of the product", log=True),
            tuple(by_layer),
            title="surgery, from each layer to the last",
        ),
    )
    title = jacobians.title("Schur surgery on the mean Jacobians")
    return Figure((panels,), title=title, note=jacobians.caveats(*_ratio(ranks[layer, whole], dose), _moved(jacobians)))


def _mean(draws: np.ndarray) -> np.ndarray:
    """Mean over the draws that are there, (…, draw) → (…)."""
    count = np.isfinite(draws).sum(axis=-1)
    return np.where(count > 0, np.nansum(draws, axis=-1) / np.maximum(count, 1), np.nan)


def _ratio(draws: np.ndarray, dose: np.ndarray) -> tuple[str, ...]:
    normal, own = (_mean(draws[dose == at]) for at in (0.0, 1.0))
    if not (normal.size and own.size):
        return ()
    return (f"Without the non-normal part the effective rank is {float(normal[0] / own[0]):.3g} times the model’s",)


def _moved(jacobians: JacobiansSlice) -> str:
    if "surgery_moved" not in jacobians.dataset:
        return ""
    moved = jacobians.product("surgery_moved")
    if np.isnan(moved).all():
        return ""
    return f"Control A moves the eigenvalues by {np.nanmedian(moved):.0%} of their size (median of the layers)"
