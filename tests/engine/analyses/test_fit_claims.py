"""Claims about exponents: datasets made to order get the verdict that they deserve, with the numbers in it."""

import json

import numpy as np
import pytest
import xarray as xr
from session_examples import INFO

from engine.analyses.activations import claims as activations_claims
from engine.analyses.claims import Claim
from engine.analyses.conditions import conditions
from engine.analyses.gradients import claims as gradients_claims

LAYERS, SITES = 8, ("embedding", "attn_out", "mlp_act", "block", "final_norm")
MODELS = [(name, seed) for name in ("m", "m (fine-tuned)", "m (random twin)") for seed in (0, 1, 2)]
X = np.arange(LAYERS)


def dataset(trained, tuned, random, *, sites=("block",), test=0.0, splits=("train", "test"), sublayers=(0.5, 1.0)):
    """α by layer of three kinds of model with two seeds each; `test` is what the test split adds."""
    rng = np.random.default_rng(0)
    alpha = np.full((len(MODELS), len(splits), len(sites), LAYERS), np.nan)
    loss = np.full(alpha.shape[:2], np.nan)
    for m, (name, _) in enumerate(MODELS):
        own = {"m": trained, "m (fine-tuned)": tuned}.get(name, random)
        for s, split in enumerate(splits):
            if "twin" in name and s < len(splits) - 1:
                continue
            noisy = own + 0.002 * rng.standard_normal(LAYERS) + (test if split == "test" else 0)
            for i, site in enumerate(sites):
                if site == "embedding":
                    alpha[m, s, i, 0] = 1.5
                elif site == "final_norm":
                    alpha[m, s, i, -1] = 1.4
                else:
                    alpha[m, s, i] = noisy + {"attn_out": sublayers[0], "mlp_act": sublayers[1]}.get(site, 0)
            loss[m, s] = 5 - noisy[-3:].mean()
    infos = [
        INFO.model_copy(update={"label": f"{name}, seed {seed}", "twin": "twin" in name}).model_dump(mode="json")
        for name, seed in MODELS
    ]
    dims = ("model", "split", "site", "layer")
    return xr.Dataset(
        {"alpha_rank": (dims, alpha), "noise_alpha_rank": (dims, np.where(np.isnan(alpha), np.nan, 0.1)),
         "loss": (dims[:2], loss)},
        coords={
            "model": [info["label"] for info in infos],
            "condition": ("model", [name for name, _ in MODELS]),
            "seed": ("model", [seed for _, seed in MODELS]),
            "split": list(splits),
            "site": list(sites),
        },
        attrs={"models": json.dumps(infos)},
    )  # fmt: skip


def by_statement(found: list[Claim], part: str) -> Claim:
    return next(claim for claim in found if part in claim.statement)


def test_conditions_are_models_that_differ_in_their_seed() -> None:
    found = conditions(dataset(0.7 + 0 * X, 0.7 + 0 * X, 0.3 + 0 * X))
    assert [c.label for c in found] == [
        "m, train", "m, test", "m (fine-tuned), train", "m (fine-tuned), test", "m (random twin), test",
    ]  # fmt: skip
    assert [c.kind for c in found] == ["trained"] * 2 + ["fine-tuned"] * 2 + ["random"]
    assert {c.base for c in found} == {"m"}
    assert found[2].models == (3, 4, 5)
    whole = conditions(dataset(0.7 + 0 * X, 0.7 + 0 * X, 0.3 + 0 * X, splits=("all",)))
    assert [c.label for c in whole] == ["m", "m (fine-tuned)", "m (random twin)"]


def test_what_s1_found_holds_where_it_is_so() -> None:
    rising = 0.66 + 0.03 * X
    found = activations_claims.claims(dataset(rising, rising + 0.03, 0.3 + 0 * X))
    for part in ("rises from layer", "between 0.65", "faster than random", "Fine-tuning raises", "Training and test"):
        assert by_statement(found, part).verdict == "holds", part
    assert "Spearman ρ = 1.00" in by_statement(found, "rises").measurement
    assert "+0.030" in by_statement(found, "Fine-tuning").measurement
    assert by_statement(found, "smaller loss").verdict == "holds"
    assert by_statement(found, "attention outputs have".capitalize()).verdict == "cannot say"
    assert "sublayers" in by_statement(found, "bowl").measurement


def test_and_fails_where_it_is_not() -> None:
    falling = 3 - 0.1 * X
    ds = dataset(falling, falling - 0.2, 3.5 + 0 * X, test=0.4, sites=SITES, sublayers=(2.0, 1.0))
    found = activations_claims.claims(ds)
    for part in (
        "rises from layer", "between 0.65", "faster than random", "Fine-tuning raises", "Training and test", "bowl",
        "Attention outputs have",
    ):  # fmt: skip
        assert by_statement(found, part).verdict == "fails", part
    assert "+1.00" in by_statement(found, "Attention outputs").measurement


def test_a_bowl_through_the_sublayers() -> None:
    bowl = 0.7 + 0.03 * (X - 3.5) ** 2
    ds = dataset(bowl, bowl, 0.3 + 0 * X, sites=SITES)
    claim = by_statement(activations_claims.claims(ds), "bowl")
    assert claim.verdict == "holds"
    assert "embedding 1.50, final 1.40" in claim.measurement


@pytest.mark.parametrize(("slope", "verdict"), [(-0.01, "holds"), (0.01, "fails"), (0.0, "cannot say")])
def test_gradients_fall_with_depth(slope: float, verdict: str) -> None:
    trained = 0.6 + slope * X
    tuned = 0.4 + 0.01 * (X - 3.5) ** 2
    ds = dataset(trained, tuned, 0.3 + 0 * X).isel(site=0, drop=True)
    found = gradients_claims.claims(ds)
    assert by_statement(found, "falls almost").verdict == verdict
    assert by_statement(found, "smaller gradient").verdict == "holds"
    assert by_statement(found, "U-shaped").verdict == "holds"


def test_nothing_is_said_without_the_models_that_it_needs() -> None:
    ds = dataset(0.7 + 0.01 * X, 0.7 + 0 * X, 0.3 + 0 * X, splits=("all",)).isel(model=[0])
    ds.attrs["models"] = json.dumps(json.loads(ds.attrs["models"])[:1])
    found = activations_claims.claims(ds)
    for part in ("faster than random", "Fine-tuning", "Training and test", "smaller loss", "dropout"):
        claim = by_statement(found, part)
        assert claim.verdict == "cannot say"
        assert "needs" in claim.measurement
    assert activations_claims.claims(ds.where(False)) == []


@pytest.mark.parametrize(("width", "comparable"), [(128, False), (400, True), (768, True), (1500, True), (2048, False)])
def test_absolute_exponents_compare_at_like_windows_only(width: int, comparable: bool) -> None:
    inside, outside = dataset(0.7 + 0 * X, 0.7 + 0 * X, 0.3 + 0 * X), dataset(2 + 0 * X, 2 + 0 * X, 0.3 + 0 * X)
    for ds, verdict in ((inside, "holds"), (outside, "fails")):
        infos = json.dumps([info | {"d_model": width} for info in json.loads(ds.attrs["models"])])
        ds.attrs |= {"models": infos, "fit_start": 10, "fit_stop": 100}
        claim = by_statement(activations_claims.claims(ds), "between 0.65")
        assert claim.verdict == (verdict if comparable else "cannot say")
        assert ("not comparable" in claim.measurement) != comparable
