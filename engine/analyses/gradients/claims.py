"""Claims of S1 about gradient spectra, tested on the loaded models (methods §9)."""

from typing import TYPE_CHECKING

import numpy as np

from engine.analyses.claims import Claim
from engine.analyses.depth_claims import NULL, verdict_of
from engine.analyses.power_law_claims import (
    Curves,
    bowl_vote,
    depth_claim,
    difference_claim,
    loss_claim,
    split_claim,
)
from engine.spectra.trends import trend, u_shape

if TYPE_CHECKING:
    import xarray as xr


def claims(ds: "xr.Dataset") -> list[Claim]:
    """Every claim of S1 that this run can test, then those that need other models."""
    curves = Curves.of(ds)
    if not curves.conditions:
        return []
    return [
        depth_claim(
            curves, "S1 §3.3, 4", "Without fine-tuning, α of gradients falls almost monotonically with depth",
            "layers, trends", False, ["trained"],
        ),
        difference_claim(
            curves, "S1 §3.1", "Fine-tuned models have a smaller gradient α", "layers", ("fine-tuned", "trained"),
            False, "it needs a model before and after fine-tuning",
        ),
        _bowl(curves),
        split_claim(curves, "S1 §3.3, 2", "Training and test text give nearly the same gradient spectra", "layers"),
        loss_claim(
            ds, curves, "S1 §4", "Flatter gradient spectra in late layers go with a smaller loss", "loss", True
        ),
        Claim(
            "S1 §3.3, 4", "Better optimisers, or more depth, flatten the gradients' tail",
            "it needs the same model trained with several optimisers or depths; open them beside each other",
            "cannot say", "layers",
        ),
    ]  # fmt: skip


def _bowl(curves: Curves) -> Claim:
    statement = "In fine-tuned models gradient α is U-shaped: largest in the first and the last layers"
    measurements, votes = [], list[bool | None]()
    for condition in curves.final("fine-tuned"):
        values = curves.mean(condition)
        test = trend(values)
        if test.layers >= 5:
            u = float(u_shape(values[np.isfinite(values)]))
            measurements.append(
                f"{condition.label}: U index {u:.3f}, p of a turn {test.turn_p:.2g} over {test.layers} layers"
            )
            votes.append(bowl_vote(test))
    if not measurements:
        reason = "it needs a fine-tuned model of at least five layers"
        return Claim("S1 §3.1", statement, reason, "cannot say", "trends")
    return Claim("S1 §3.1", statement, f"{'; '.join(measurements)} ({NULL})", verdict_of(votes), "trends")
