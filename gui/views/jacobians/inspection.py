"""The selected sample and layer in numbers, beside the random-init twin, and the sentence that the sample is."""

from typing import TYPE_CHECKING

import numpy as np

from gui.plots.selection import Selection
from gui.views.inspection import Inspection, Row
from gui.views.jacobians.data import COMPONENTS, OPERATOR, SAMPLED, JacobiansSlice, quote

if TYPE_CHECKING:
    import xarray as xr

COLUMNS = ("", "value", "twin")


def inspect_sample(dataset: "xr.Dataset", selection: Selection) -> Inspection:
    """Per-sample statistics of the selected sample at the selected layer, and those of the layer's mean operator."""
    jacobians = JacobiansSlice.of(dataset, selection)
    layer, sample = jacobians.layer(selection), jacobians.sample(selection)
    title, subtitle = f"Layer {layer}, sample {sample}", f"{jacobians.label} ({jacobians.context})"
    sampled = [c for c in jacobians.measured("rho") if np.isfinite(jacobians.values("rho", c)[layer]).any()]
    if not sampled:
        return Inspection(title, subtitle, COLUMNS, verdict="This layer has not been computed yet.", help="jacobians")
    sublayers = [c for c in sampled if c in ("attn", "mlp")] or sampled
    rows = [_row(jacobians, name, c, layer, sample) for c in sublayers for name in SAMPLED]
    operator = next((c for c in ("block", "attn", "mlp", "residual") if c in jacobians.measured("henrici")), "")
    rows += [_row(jacobians, name, operator, layer) for name in OPERATOR if operator]
    return Inspection(
        title,
        subtitle,
        COLUMNS,
        tuple(row for row in rows if not np.isnan(row.value)),
        _verdict(jacobians, sublayers, layer, sample),
        help="jacobians",
    )


def _row(jacobians: JacobiansSlice, name: str, component: str, layer: int, sample: int | None = None) -> Row:
    kind, of = {**SAMPLED, **OPERATOR}[name], COMPONENTS[component]
    what = "of this sample" if sample is not None else "of the mean Jacobian"
    twin = jacobians.twin
    return Row(
        f"{kind.symbol} {of}",
        f"{kind.label}, {of}, {what}",
        _at(jacobians, name, component, layer, sample),
        _at(twin, name, component, layer, sample) if twin is not None else float("nan"),
    )


def _at(jacobians: JacobiansSlice, name: str, component: str, layer: int, sample: int | None) -> float:
    values = jacobians.values(name, component)[layer]
    return float(values if values.ndim == 0 else values[sample])


def _verdict(jacobians: JacobiansSlice, components: list[str], layer: int, sample: int) -> str:
    """Where the sample's σ₁ stands among all samples of this layer, and what it says."""
    places = []
    for component in components:
        norms = jacobians.values("rho", component)[layer]
        own, others = norms[sample], norms[np.isfinite(norms)]
        if np.isfinite(own):
            places.append(f"{COMPONENTS[component]} {np.mean(others <= own):.0%}")
    if not places:
        return "This sample was left out: its activations are not finite."
    text, token = jacobians.texts[sample]
    said = f"Taken at “{token}” of {quote(text)} " if text or token else ""
    return f"{said}Share of samples whose σ₁ here is at most this one’s: {', '.join(places)}."
