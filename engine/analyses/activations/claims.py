"""Claims of S1 about activation spectra, tested on the loaded models (methods §9)."""

from typing import TYPE_CHECKING

import numpy as np

from engine.analyses.claims import Claim
from engine.analyses.conditions import Condition
from engine.analyses.depth_claims import NULL, verdict_of
from engine.analyses.header import Header
from engine.analyses.power_law_claims import (
    SMALLEST,
    Curves,
    Difference,
    bowl_vote,
    depth_claim,
    difference_claim,
    gap_claim,
    loss_claim,
    split_claim,
)
from engine.spectra.trends import trend

if TYPE_CHECKING:
    import xarray as xr

NARROW = (0.65, 0.90)
STUDIED, COMPARABLE = 100 / 768, 2.0
"""Share of the width at which S1's fits end, and the factor from which another share does not compare with it."""
NO_SUBLAYERS = "it needs the sublayers: choose them under Sites"


def claims(ds: "xr.Dataset") -> list[Claim]:
    """Every claim of S1 that this run can test, then those that need other models."""
    blocks = Curves.of(ds, "block")
    if not blocks.conditions:
        return []
    return [
        depth_claim(
            blocks, "S1 §3.1", "α of block outputs rises from layer to layer in trained models", "layers, trends",
            True, ["trained", "fine-tuned"],
        ),
        _narrow(ds, blocks),
        _bowl(ds),
        difference_claim(
            blocks, "S1 §3.3, 1", "Trained models decay faster than random initialisation", "layers",
            ("trained", "random"), True, "it needs a trained model and its random twin on the same part of the text",
        ),
        difference_claim(
            blocks, "S1 §3.3, 1", "Fine-tuning raises α", "layers", ("fine-tuned", "trained"), True,
            "it needs a model before and after fine-tuning",
        ),
        split_claim(blocks, "S1 §3.3, 2", "Training and test text give nearly the same spectra", "layers"),
        _sublayers(ds),
        loss_claim(ds, blocks, "S1 §4", "A larger α in late layers goes with a smaller loss", "loss", False),
        Claim(
            "S1 §3.3, 1", "More dropout or weight decay in training raises α",
            "it needs the same model trained with several amounts of either; open them beside each other", "cannot say",
            "loss",
        ),
        Claim(
            "S1 §3.3, 3", "Shared query and key projections, or less diverse heads, raise α of attention outputs",
            "it needs models trained with and without; open them beside each other", "cannot say", "path",
        ),
    ]  # fmt: skip


def _narrow(ds: "xr.Dataset", curves: Curves) -> Claim:
    """The band of exponents of S1 for GPT-2, without the last layer."""
    low, high = NARROW
    statement = f"Apart from embedding and last layer, α of trained models lies between {low} and {high:.2f}"
    measurements, votes = [], list[bool | None]()
    for condition in curves.final("trained", "fine-tuned"):
        inner = curves.mean(condition)[:-1]
        inner = inner[np.isfinite(inner)]
        if len(inner):
            inside = int(np.sum((inner >= low) & (inner <= high)))
            noise = float(np.nanmean(curves.noise[condition]))
            other = _other_window(ds, condition)
            measurements.append(
                f"{condition.label}: {inner.min():.2f} to {inner.max():.2f}, {inside} of {len(inner)} layers inside "
                f"(noise of the same shape: {noise:.2f}){other}"
            )
            votes.append(None if other else inside == len(inner))
    if not measurements:
        return Claim("S1 §3.1", statement, "it needs a trained model", "cannot say", "layers")
    return Claim("S1 §3.1", statement, "; ".join(measurements), verdict_of(votes), "layers")


def _other_window(ds: "xr.Dataset", condition: Condition) -> str:
    """Why an absolute exponent does not compare: the fit ends elsewhere in the spectrum; empty where it compares."""
    header = Header.of(ds)
    if "fit_stop" not in header.settings:
        return ""
    share = int(header.settings["fit_stop"]) / header.models[condition.models[0]].d_model
    if 1 / COMPARABLE <= share / STUDIED <= COMPARABLE:
        return ""
    return (
        f"; not comparable: the fit ends at {share:.0%} of the width, the study’s at {STUDIED:.0%}; end it near rank "
        f"{STUDIED * header.models[condition.models[0]].d_model:.0f}"
    )


def _bowl(ds: "xr.Dataset") -> Claim:
    """Fig. 2a: embedding and final layers have the largest exponents, with a bowl between."""
    statement = "Through the sublayers α is a bowl: largest at the embedding and in the final layers"
    ends, blocks = [Curves.of(ds, site) for site in ("embedding", "final_norm")], Curves.of(ds, "block")
    measurements, votes = [], list[bool | None]()
    for condition in blocks.final("trained", "fine-tuned"):
        outer = [next((c.mean(k) for k in c.conditions if k.label == condition.label), None) for c in ends]
        values = blocks.mean(condition)
        if outer[0] is None or outer[1] is None or np.isfinite(values).sum() < 3:
            continue
        first, last = float(outer[0][0]), float(outer[1][np.isfinite(outer[1])][-1])
        path = np.concatenate([[first], values[np.isfinite(values)][:-1], [last]])
        test = trend(path)
        measurements.append(
            f"{condition.label}: embedding {first:.2f}, final {last:.2f}, median of the blocks between "
            f"{np.median(path[1:-1]):.2f}, p of a turn {test.turn_p:.2g}"
        )
        # An end below every block between is no largest one, whatever the shape.
        votes.append(False if min(first, last) < path[1:-1].min() - SMALLEST else bowl_vote(test))
    if not measurements:
        return Claim("S1 §3.2", statement, NO_SUBLAYERS, "cannot say", "path")
    return Claim("S1 §3.2", statement, f"{'; '.join(measurements)} ({NULL})", verdict_of(votes), "path")


def _sublayers(ds: "xr.Dataset") -> Claim:
    attention, mlp = Curves.of(ds, "attn_out"), Curves.of(ds, "mlp_act")
    by_label = {condition.label: condition for condition in mlp.conditions}
    pairs = [
        (f"{c.label}: α of attention − α of MLP", Difference.between(attention, c, by_label[c.label], mlp))
        for c in attention.final("trained", "fine-tuned")
        if c.label in by_label
    ]
    return gap_claim(
        "S1 §3.3, 3",
        "Attention outputs have shallower tails than MLP activations",
        "path, grid",
        pairs,
        False,
        NO_SUBLAYERS,
    )
