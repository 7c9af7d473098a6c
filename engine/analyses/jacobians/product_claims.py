"""Claims of S3 about the product of all layers: the funnel, Schur surgery with its controls, and training."""

from typing import TYPE_CHECKING

import numpy as np

from engine.analyses.depth_claims import LEVEL, TRAINING_NULL, direction
from engine.analyses.jacobians.operator_claims import Measured
from engine.spectra import serial, student
from engine.spectra.trends import trend

if TYPE_CHECKING:
    import xarray as xr

RANK, SURGERY = "cumulative_effective_rank", "surgery_effective_rank"
CLEAR = 2.0
"""A ratio of effective ranks below it is of no interest."""
CONTROLS = {
    "control_a": "Random entries of the same size in place of the non-normal part do not make the funnel (control A)",
    "control_b": "Nor does the non-normal part in a random basis (control B; in Llama it does in part)",
}


def statements(of_model: "xr.Dataset", twin: "xr.Dataset | None") -> list[Measured]:
    """What S3 says of a trained model's product, where every block was measured."""
    if RANK not in of_model or not np.isfinite(of_model[RANK].values).all():
        return []
    judged = [_funnel(of_model, twin), _collapse(of_model)]
    if SURGERY in of_model and np.isfinite(of_model[SURGERY].values).any():
        judged += [_dissolved(of_model, twin), *_controls(of_model)]
    else:
        lacking = "it needs the parameter surgery"
        judged.append(("S3 §2.3, fig. 5", DISSOLVED, lacking, (), "surgery"))
    return judged


def over_training(trajectory: "xr.Dataset") -> list[Measured]:
    """The funnel over the checkpoints of one training (checkpoint, layer), in order."""
    source = "S3 §2.2, fig. 4"
    statement = "Training narrows the funnel: the effective rank of the product falls"
    if RANK not in trajectory:
        return []
    ranks = trajectory[RANK].values[:, 0]
    ranks = ranks[np.isfinite(ranks)]
    if len(ranks) < serial.FEWEST:
        return [
            ("S3 §2.2, fig. 4", statement, f"{len(ranks)} checkpoints, and it needs {serial.FEWEST}", (), "training")
        ]
    test = trend(np.log(ranks))
    number = (
        f"from {ranks[0]:.3g} to {ranks[-1]:.3g} over {len(ranks)} checkpoints of one training, Spearman’s ρ of the "
        f"logarithm with their order {test.spearman:.2f}, p = {test.trend_p:.2g} ({TRAINING_NULL})"
    )
    return [(source, statement, number, [direction(test, rising=False)], "training")]


def _funnel(of_model: "xr.Dataset", twin: "xr.Dataset | None") -> Measured:
    statement = "Training installs a funnel: the product of all layers has a smaller effective rank than untrained"
    rank = float(of_model[RANK].values[0])
    if twin is None or not np.isfinite(untrained := float(twin[RANK].values[0])):
        lacking = f"the effective rank is {rank:.3g}; it needs the random twin, or the checkpoint before the first step"
        return "S3 §2.2, fig. 4", statement, lacking, (), "funnel"
    number = (
        f"the effective rank of the whole product is {rank:.3g}, before training {untrained:.3g}, that of the last "
        f"layer alone {float(of_model[RANK].values[-1]):.3g} (null: one initialisation, hence no interval; a factor "
        f"below {CLEAR:g} either way is not counted)"
    )
    ratio = untrained / rank
    return "S3 §2.2, fig. 4", statement, number, [_clear(ratio)], "funnel"


def _clear(ratio: float) -> bool | None:
    return True if ratio > CLEAR else False if ratio < 1 / CLEAR else None


def _collapse(of_model: "xr.Dataset") -> Measured:
    """What each layer takes off the logarithm of the effective rank, against its spectral radius."""
    statement = "The effective rank falls most at layers with a large spectral radius"
    fall = np.diff(np.log(of_model[RANK].values))
    radius = of_model["spectral_radius"].sel(component="block").values[:-1]
    if len(fall) < serial.FEWEST:
        lacking = f"{len(fall)} pairs of layers, and it needs {serial.FEWEST}"
        return "S3 §2.2, fig. 4", statement, lacking, (), "funnel, depth"
    rho, p = float(serial.rank_correlation(fall[None], radius[None])[0]), serial.correlation_p(fall, radius)
    number = (
        f"Spearman’s ρ of the fall of ln(effective rank) and |λ₁| over {len(fall)} layers = {rho:.2f}, p = {p:.2g} "
        "(null: independent series along depth)"
    )
    return "S3 §2.2, fig. 4", statement, number, [rho > 0 if p < LEVEL else None], "funnel, depth"


DISSOLVED = "Without the non-normal part of every block, at the same eigenvalues, the funnel largely dissolves"


def _dissolved(of_model: "xr.Dataset", twin: "xr.Dataset | None") -> Measured:
    normal, whole = (_surgery(of_model, "surgery", dose) for dose in (0.0, 1.0))
    single = float(of_model[RANK].values[-1])
    number = (
        f"the effective rank is {whole:.3g} with it and {normal:.3g} without, a factor of {normal / whole:.3g}, where "
        f"one layer alone has {single:.3g}"
    )
    if twin is not None and SURGERY in twin and np.isfinite(untrained := _surgery(twin, "surgery", 1.0)):
        number += f"; before training the factor is {_surgery(twin, 'surgery', 0.0) / untrained:.3g}"
    if whole * CLEAR > single:
        return "S3 §2.3, fig. 5", DISSOLVED, f"{number}; there is no funnel to dissolve", (), "surgery"
    number += f" (no interval: one operator for each layer; a factor below {CLEAR:g} is not counted)"
    ratio = normal / whole
    return "S3 §2.3, fig. 5", DISSOLVED, number, [True if ratio > CLEAR else False if ratio < 1 else None], "surgery"


def _controls(of_model: "xr.Dataset") -> list[Measured]:
    """At the full dose, where the trained non-normal part gives the funnel; the draws are independent."""
    whole = _surgery(of_model, "surgery", 1.0)
    judged: list[Measured] = []
    for construction, statement in CONTROLS.items():
        draws = of_model[SURGERY].sel(construction=construction).sel(dose=1.0, method="nearest").values[0]
        low, mean, high = (float(np.exp(end)) for end in student.interval(np.log(draws / whole)))
        number = (
            f"the effective rank of the whole product is {mean:.3g} times that of the model, 95 % interval {low:.3g} "
            f"to {high:.3g} over {np.isfinite(draws).sum()} draws (a factor below {CLEAR:g} is not counted)"
        )
        if construction == "control_a":
            moved = float(np.nanmax(of_model["surgery_moved"].values))
            number += f"; it moves the eigenvalues too, by up to {moved:.0%}, which the study does not allow for"
        votes = [True if low > CLEAR else False if high < CLEAR else None]
        if whole * CLEAR > float(of_model[RANK].values[-1]):
            number, votes = f"{number}; there is no funnel to make", []
        judged.append(("S3 C.2, fig. S8", statement, number, votes, "surgery"))
    return judged


def _surgery(of_model: "xr.Dataset", construction: str, dose: float) -> float:
    """The effective rank of the whole product after surgery, mean over draws."""
    draws = of_model[SURGERY].sel(construction=construction).sel(dose=dose, method="nearest").values[0]
    present = draws[np.isfinite(draws)]
    return float(present.mean()) if present.size else np.nan
