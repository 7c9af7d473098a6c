"""Claims of S3 about the mean Jacobian of each block: its eigenvalues, alignments and departure from normality."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.analyses.depth_claims import LEVEL, NULL, DepthMean, direction, trend_words
from engine.spectra import serial
from engine.spectra.trends import trend

if TYPE_CHECKING:
    import xarray as xr

    from engine.models.info import ModelInfo

Array = NDArray[np.float64]
Measured = tuple[str, str, str, Sequence[bool | None], str]
"""Source, statement, the sentence with the number, what votes on the verdict, and the views that show it."""

COMPLEX = (0.96, 1.0)
"""Shares of complex eigenvalues that are about 98 %."""
SMALLEST = 0.05
"""Smallest difference of alignments that is of interest."""
SYMMETRIC = 0.9
"""Self-alignment from which an operator is nearly symmetric; untrained layers of S3 table 2 have 0.95 and more."""
WIDE = 0.5
"""Share of the width from which a subspace is aligned with any other, whatever the layer does."""


def statements(of_model: "xr.Dataset", info: "ModelInfo") -> list[Measured]:
    """What S3 says of a trained model's blocks, where they were measured."""
    if "block" not in of_model["component"].values:
        return []
    block = of_model.sel(component="block")
    judged = [
        _complex(block, info),
        _along_depth(block, "Self-alignment of the blocks rises with depth", "self_alignment", rising=True),
        _along_depth(block, "The Henrici departure of the blocks falls with depth", "henrici", rising=False),
        _tracks_residual(block),
        _forward(block),
    ]
    if "residual" in of_model["component"].values:
        judged.append(_without_skip(block, of_model.sel(component="residual")))
    return judged


def untrained(of_model: "xr.Dataset") -> list[Measured]:
    """What S3 says of models before training."""
    statement = "Before training every layer after the first is nearly symmetric"
    if "block" not in of_model["component"].values:
        return []
    alignment = of_model.sel(component="block")["self_alignment"].values[1:]
    mean = DepthMean.of(alignment, 0, 1)
    number = (
        f"self-alignment of the layers after the first is {mean}, and {np.nanmin(alignment, initial=1.0):.3g} at least "
        f"(random subspaces: {_baseline(of_model):.3g}; held above {SYMMETRIC})"
    )
    return [_resolved(of_model, ("S3 §2.1, table 2", statement, number, [mean.above(SYMMETRIC)], "depth"))]


def _complex(block: "xr.Dataset", info: "ModelInfo") -> Measured:
    """Against the share that independent Gaussian entries give at this width (methods eq. 9.1)."""
    low, high = COMPLEX
    share = DepthMean.of(block["complex_fraction"].values, 0, 1)
    random = 1 - float(np.sqrt(2 / (np.pi * info.d_model)))
    number = f"the share of complex eigenvalues is {share}; a random matrix {info.d_model:,} wide has {random:.3f}"
    statement = "About 98 % of the eigenvalues of every block’s Jacobian are complex"
    votes = [share.between(low, high)]
    if random < low:
        number += "; not comparable: at this width even random matrices have fewer"
        votes = []
    return "S3 §2", statement, number, votes, "clouds, depth"


def _along_depth(block: "xr.Dataset", statement: str, name: str, rising: bool) -> Measured:
    source = "S3 §2.1, fig. 3"
    test = trend(block[name].values)
    if test.layers < serial.FEWEST:
        return source, statement, f"{test.layers} layers, and it needs {serial.FEWEST}", (), "depth"
    measured = source, statement, f"{trend_words(test)} ({NULL})", [direction(test, rising)], "depth"
    return _resolved(block, measured) if name == "self_alignment" else measured


def _tracks_residual(block: "xr.Dataset") -> Measured:
    statement = "A block is the nearer to symmetric, the smaller its residual part ‖J − I‖_F/√d"
    pairs = np.stack([block["self_alignment"].values, block["residual_norm"].values])
    x, y = pairs[:, np.isfinite(pairs).all(0)]
    if len(x) < serial.FEWEST:
        return "S3 §2.1, fig. 3", statement, f"{len(x)} layers, and it needs {serial.FEWEST}", (), "depth"
    rho, p = float(serial.rank_correlation(x[None], y[None])[0]), serial.correlation_p(x, y)
    number = f"Spearman’s ρ over {len(x)} layers = {rho:.2f}, p = {p:.2g} (null: independent series along depth)"
    measured = "S3 §2.1, fig. 3", statement, number, [rho < 0 if p < LEVEL else None], "depth"
    return _resolved(block, measured)


def _forward(block: "xr.Dataset") -> Measured:
    statement = "What a block writes is aligned with what the next one reads no more than by chance"
    baseline = _baseline(block)
    excess = DepthMean.of(block["forward_alignment"].values - baseline)
    number = f"forward alignment less its baseline k/d = {baseline:.3g} is {excess} (below {SMALLEST} of no interest)"
    return _resolved(block, ("S3 fig. S6", statement, number, [excess.below(SMALLEST)], "depth"))


def _without_skip(block: "xr.Dataset", residual: "xr.Dataset") -> Measured:
    statement = "Without the skip the block is less symmetric: self-alignment of J − I is below that of J"
    own, without = (part["self_alignment"].values for part in (block, residual))
    # The study sees that of J rise with depth and that of J − I stay low.
    gap = DepthMean.of(own - without, -1, 1, sloped=True)
    number = (
        f"mean self-alignment of J is {np.nanmean(own):.3g}, of J − I {np.nanmean(without):.3g}; difference = {gap} "
        f"(random subspaces: {_baseline(block):.3g}; differences below {SMALLEST} of no interest)"
    )
    return _resolved(block, ("S3 §2.1, fig. 3", statement, number, [gap.above(SMALLEST)], "depth"))


def _baseline(of_model: "xr.Dataset") -> float:
    return float(of_model["alignment_baseline"])


def _resolved(of_model: "xr.Dataset", measured: Measured) -> Measured:
    """The same without a verdict where the subspaces are so wide that all of them are aligned."""
    source, statement, number, _, evidence = measured
    if (share := _baseline(of_model)) > WIDE:
        number += f"; no verdict: k is {share:.0%} of the width, choose a smaller one"
        return source, statement, number, (), evidence
    return measured
