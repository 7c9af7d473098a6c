"""Claims about Jacobians: datasets made to order get the verdict that they deserve, with the numbers in it."""

import json
from dataclasses import dataclass, field

import numpy as np
import pytest
import xarray as xr
from session_examples import INFO

from engine.analyses.claims import Claim
from engine.analyses.jacobians.claims import claims
from engine.spectra import serial

LAYERS, SAMPLES, DOSES = 12, 20, (0.0, 1.0)
COMPONENTS = ("attn", "mlp", "block", "residual")
X = np.arange(LAYERS)
BATHTUB = np.where((X == 0) | (X == LAYERS - 1), 90.0, 30.0) * np.exp(
    0.1 * np.random.default_rng(0).standard_normal(LAYERS)
)
Array = np.ndarray


@dataclass
class Model:
    """What a made-up model has: statistics by layer, effective ranks of the product, and after surgery."""

    label: str = "m"
    step: int | None = None
    twin: bool = False
    rho: Array = field(default_factory=lambda: BATHTUB)
    delta: tuple[float, float] = (0.3, 0.6)
    alignment: Array = field(default_factory=lambda: 0.1 + 0.06 * X)
    alignment_without_skip: float = 0.05
    forward: float = 0.02
    complex_fraction: float = 0.98
    ranks: Array = field(default_factory=lambda: 7.0 * 2.0 ** (X / 2))
    normal: float = 60.0
    controls: tuple[float, float] = (80.0, 30.0)


def dataset(*models: Model, context: str = "isolated", width: int = 4096, k: int = 64) -> xr.Dataset:
    """The variables that claims read, with small noise over samples."""
    rng = np.random.default_rng(1)
    infos = [
        INFO.model_copy(
            update={"label": m.label, "source": m.label.split("@")[0].split(" (")[0], "twin": m.twin, "step": m.step,
                    "n_layers": LAYERS, "d_model": width}
        ).model_dump(mode="json")
        for m in models
    ]  # fmt: skip
    sampled = np.exp(0.02 * rng.standard_normal((len(models), 4, LAYERS, SAMPLES)))
    rho = np.stack([m.rho for m in models])[:, None, :, None] * sampled
    delta = np.stack([[*m.delta, 0.9, 0.9] for m in models])[:, :, None, None] * sampled
    wobble = 0.005 * rng.standard_normal((len(models), 4, LAYERS))
    alignment = np.stack([[m.alignment] * 3 + [0 * X + m.alignment_without_skip] for m in models]) + wobble
    surgery = np.full((len(models), 3, len(DOSES), LAYERS, 4), np.nan)
    for i, m in enumerate(models):
        surgery[i, 0, :, 0, 0] = m.normal, m.ranks[0]
        surgery[i, 1:, 0, 0] = m.normal
        surgery[i, 1:, 1, 0] = np.array(m.controls)[:, None] * np.exp(0.02 * rng.standard_normal((2, 4)))
    by_layer = ("model", "component", "layer")
    quantiles = np.moveaxis(np.quantile(rho, [0.4, 0.5, 0.6], axis=-1), 0, -1)
    forward = np.stack([[0 * X + k / width + m.forward] * 4 for m in models]) + wobble
    forward[..., -1] = np.nan
    return xr.Dataset(
        {
            "rho": ((*by_layer, "sample"), rho),
            "rho_interval": ((*by_layer, "bound"), quantiles),
            "delta": ((*by_layer, "sample"), delta),
            "self_alignment": (by_layer, alignment),
            "henrici": (by_layer, 1 - alignment),
            "forward_alignment": (by_layer, forward),
            "complex_fraction": (by_layer, np.stack([[0 * X + m.complex_fraction] * 4 for m in models]) + wobble / 2),
            "residual_norm": (by_layer, 2 - alignment),
            "spectral_radius": (by_layer, 1 + np.stack([[np.diff(np.log(m.ranks), append=1)] * 4 for m in models])),
            "alignment_baseline": ("model", np.full(len(models), k / width)),
            "cumulative_effective_rank": (("model", "layer"), np.stack([m.ranks for m in models])),
            "surgery_effective_rank": (("model", "construction", "dose", "layer", "draw"), surgery),
            "surgery_moved": (("model", "layer"), np.full((len(models), LAYERS), 0.3)),
        },
        coords={
            "model": [m.label for m in models],
            "component": list(COMPONENTS),
            "construction": ["surgery", "control_a", "control_b"],
            "dose": list(DOSES),
        },
        attrs={"models": json.dumps(infos), "context": context},
    )


TWIN = Model("m (random twin)", twin=True, alignment=0 * X + 0.97, ranks=1500 + 10.0 * X, normal=1600.0)


def by_statement(judged: list[Claim], part: str) -> Claim:
    return next(claim for claim in judged if part in claim.statement)


def test_what_s0_found_holds_where_it_is_so() -> None:
    judged = claims(dataset(Model(), TWIN, context="in_context"))
    for part in ("U-shaped", "within a factor", "fewer directions"):
        claim = by_statement(judged, part)
        assert claim.verdict == "holds", part
        assert "m: " in claim.measurement
    assert "12 layers" in by_statement(judged, "U-shaped").measurement


def test_and_fails_where_it_is_not() -> None:
    for part, model in (
        ("within a factor", Model(rho=np.where(X == 4, 12.0, 1.0) * BATHTUB)),
        ("fewer directions", Model(delta=(0.7, 0.3))),
        ("U-shaped", Model(rho=900 / BATHTUB)),
    ):
        assert by_statement(claims(dataset(model, context="in_context")), part).verdict == "fails", part


def test_what_s3_found_holds_where_it_is_so() -> None:
    judged = claims(dataset(Model(), TWIN))
    for part in (
        "98 %", "rises with depth", "falls with depth", "nearer to symmetric", "no more than by chance",
        "Without the skip", "installs a funnel", "large spectral radius", "largely dissolves",
        "control A", "control B", "Before training",
    ):  # fmt: skip
        assert by_statement(judged, part).verdict == "holds", part
    assert "random matrix 4,096 wide has 0.988" in by_statement(judged, "98 %").measurement
    assert "before training 1.5e+03" in by_statement(judged, "installs a funnel").measurement


def test_and_fails_where_that_is_not_so() -> None:
    other = Model(
        alignment=0.8 - 0.06 * X, alignment_without_skip=0.9, forward=0.4, complex_fraction=0.6,
        ranks=4000 - 100.0 * X, controls=(5.0, 5.0),
    )  # fmt: skip
    twin = Model("m (random twin)", twin=True, alignment=0 * X + 0.5, ranks=500 + 1.0 * X)
    judged = claims(dataset(other, twin))
    for part in (
        "98 %", "rises with depth", "falls with depth", "no more than by chance", "Without the skip",
        "installs a funnel", "Before training",
    ):  # fmt: skip
        assert by_statement(judged, part).verdict == "fails", part
    funnel = Model(normal=6.0, controls=(8.0, 8.0))
    judged = claims(dataset(funnel, twin))
    for part in ("largely dissolves", "control A", "control B"):
        assert by_statement(judged, part).verdict == "fails", part


@pytest.mark.parametrize(("context", "judged_source"), [("in_context", "S0"), ("isolated", "S3")])
def test_the_other_context_gives_numbers_and_no_verdict(context: str, judged_source: str) -> None:
    for claim in claims(dataset(Model(), TWIN, context=context)):
        if not claim.theorem:
            assert (claim.verdict == "cannot say") == (claim.source[:2] != judged_source), claim.statement


def test_where_there_is_no_funnel_nothing_dissolves_it() -> None:
    judged = claims(dataset(Model(ranks=70 - 1.0 * X), TWIN))
    for part in ("largely dissolves", "control A", "control B"):
        assert by_statement(judged, part).verdict == "cannot say", part


def test_narrow_models_say_nothing_of_shares_and_wide_subspaces() -> None:
    judged = claims(dataset(Model(complex_fraction=0.5), width=100))
    assert "even random matrices" in by_statement(judged, "98 %").measurement
    assert by_statement(judged, "98 %").verdict == "cannot say"
    assert by_statement(judged, "no more than by chance").verdict == "cannot say"
    assert "choose a smaller one" in by_statement(judged, "rises with depth").measurement


@pytest.mark.parametrize(("factor", "verdict"), [(0.5, "holds"), (2.0, "fails"), (1.0, "cannot say")])
def test_checkpoints_are_one_trajectory_and_the_last_one_witness(factor: float, verdict: str) -> None:
    row = [Model(f"m@step{i}", step=i, ranks=100 * factor**i * np.ones(LAYERS)) for i in range(9)]
    judged = claims(dataset(*row))
    assert by_statement(judged, "narrows the funnel").verdict == verdict
    assert [c.measurement[:8] for c in judged if "98 %" in c.statement] == ["m@step8:"]
    assert by_statement(judged, "installs a funnel").verdict == {0.5: "holds", 2.0: "fails"}.get(factor, "cannot say")
    few = claims(dataset(*row[:4]))
    assert by_statement(few, "narrows the funnel").verdict == "cannot say"


def test_without_blocks_or_surgery_nothing_is_said_of_them() -> None:
    ds = dataset(Model()).drop_vars(["surgery_effective_rank", "surgery_moved"])
    assert "surgery" in by_statement(claims(ds), "largely dissolves").measurement
    alone = claims(ds.sel(component=["attn"]).drop_vars("cumulative_effective_rank"))
    assert alone == []


@pytest.mark.parametrize("phi", [0.0, 0.8, 1.0])
def test_layers_that_resemble_each_other_are_seldom_u_shaped(phi: float) -> None:
    tests = serial.lower_end_above_middle, serial.lower_end_below_middle
    series = serial.noise(phi, LAYERS, 200, np.random.default_rng(5))
    rate = np.mean([min(serial.p_value(test, x) for test in tests) < 0.025 for x in series])
    assert rate <= 0.05 + 3 * (0.05 * 0.95 / 200) ** 0.5
    ends = series + np.where((X == 0) | (X == LAYERS - 1), 20.0, 0.0)
    assert np.mean([serial.p_value(tests[0], x) < 0.025 for x in ends[:50]]) > 0.9
