"""Claims about attention in training: trajectories made to order get the verdict that they deserve."""

import numpy as np
import pytest
import xarray as xr
from session_examples import INFO

from engine.analyses.attention.training_claims import over_training
from engine.analyses.claims import Claim
from engine.models.info import ModelInfo
from engine.spectra import serial

CHECKPOINTS, LAYERS, HEADS, SAMPLES, MODES = 12, 8, 2, 3, 6
STEPS = [0, *(32 * 2**i for i in range(CHECKPOINTS - 1))]
LATE = [0, *(50 * i for i in range(1, 24))]
Array = np.ndarray


def dataset(concentration: Array, eigenvalues: Array | None = None, erank: Array | None = None) -> xr.Dataset:
    """Alike for all heads and samples, from (model, layer) and (model, layer, mode)."""
    shape = (*concentration.shape, HEADS, SAMPLES)
    dims = ("model", "layer", "head", "sample")
    modes = np.ones((*concentration.shape, MODES)) if eigenvalues is None else eigenvalues
    values = {"concentration": (dims, np.broadcast_to(concentration[..., None, None], shape))}
    if erank is not None:
        values["erank"] = (dims, np.broadcast_to(erank[:, None, None, None], shape))
    spectra = np.broadcast_to(modes[:, :, None, None], (*shape, modes.shape[-1]))
    return xr.Dataset(values | {"eigenvalues": ((*dims, "mode"), spectra)})


def training(steps: list[int], name: str = "m") -> list[ModelInfo]:
    update = {"source": name, "n_layers": LAYERS, "n_heads": HEADS}
    return [INFO.model_copy(update={**update, "label": f"{name}@step{step}", "step": step}) for step in steps]


def by_statement(judged: list[Claim], part: str) -> Claim:
    return next(claim for claim in judged if part in claim.statement)


RISE = np.arange(CHECKPOINTS)[:, None] * (1 + np.arange(LAYERS)) / 200


@pytest.mark.parametrize(("sign", "verdict"), [(1, "holds"), (-1, "fails")])
def test_concentration_and_its_rate_along_depth(sign: int, verdict: str) -> None:
    noise = 0.002 * np.random.default_rng(0).standard_normal((CHECKPOINTS, LAYERS))
    judged = over_training(dataset(0.5 + sign * RISE + noise), training(STEPS))
    for part in ("concentrate during", "concentrate faster"):
        claim = by_statement(judged, part)
        assert claim.verdict == verdict, part
        assert "p = " in claim.measurement
    assert "12 checkpoints of one training" in by_statement(judged, "concentrate during").measurement


@pytest.mark.parametrize(("slower", "verdict"), [(1.5, "holds"), (1 / 1.5, "fails")])
def test_the_order_of_modes(slower: float, verdict: str) -> None:
    tau = 150 * slower ** np.arange(MODES - 1)
    shape = np.exp(-np.array(LATE)[:, None] / tau)
    moduli = np.concatenate([np.ones((len(LATE), 1)), 0.1 + 0.4 * shape], axis=1)[:, None].repeat(LAYERS, axis=1)
    moduli = moduli + 0.001 * np.random.default_rng(1).standard_normal(moduli.shape)
    claim = by_statement(over_training(dataset(moduli[..., 0], moduli), training(LATE)), "τ₁ < τ₂")
    assert claim.verdict == verdict
    assert "have a sure τ" in claim.measurement


def test_few_checkpoints_and_one_training_say_nothing() -> None:
    judged = over_training(dataset(0.5 + RISE[:4]), training(STEPS[:4]))
    assert {claim.verdict for claim in judged} == {"cannot say"}
    assert "4 checkpoints" in by_statement(judged, "concentrate during").measurement
    assert "count as one" in by_statement(judged, "generalise").measurement
    assert over_training(dataset(0.5 + RISE[:1]), training(STEPS[:1])) == []
    constant = over_training(dataset(0.5 + 0 * RISE), training(STEPS))
    assert {claim.verdict for claim in constant} == {"cannot say"}


@pytest.mark.parametrize(("sign", "verdict"), [(1, "holds"), (-1, "fails")])
def test_generalisation_needs_models_of_separate_trainings(sign: int, verdict: str) -> None:
    infos = [info for i in range(7) for info in training([1, 2], f"m{i}")]
    infos = [info.model_copy(update={"held_out_loss": 3.0 + 0.1 * i}) for i, info in enumerate(infos)]
    erank = 20.0 + sign * np.arange(len(infos))
    judged = over_training(dataset(np.full((len(infos), LAYERS), 0.5), erank=erank), infos)
    claim = by_statement(judged, "generalise")
    assert claim.verdict == verdict
    assert "7 models" in claim.measurement
    assert "Up to m3@step2: " in "".join(claim.measurement for claim in judged)


@pytest.mark.parametrize("phi", [0.8, 1.0])
def test_checkpoints_that_resemble_each_other_seldom_show_a_trend(phi: float) -> None:
    rng, verdicts = np.random.default_rng(3), []
    for _ in range(40):
        walk = serial.noise(phi, CHECKPOINTS, LAYERS, rng).T
        judged = over_training(dataset(0.5 + 0.01 * walk), training(STEPS))
        verdicts += [by_statement(judged, part).verdict for part in ("concentrate during", "concentrate faster")]
    assert sum(verdict != "cannot say" for verdict in verdicts) <= 9  # 80 verdicts at 5 %, and two deviations more
