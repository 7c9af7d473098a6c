"""S2 fig. 1 from its formula: eigenvalues that relax to those of the selected head."""

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from engine.spectra.attention_theory import relaxed
from engine.studies import cited
from gui.plots.figure import Axis, Figure, Line, Mark, Panel, Points, Rule
from gui.plots.selection import Selection
from gui.views.attention.data import NOTHING, AttentionSlice
from gui.views.base import Options

if TYPE_CHECKING:
    import xarray as xr

CURVES = 6
LONGEST = 20.0


class RelaxOptions(Options):
    t: float = Field(
        2.0, ge=0, le=LONGEST, title="t", description="Time, in units of τ₁", json_schema_extra={"slider": 0.2}
    )
    growth: float = Field(
        0.5,
        ge=0,
        le=2,
        title="τᵢ ∝ i^",
        description=cited("How much slower later modes are: τᵢ = τ₁ i to this power (τ₁ < τ₂ < … in S2 eq. 1)"),
        json_schema_extra={"slider": 0.1},
    )


def relaxation(dataset: "xr.Dataset", selection: Selection, options: RelaxOptions) -> Figure:
    """λᵢ(t) = λᵢ(∞)(1 − e^(−t/τᵢ)) + λᵢ(0) e^(−t/τᵢ): from a uniform disk to the measured eigenvalues of the head."""
    attention = AttentionSlice.of(dataset, selection)
    layer, head = attention.selected_head(selection)
    values = attention.spectra("eigenvalues", (layer, head))[attention.sample(selection)]
    final = values[np.isfinite(values)].astype(complex)
    if not len(final):
        return Figure(empty=NOTHING)
    rng = np.random.default_rng(0)
    initial = np.sqrt(rng.random(len(final))) * np.exp(2j * np.pi * rng.random(len(final)))
    initial[0] = 1  # it is an eigenvalue of every attention matrix
    tau = np.arange(1, len(final) + 1.0) ** options.growth
    now = relaxed(initial, final, tau, options.t)
    turn = np.linspace(0, 2 * np.pi, 181)
    plane = (
        Line(np.cos(turn), np.sin(turn), "unit circle", "null", dash=True),
        Points(final.real, final.imag, "λ(∞): this head, measured", "data", 8, filled=False),
        Points(now.real, now.imag, cited("λ(t) by S2 eq. 1"), "law", 5),
    )
    side = (-1.08, 1.08)
    left = Panel(Axis("Re λ", limits=side), Axis("Im λ", limits=side), plane, title=f"t = {options.t:g} τ₁", equal=True)
    times = np.linspace(0, LONGEST, 101)
    curves: list[Mark] = [Rule("x", options.t, "t", "muted")]
    for i in range(min(CURVES, len(final))):
        size = np.abs(relaxed(initial[i], final[i], tau[i], times))
        curves.append(Line(times, size, f"|λ{chr(0x2081 + i)}|", f"c{i}", 1.6))
    right = Panel(Axis("t/τ₁"), Axis("|λᵢ(t)|"), tuple(curves), title="λᵢ(∞)(1 − e^(−t/τᵢ)) + λᵢ(0) e^(−t/τᵢ)")
    concentrations = "  ·  ".join(
        f"{label}: {_concentration(v):.3g}" for label, v in (("λ(t)", now), ("this head", final))
    )
    note = (
        f"concentration |λ₁|²/Σ|λ|² of {concentrations}  ·  λ(0) is drawn evenly from the disk; what training "
        "really does is in the views over training, of runs with several checkpoints"
    )
    title = f"Theory: eigenvalues in training, relaxing to {attention.label}, layer {layer}, head {head}"
    return Figure(((left, right),), title=title, note=note)


def _concentration(values: "np.ndarray") -> float:
    sizes = np.square(np.abs(values))
    return float(sizes.max() / sizes.sum())
