"""The attention views draw what a real run of small models found, for every head, and while it goes on."""

import itertools
from typing import get_args

import numpy as np
import pytest
import scipy.stats
import torch
from window_parts import HEADS, LAYERS, save_model

from engine.analyses.header import assemble
from engine.analyses.parameters import validate
from engine.analyses.registry import get_analysis
from engine.request import DataSpec, ModelSpec, Request
from engine.runs.loop import execute, start
from engine.sessions.store import Session
from engine.spectra.norm_scaling import LAWS, beyond_logarithm, fit
from gui.plots.figure import Figure, Image, Line, Points, Rule
from gui.plots.selection import Pick, Selection
from gui.views.attention.statistics import _correlation
from gui.views.attention.views import INSPECT, NAVIGATOR, VIEWS

VIEW = {view.name: view for view in (*VIEWS, NAVIGATOR)}
SAMPLES, TOKENS = 5, 16
PARAMS = {"shown": 2, "sweep_samples": 2, "length_samples": 3, "lengths": (6, 8, 12, 16)}


def save_encoder(folder):
    from transformers import BertConfig, BertModel

    torch.manual_seed(1)
    config = BertConfig(
        num_hidden_layers=2, num_attention_heads=HEADS, hidden_size=32, intermediate_size=32, vocab_size=64,
        max_position_embeddings=16, initializer_range=0.5,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """For a causal model with its twin and for an encoder: the run's request, models and committed units."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("attention")
    np.save(folder / "ids.npy", np.random.default_rng(0).integers(0, 64, (SAMPLES, TOKENS)))
    data = DataSpec(source=str(folder / "ids.npy"), samples=SAMPLES, length=TOKENS)
    causal, encoder = str(save_model(folder / "m")), str(save_encoder(folder / "e"))
    found = {}
    with Session.create(folder / "s.eigenscope") as session:
        for name, specs in {
            "causal": (ModelSpec(source=causal), ModelSpec(source=causal, twin=True)),
            "encoder": (ModelSpec(source=encoder),),
        }.items():
            request = Request(analysis="attention", params=PARAMS, models=specs, data=data, device="cpu")
            run = start(session, request)
            seen = []
            execute(session, run, seen.append, lambda: False)
            assert run.finished, seen[-1]
            found[name] = run.request, run.models, {key: run.read_unit(key).load() for key in run.plan}
    return found


def assembled(parts, name="causal", keep=lambda _: True):
    """The result of the units whose key is to be kept."""
    request, models, units = parts[name]
    analysis = get_analysis("attention")
    arrived = {key: unit for key, unit in units.items() if keep(key)}
    return assemble(analysis, request, validate(analysis, request.params), models, arrived)


@pytest.fixture(scope="module")
def dataset(parts):
    return assembled(parts)


@pytest.fixture(scope="module")
def encoder(parts):
    return assembled(parts, "encoder")


def draw(name, dataset, selection=Selection(), **options) -> Figure:  # noqa: B008 - frozen
    return VIEW[name].draw(dataset, selection, VIEW[name].options(**options))


def marks(figure, kind):
    return [mark for row in figure.rows for panel in row for mark in panel.marks if isinstance(mark, kind)]


def named(figure, label):
    return next(m for m in marks(figure, Line | Points) if m.label == label)


def choices(view):
    """Every option that is chosen from a few, one changed at a time."""
    yield {}
    for name, field in view.options.model_fields.items():
        if (field.json_schema_extra or {}).get("slider"):
            yield from (
                {name: getattr(bound, side)}
                for bound in field.metadata
                for side in ("ge", "le")
                if hasattr(bound, side)
            )
            continue
        for value in get_args(field.annotation) or ((False, True) if field.annotation is bool else ()):
            yield {name: value}


@pytest.mark.parametrize("name", VIEW)
def test_every_view_draws_every_model_with_every_option(dataset, encoder, name):
    for data, model in ((dataset, 0), (dataset, 1), (encoder, 0)):
        for options, sample in itertools.product(choices(VIEW[name]), (1, SAMPLES - 1)):
            figure = draw(name, data, Selection(model, 1, 1, sample), **options)
            undefined = name == "navigator" and options.get("statistic") == "sweep_crossing"
            assert not figure.empty or undefined
            assert figure.rows or figure.table is not None or undefined
            for mark in marks(figure, Line | Points):
                assert len(mark.x) == len(mark.y)
                assert len(mark.picks) in (0, 1, len(mark.x))
                assert len(mark.hover) in (0, len(mark.x))


@pytest.mark.parametrize("name", VIEW)
def test_every_view_draws_or_explains_what_has_not_arrived(parts, name):
    for keep in (lambda key: "samples" in key and key.startswith("m0"), lambda key: "sweep" in key, lambda _: False):
        partial = assembled(parts, keep=keep)
        for selection in (Selection(), Selection(1, 2, 1, 3)):
            figure = draw(name, partial, selection)
            assert bool(figure.empty) != bool(figure.rows or figure.table)
            assert INSPECT(partial, selection).verdict


def test_the_heatmap_is_the_matrix_with_its_tokens(dataset, encoder):
    for data in (dataset, encoder):
        stored = data.matrices.values[0, 1, 1, 1]
        figure = draw("matrix", data, Selection(0, 1, 1, 1), scale="linear")
        image = marks(figure, Image)[0]
        may = np.isfinite(image.z)
        np.testing.assert_allclose(image.z[may], stored[may])
        np.testing.assert_allclose(np.where(may, image.z, 0).sum(1), 1, atol=1e-6)
        tokens = [text for _, text in figure.rows[0][0].x.ticks]
        assert tokens == [t.strip() for t in data.token.values[0, 1].tolist()]
        assert tokens == [text for _, text in figure.rows[0][0].y.ticks]
    assert np.isnan(marks(draw("matrix", dataset), Image)[0].z[0, 1:]).all()
    kept = named(draw("matrix", dataset), "matrix kept: click to see")
    assert [pick.sample for pick in kept.picks] == [0, 1]
    elsewhere = draw("matrix", dataset, Selection(sample=4))
    assert "not kept" in elsewhere.title
    assert [pick.sample for pick in elsewhere.table.picks] == [0, 1]


def test_causal_eigenvalues_are_the_diagonal_and_said_so(dataset):
    figure = draw("eigenvalues", dataset, Selection(0, 1, 1, 1))
    points = named(figure, "this sample")
    diagonal = np.sort(np.diag(dataset.matrices.values[0, 1, 1, 1]))[::-1]
    np.testing.assert_allclose(points.x, diagonal, rtol=1e-6)
    assert not points.y.any()
    assert "diagonal" in figure.rows[0][0].title


def test_bidirectional_eigenvalues_are_complex_and_those_of_the_matrix(encoder):
    points = named(draw("eigenvalues", encoder, Selection(0, 1, 1, 1)), "this sample")
    found = points.x + 1j * points.y
    matrix = encoder.matrices.values[0, 1, 1, 1].astype(float)
    for value in found:  # each is an eigenvalue: A − λ is singular
        assert np.linalg.svd(matrix - value * np.eye(TOKENS), compute_uv=False)[-1] < 1e-5
    assert found.sum() == pytest.approx(np.trace(matrix), abs=1e-4)
    assert np.abs(points.y).max() > 1e-3
    circle = named(draw("eigenvalues", encoder), "unit circle")
    np.testing.assert_allclose(np.hypot(circle.x, circle.y), 1)


def test_the_slope_of_singular_values_is_the_runs_and_follows_the_window(dataset):
    selection = Selection(0, 2, 1, 1)
    figure = draw("singular", dataset, selection)
    rows = {row[0]: row[1:] for row in figure.table.rows}
    assert rows["this sample"][0] == pytest.approx(float(dataset.alpha_rank[0, 2, 1, 1]), rel=1e-5)
    assert rows["noise control"][0] == pytest.approx(float(dataset.noise_alpha_rank[0]), rel=1e-6)
    assert set(rows) == {"this sample", "random-init twin", "noise control"}
    sigma = np.linalg.svd(dataset.matrices.values[0, 2, 1, 1].astype(float), compute_uv=False)
    slope = np.polyfit(np.log(np.arange(2, 8)), np.log(sigma[1:7]), 1)[0]
    moved = draw("singular", dataset, selection, fit_start=2, fit_stop=7)
    assert {row[0]: row[1] for row in moved.table.rows}["this sample"] == pytest.approx(-slope, rel=1e-4)
    heads = named(moved, "heads")
    at = heads.picks.index(Pick(model=0, layer=2, head=1))
    assert heads.y[at] == pytest.approx(-slope, rel=1e-4)
    assert "5 ranks" in draw("singular", dataset, selection, fit_start=6, fit_stop=7).note


def test_norms_lie_between_their_bounds_and_fits_are_least_squares(dataset):
    figure = draw("norms", dataset, Selection(0, 1, 0), fits="all")
    frobenius, spectral = figure.rows[0]
    for panel, name in ((frobenius, "norm_frobenius"), (spectral, "norm_spectral")):
        mean = next(m for m in panel.marks if isinstance(m, Line) and m.label == "mean over texts")
        np.testing.assert_allclose(mean.y, dataset[name].values[0, 1, 0, :3].mean(0), rtol=1e-6)
        bound = next(m for m in panel.marks if isinstance(m, Line) and m.label.startswith("√n"))
        np.testing.assert_allclose(bound.y, np.sqrt(bound.x))
        assert (mean.y <= np.sqrt(mean.x) + 1e-6).all()
    assert [row[0] for row in figure.table.rows] == ["c", "c √n", "a + b ln n", "c n^b"]
    behind = np.array([row[5] for row in figure.table.rows])
    aic = dataset.norm_spectral_aic.values[0, 1, 0]
    np.testing.assert_allclose(behind, aic - aic.min())
    assert figure.table.rows[int(np.argmin(aic))][6] == "best"


def test_which_law_counts_every_head_once_and_names_sinks(dataset):
    some = dataset.copy()
    some["sink"] = some.sink.copy(data=np.where(np.arange(HEADS)[:, None] == 1, 0.8, 0.1) + 0 * some.sink.values)
    figure = draw("laws", some)
    best = dataset.norm_spectral_aic.values[0].argmin(-1)
    assert [row[1] for row in figure.table.rows] == [int((best == i).sum()) for i in range(len(LAWS))]
    squares = [m for m in marks(figure, Points) if m.picks]
    assert sorted(p.layer * HEADS + p.head for m in squares for p in m.picks) == list(range(LAYERS * HEADS))
    np.testing.assert_array_equal(named(figure, "sink head").y, np.ones(LAYERS))
    assert f"{LAYERS} sink heads" in figure.note


def test_growth_beyond_the_logarithm_is_told_from_it():
    n = np.array([16.0, 32, 64, 128, 256, 512])
    noise = 1 + 0.01 * np.random.default_rng(0).standard_normal((2, 8, len(n)))
    scaling = fit(np.stack([1 + 0.5 * np.log(n), 0.9 * np.sqrt(n)])[:, None] * noise, n)
    slow, fast = beyond_logarithm(scaling.aic, scaling.coefficients[..., LAWS.index("power"), 1])
    assert slow < -10
    assert fast > 10


def test_the_crossing_is_marked_where_the_curves_meet(dataset):
    crossing = dataset.sweep_crossing.values[1]
    assert np.isfinite(crossing).any()
    layer, head = np.argwhere(np.isfinite(crossing))[0].tolist()
    figure = draw("sweep", dataset, Selection(1, layer, head))
    rule = next(m for m in marks(figure, Rule) if m.axis == "x")
    assert rule.at == crossing[layer, head]
    rising, falling = (named(figure, label) for label in ("expressivity, erank/T", "margin, 2 − ‖A‖₂"))
    assert np.interp(rule.at, rising.x, rising.y) == pytest.approx(np.interp(rule.at, falling.x, falling.y), abs=1e-9)


def test_theory_marks_the_closed_forms_that_mathematics_contradicts(dataset):
    figure = draw("theory", dataset, Selection(0, 1, 1, 1), alpha=1.0, n=128)
    rows = {row[0]: row[1:] for row in figure.table.rows}
    sigma = np.arange(1, 129) ** -1.0
    exact = sigma.sum() ** 2 / (sigma**2).sum()
    claimed, summed, verdict, measured = rows["r_eff by eq. 3, α = 1"]
    assert (claimed, verdict) == (64.0, "wrong")
    assert summed == pytest.approx(exact)
    assert measured == pytest.approx(float(dataset.r_l1l2[0, 1, 1, 1]), rel=1e-4)
    uniform = rows["effective rank of uniform attention = exp(max entropy)"]
    identity = rows["effective rank of one-hot attention (A = I) is 1"]
    assert (uniform[:3], identity[:3]) == ((128.0, 1.0, "wrong"), (1.0, 128.0, "wrong"))
    curve = named(figure, "exact sum (Σσ)²/Σσ²")
    assert np.interp(128, curve.x, curve.y) == pytest.approx(exact, rel=0.01)
    assert "½" in draw("theory", dataset, alpha=0.4).note


def test_eigenvalues_relax_from_the_disk_to_those_of_the_head(encoder):
    start, middle, end = (
        named(draw("theory_training", encoder, Selection(0, 1, 1), t=t, growth=0.0), "λ(t) by Adkine 2025, eq. 1")
        for t in (0.0, 1.0, 5.0)
    )
    initial, now, late = (mark.x + 1j * mark.y for mark in (start, middle, end))
    final = encoder.eigenvalues.values[0, 1, 1, 0].astype(complex)
    assert np.abs(initial).max() <= 1
    assert np.ptp(np.angle(initial)) > 3
    np.testing.assert_allclose(now, final + np.exp(-1) * (initial - final), atol=1e-7)
    np.testing.assert_allclose(late, final, atol=2 * np.exp(-5))


def test_random_attention_is_sparse_and_its_norms_are_as_expected(dataset):
    figure = draw("theory_sparsity", dataset, figure="matrix", sparsity=0.5, n=128)
    z = marks(figure, Image)[0].z
    np.testing.assert_allclose(np.nansum(z, 1), 1)
    assert np.isnan(z).mean() == 0.5
    sigma = np.linalg.svd(np.nan_to_num(z), compute_uv=False)
    np.testing.assert_allclose(named(figure, "random rows").y, sigma)
    assert figure.table.rows[4][1] == pytest.approx(sigma[0], rel=0.1)
    at = int(np.argmin(np.abs(dataset.dose.values - 0.5)))
    assert figure.table.rows[0][2] == float(dataset.sweep_erank[0, 0, 0, at])
    norms = draw("theory_sparsity", dataset, figure="norms", sparsity=0.5)
    expected, drawn = (
        next(m for m in norms.rows[0][0].marks if getattr(m, "label", "") == label)
        for label in ("expected of random rows", "random rows, drawn")
    )
    np.testing.assert_allclose(np.interp(drawn.x, expected.x, expected.y), drawn.y, rtol=0.1)


def test_the_formulas_cross_where_it_is_marked(dataset):
    figure = draw("theory_sparsity", dataset, Selection(1, 0, 0), figure="balance", n=8, kappa=1.5, d_model=512)
    curves = [named(figure, label) for label in ("expressivity, formula", "margin 2 − ‖A‖₂, expected of random rows")]
    rule = next(m for m in marks(figure, Rule) if m.label.startswith("they cross"))
    first, second = (np.interp(rule.at, curve.x, curve.y) for curve in curves)
    assert first == pytest.approx(second, abs=1e-6)
    assert "cross nowhere" in draw("theory_sparsity", dataset, figure="balance", n=64, kappa=5.0).note


def test_relations_say_their_rank_correlation(dataset):
    x, y = (dataset[name].mean("sample").values[0].ravel() for name in ("exp_entropy", "erank"))
    figure = draw("relation", dataset)
    np.testing.assert_allclose(named(figure, "heads").x, x)
    rho = scipy.stats.spearmanr(x, y)[0]
    assert f"ρ = {rho:.2f}".replace("-", "−") in figure.note
    assert _correlation(np.arange(5.0), -np.arange(5.0)).startswith("Spearman’s ρ = −1.00")


def test_every_head_stands_in_its_layer_at_its_mean_or_at_one_sample(dataset):
    for options, expected in (
        ({}, dataset.entropy.values[0, 1, 1].mean()),
        ({"samples": "this sample"}, dataset.entropy.values[0, 1, 1, 3]),
    ):
        heads = named(draw("layers", dataset, Selection(sample=3), statistic="entropy", **options), "heads")
        at = heads.picks.index(Pick(model=0, layer=1, head=1))
        assert heads.y[at] == pytest.approx(expected)
        assert round(float(heads.x[at])) == 1


def test_a_click_on_a_sample_reads_its_text(dataset):
    points = next(m for m in marks(draw("samples", dataset, Selection(layer=2)), Points) if m.picks)
    at = points.picks.index(Pick(model=0, layer=2, head=1, sample=3))
    assert points.y[at] == pytest.approx(float(dataset.spectral_norm[0, 2, 1, 3]))
    text = str(dataset.sample_text.values[0, 3])
    figure = draw("samples", dataset, points.picks[at].applied_to(Selection()))
    assert text[:40] in figure.note


def test_the_navigator_outlines_the_selected_head(dataset):
    image = marks(draw("navigator", dataset, Selection(layer=2, head=1), statistic="norm_spectral_exponent"), Image)[0]
    assert image.marked == ((1, 2),)
    np.testing.assert_array_equal(image.z, dataset.norm_spectral_exponent.values[0].T)
    assert image.picks[1][2] == Pick(model=0, layer=2, head=1)


def test_the_reading_says_what_kind_of_head_it_is(dataset):
    inspection = INSPECT(dataset, Selection(layer=2, head=1))
    share = dataset.spectral_norm.values[0, 2, 1].mean() / TOKENS**0.5
    assert f"{share:.0%} of the bound" in inspection.verdict
    assert "AIC" in inspection.verdict
    row = next(row for row in inspection.rows if row.symbol == "‖A‖₂")
    assert row.null == pytest.approx(dataset.spectral_norm.values[1, 2, 1].mean())
    some = dataset.copy()
    some["sink"] = some.sink.copy(data=0.9 + 0 * some.sink.values)
    assert INSPECT(some, Selection()).verdict.startswith("A sink head: its tokens put 90%")


def test_what_a_run_was_not_asked_for_says_what_to_do(dataset):
    without = dataset.drop_vars(["erank", "singular_values", "matrices", "token", "norm_spectral", "sweep_erank"])
    for name in ("singular", "matrix"):
        assert "new run" in draw(name, without).empty
    assert "new run" in draw("layers", without, statistic="erank").empty
