"""Claims of S0 about attention and MLP, and of S3 about whole blocks, tested on the models of a run (methods §9, §13).

S0 takes Jacobians among the other tokens of the text, S3 those of the token alone: a run in the other context gives
numbers, and no verdict.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.analyses.claims import Claim
from engine.analyses.conditions import final_models, trainings
from engine.analyses.depth_claims import LEVEL, NULL, DepthMean, verdict_of
from engine.analyses.header import Header
from engine.analyses.jacobians import operator_claims, product_claims
from engine.analyses.jacobians.operator_claims import Measured
from engine.spectra import serial

if TYPE_CHECKING:
    import xarray as xr

    from engine.models.info import ModelInfo

Array = NDArray[np.float64]

PLATEAU = 3.0
"""S0 finds σ₁ between 15 and 45 in the inner layers of GPT-2."""
SMALLEST = 0.02
"""Smallest difference of δ that is of interest."""
SUBLAYERS = {"attn": "attention", "mlp": "MLP"}
NEEDED = {"S0": ("in_context", "with the other tokens in context"), "S3": ("isolated", "of the token alone")}


def claims(ds: "xr.Dataset") -> list[Claim]:
    """The claims that the components of this run bear on, for every witness, and what mathematics decides."""
    header = Header.of(ds)
    infos, context = header.models, str(header.settings.get("context", ""))
    untrained = [info for info in infos if info.twin or info.step == 0]
    trained = final_models([info for info in infos if info not in untrained])
    judged = []
    for m, info in enumerate(infos):
        of_model = ds.isel(model=m, layer=slice(info.n_layers))
        if not np.isfinite(of_model["rho"].values).any():
            continue
        label = f"{info.label}: " if len(infos) > 1 else ""
        statements: list[Measured] = []
        if info in trained:
            twin = _twin(ds, infos, info)
            statements = [*_sublayers(of_model, twin), *operator_claims.statements(of_model, info)]
            statements += product_claims.statements(of_model, twin)
        elif info in untrained:
            statements = operator_claims.untrained(of_model)
        judged += [_claim(statement, label, context) for statement in statements]
    rows = trainings(infos)
    for row in rows:
        trajectory = ds.isel(model=row, layer=slice(infos[row[0]].n_layers))
        label = f"up to {infos[row[-1]].label}: " if len(rows) > 1 else ""
        judged += [_claim(statement, label, context) for statement in product_claims.over_training(trajectory)]
    return [*judged, *_mathematics(ds)] if judged else []


def _claim(statement: Measured, label: str, context: str) -> Claim:
    source, what, measurement, votes, evidence = statement
    needed, words = NEEDED[source[:2]]
    if context != needed:
        measurement += f"; not comparable: the study takes the Jacobian {words}"
        votes = ()
    return Claim(source, what, label + measurement, verdict_of(votes), evidence)


def _twin(ds: "xr.Dataset", infos: Sequence["ModelInfo"], info: "ModelInfo") -> "xr.Dataset | None":
    """The untrained form of a model: its twin, else its training's checkpoint before the first step."""
    for wanted in (lambda other: other.twin, lambda other: other.step == 0):
        for m, other in enumerate(infos):
            if other.source == info.source and wanted(other) and np.isfinite(ds["rho"].values[m]).any():
                return ds.isel(model=m, layer=slice(info.n_layers))
    return None


def _sublayers(of_model: "xr.Dataset", twin: "xr.Dataset | None") -> list[Measured]:
    """What S0 says of attention and MLP, where both were measured."""
    if not {*SUBLAYERS} <= {*of_model["component"].values}:
        return []
    return [_u_shape(of_model), _plateau(of_model, twin), _concentrated(of_model)]


def _u_shape(of_model: "xr.Dataset") -> Measured:
    """Both ends against the layers between, on the logarithm of each layer's median."""
    statement = "The spectral norm σ₁ is U-shaped over depth: high in the first and in the last layer"
    words, votes = [], list[bool | None]()
    for component, name in SUBLAYERS.items():
        series = np.log(_over_samples(np.nanmedian, of_model["rho"].sel(component=component).values))
        if len(series) < serial.FEWEST or not np.isfinite(series).all():
            return "S0 §5.2", statement, f"it needs every layer, and at least {serial.FEWEST}", (), "boxes"
        higher, lower = (
            serial.p_value(test, series) for test in (serial.lower_end_above_middle, serial.lower_end_below_middle)
        )
        ends = [float(np.exp(series[end] - series[1:-1].mean())) for end in (0, -1)]
        words.append(
            f"{name}: the first layer has {ends[0]:.3g} and the last {ends[1]:.3g} times the geometric mean of those "
            f"between, p = {higher:.2g} for both ends above these, p = {lower:.2g} for an end below"
        )
        # Either verdict on noise would be wrong: two tests of one statement (Bonferroni).
        votes.append(True if higher < LEVEL / 2 else False if lower < LEVEL / 2 else None)
    return "S0 §5.2", statement, f"{'; '.join(words)}; {len(series)} layers ({NULL})", votes, "boxes"


def _plateau(of_model: "xr.Dataset", twin: "xr.Dataset | None") -> Measured:
    statement = f"Between the first and the last layer σ₁ stays within a factor of {PLATEAU:g}"
    words, votes = [], list[bool | None]()
    for component, name in SUBLAYERS.items():
        ends = of_model["rho_interval"].sel(component=component).values[1:-1]
        if len(ends) < 2 or not np.isfinite(ends).all():
            return "S0 §5.2", statement, "it needs every layer, at least four, and several samples", (), "boxes"
        least = float(ends[:, 0].max() / ends[:, 2].min())
        most = float(ends[:, 2].max() / ends[:, 0].min())
        ratio = float(ends[:, 1].max() / ends[:, 1].min())
        words.append(f"{name}: a factor of {ratio:.3g}, by the 95 % intervals over samples {least:.3g} to {most:.3g}")
        if twin is not None:
            untrained = twin["rho_interval"].sel(component=component).values[1:-1, 1]
            words[-1] += f" (before training {np.nanmax(untrained) / np.nanmin(untrained):.3g})"
        votes.append(True if most <= PLATEAU else False if least > PLATEAU else None)
    number = f"{'; '.join(words)}; {len(ends)} layers, {of_model.sizes['sample']} samples"
    return "S0 §5.2", statement, number, votes, "boxes"


def _concentrated(of_model: "xr.Dataset") -> Measured:
    statement = "Attention concentrates on fewer directions than the MLP: its δ = σ₂/σ₁ is smaller"
    attention, mlp = (_over_samples(np.nanmean, of_model["delta"].sel(component=name).values) for name in SUBLAYERS)
    gap = DepthMean.of(mlp - attention, -1, 1)
    number = (
        f"the mean δ of attention is {np.nanmean(attention):.3f}, of the MLP {np.nanmean(mlp):.3f}; MLP − attention = "
        f"{gap} (null: no difference; below {SMALLEST} of no interest)"
    )
    return "S0 §5.3", statement, number, [gap.above(SMALLEST)], "boxes"


def _over_samples(reduce: Callable[..., Array], samples: Array) -> Array:
    """A mean or median over samples (layer, sample); NaN where there is none."""
    present = np.asarray(np.isfinite(samples).any(-1, keepdims=True))
    return np.where(present[:, 0], reduce(np.where(present, samples, 0.0), axis=-1), np.nan)


def _mathematics(ds: "xr.Dataset") -> list[Claim]:
    if not {*SUBLAYERS} & {*ds["component"].values}:
        return []
    number = (
        "By its formula δ = σ₂/σ₁ is 0 for an operator of rank 1 and 1 where the first two directions are alike: a "
        "higher δ is less concentrated."
    )
    return [Claim("S0 §5.3", "A higher δ means more concentrated energy.", number, "fails", "boxes", theorem=True)]
