"""Claims of S2 about training: checkpoints of one training as a trajectory, finished models as independent ones."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.analyses.claims import Claim
from engine.analyses.conditions import final_models, trainings
from engine.analyses.depth_claims import LEVEL, NULL, TRAINING_NULL, DepthMean, direction, trend_words, verdict_of
from engine.spectra import serial
from engine.spectra.relaxation import relax
from engine.spectra.trends import spearman, trend

if TYPE_CHECKING:
    import xarray as xr

    from engine.models.info import ModelInfo

Array = NDArray[np.float64]

MODES = 8
"""Modes after the first, which is 1 throughout, whose relaxation is fitted."""
FEWEST_MODES = 3
"""Modes of a layer with a sure τ from which their order says anything."""

Measured = tuple[str, str, str, Sequence[bool | None], str]


def over_training(ds: "xr.Dataset", models: Sequence["ModelInfo"]) -> list[Claim]:
    """What S2 says of training, for each training with several measured checkpoints, and of all finished models."""
    judged: list[Measured] = []
    rows = trainings(models)
    for row in rows:
        measured = [m for m in row if np.isfinite(ds["concentration"].values[m]).any()]
        if len(measured) > 1:
            trajectory = ds.isel(model=measured, layer=slice(models[row[0]].n_layers))
            steps = np.array([models[m].step for m in measured], np.float64)
            label = f"Up to {models[row[-1]].label}: " if len(rows) > 1 else ""
            statements = _concentrates(trajectory), _deeper(trajectory), _ordered(trajectory, steps)
            judged += [(source, what, label + number, votes, view) for source, what, number, votes, view in statements]
    if judged:
        judged.append(_generalises(ds, models))
    return [Claim(source, what, number, verdict_of(votes), view) for source, what, number, votes, view in judged]


def _few(count: int) -> str:
    return f"{count} checkpoints, and it needs {serial.FEWEST}"


def _concentrations(trajectory: "xr.Dataset") -> Array:
    """Mean over heads and samples, (checkpoint, layer)."""
    return np.asarray(trajectory["concentration"].mean(("head", "sample")).values)


def _concentrates(trajectory: "xr.Dataset") -> Measured:
    statement = "The eigenvalues concentrate during training: |λ₁|²/Σ|λ|² rises."
    series = _concentrations(trajectory).mean(1)
    if len(series) < serial.FEWEST:
        return "S2 §2", statement, _few(len(series)), (), "training"
    test = trend(series)
    number = (
        f"From {series[0]:.3g} to {series[-1]:.3g} over {len(series)} checkpoints of one training, Spearman’s ρ with "
        f"their order {test.spearman:.2f}, p = {test.trend_p:.2g} ({TRAINING_NULL})."
    )
    return "S2 §2", statement, number, [direction(test, rising=True)], "training"


def _deeper(trajectory: "xr.Dataset") -> Measured:
    """The rise of each layer's concentration from checkpoint to checkpoint, along depth."""
    statement = "Deeper layers concentrate faster."
    values = _concentrations(trajectory)
    if len(values) < serial.FEWEST:
        return "S2 §2", statement, _few(len(values)), (), "training"
    order = np.arange(len(values)) - (len(values) - 1) / 2
    rates = order @ values / (order @ order)
    test = trend(rates)
    if test.layers < serial.FEWEST:
        return "S2 §2", statement, f"{test.layers} layers, and it needs {serial.FEWEST}", (), "training"
    number = (
        f"The concentration changes by {np.nanmin(rates):+.3g} to {np.nanmax(rates):+.3g} a checkpoint; along depth "
        f"this rate changes by {trend_words(test)} ({NULL})."
    )
    return "S2 §2", statement, number, [direction(test, rising=True)], "training"


def _ordered(trajectory: "xr.Dataset", steps: Array) -> Measured:
    """The order of sure τ among the modes of each layer; modes of a layer are no independent ones, layers are alike."""
    statement = "Dominant modes relax faster: τ₁ < τ₂ < …"
    if len(steps) < serial.FEWEST:
        return "S2 §2", statement, _few(len(steps)), (), "training_relaxation"
    moduli = abs(trajectory["eigenvalues"].isel(mode=slice(1, 1 + MODES))).mean(("head", "sample")).values
    rho, sure = np.full(moduli.shape[1], np.nan), 0
    for layer in range(moduli.shape[1]):
        fit = relax(steps, moduli[:, layer].T)
        known = np.array([not why for why in fit.why])
        sure += int(known.sum())
        if known.sum() >= FEWEST_MODES:
            rank = np.flatnonzero(known).astype(np.float64)
            rho[layer] = serial.rank_correlation(rank[None], fit.tau[known][None])[0]
    number = f"{sure} of {moduli.shape[1] * moduli.shape[2]} modes, those after the first of each layer, have a sure τ"
    if np.isfinite(rho).sum() < serial.FEWEST:
        number += f"; it needs {FEWEST_MODES} such modes in at least {serial.FEWEST} layers"
        return "S2 §2", statement, number, (), "training_relaxation"
    mean = DepthMean.of(rho, -1, 1)
    number += f"; Spearman’s ρ of their rank and τ within a layer is {mean} on average (null: ρ = 0)."
    return "S2 §2", statement, number, [mean.above(0.0)], "training_relaxation"


def _generalises(ds: "xr.Dataset", models: Sequence["ModelInfo"]) -> Measured:
    """Over independent models: checkpoints of one training are one model."""
    statement = "Models that generalise better have a lower effective rank."
    finished = final_models([info for info in models if not info.twin and info.step != 0])
    rows = [m for m, info in enumerate(models) if info in finished and info.held_out_loss is not None]
    if "erank" not in ds or len(rows) < serial.FEWEST:
        lacking = (
            f"It needs the singular values and the held-out loss of at least {serial.FEWEST} models of separate "
            f"trainings, and has {len(rows)}; checkpoints of one training count as one"
        )
        return "S2 §6.1", statement, lacking, (), "training_loss"
    loss = np.array([models[m].held_out_loss for m in rows], np.float64)
    ranks = ds["erank"].isel(model=rows).mean(("layer", "head", "sample")).values
    rho, p = spearman(loss, ranks)
    number = (
        f"Spearman’s ρ of held-out loss and effective rank = {rho:.2f}, p = {p:.2g}, {len(rows)} models (null: the "
        "same models in any order)."
    )
    return "S2 §6.1", statement, number, [rho > 0 if p < LEVEL else None], "training_loss"
