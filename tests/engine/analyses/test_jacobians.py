"""The Jacobian analysis against Jacobians formed by automatic differentiation, and its choices and refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as hf
from run_parts import carried_out, failure, request_of, save_llama

from engine.errors import UserError
from engine.jacobians.reference import reference_operators
from engine.jacobians.stream import ResidualStream
from engine.models.opening import open_model
from engine.request import DataSpec, ModelSpec, Request
from engine.runs.loop import start
from engine.sessions.store import Session

torch.set_num_threads(1)

D, LAYERS, SAMPLES = 16, 3, 12
DATA = DataSpec(samples=SAMPLES, length=9)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llama(tmp_path_factory.mktemp("model"), width=D, layers=LAYERS)


def request_for(model: Path, *, data: DataSpec = DATA, twin: bool = False, **params: object) -> Request:
    return request_of("jacobians", model, data=data, twin=twin, **{"samples": "windows"} | params)


@pytest.fixture(scope="module")
def result(session, model):
    dataset = carried_out(session, request_for(model, twin=True, surgery=True, spectra=True)).result()
    assert dataset is not None
    return dataset


@pytest.fixture(scope="module")
def reference(model) -> dict[str, np.ndarray]:
    """Jacobians of every layer and sample by ``jacrev``: component to (layer, sample, d, d)."""
    from engine.data.tokens import tokens

    opened = open_model(ModelSpec(source=str(model), dtype="float64"))
    stream = ResidualStream(opened.module(), tokens(DATA, opened.tokenizer(), 0))
    names = ("attn", "mlp", "block", "residual")
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for layer in range(LAYERS):
        parts: dict[str, np.ndarray] = {name: np.empty((SAMPLES, D, D)) for name in names}
        for samples, state in stream.states(torch.float64):
            of = reference_operators(stream.blocks, layer, stream.inputs(samples), state, names, "in_context")
            for name in names:
                parts[name][samples.numpy()] = of[name].dense().numpy()
        for name in names:
            found[name].append(parts[name])
        stream.advance()
    return {name: np.stack(matrices) for name, matrices in found.items()}


@pytest.mark.parametrize("component", ["attn", "mlp", "block", "residual"])
def test_every_sample_agrees_with_automatic_differentiation(result, reference, component):
    jacobians = reference[component]
    sigma = np.linalg.svd(jacobians, compute_uv=False)
    of = result.sel(component=component).isel(model=0)
    np.testing.assert_allclose(of.rho, sigma[..., 0], rtol=1e-8)
    np.testing.assert_allclose(of.singular_values, sigma, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(of.delta, sigma[..., 1] / sigma[..., 0], rtol=1e-7)
    np.testing.assert_allclose(of.frobenius, np.sqrt((sigma**2).sum(-1)), rtol=1e-8)
    np.testing.assert_allclose(of.pr, (sigma**2).sum(-1) ** 2 / (sigma**4).sum(-1), rtol=1e-7)
    np.testing.assert_allclose(of.kappa, sigma[..., 0] / sigma[..., -1], rtol=1e-5)


@pytest.mark.parametrize("component", ["attn", "mlp", "block", "residual"])
def test_the_mean_operator_agrees_with_automatic_differentiation(result, reference, component):
    means = reference[component].mean(1)
    of = result.sel(component=component).isel(model=0)
    np.testing.assert_allclose(of.mean_singular_values, np.linalg.svd(means, compute_uv=False), rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(of.column_norm, np.linalg.norm(means, axis=-2), rtol=1e-8)
    np.testing.assert_allclose(of.spectral_radius, np.abs(np.linalg.eigvals(means)).max(-1), rtol=1e-7)
    np.testing.assert_allclose(of.residual_norm, np.linalg.norm(means - np.eye(D), axis=(-2, -1)) / D**0.5, rtol=1e-8)


@pytest.mark.parametrize("component", ["attn", "mlp", "block", "residual"])
def test_the_mean_operators_eigenvalues_agree_with_a_general_solver(result, reference, component):
    expected = np.linalg.eigvals(reference[component].mean(1))
    found = result.mean_eigenvalues.sel(component=component).isel(model=0).values
    for of, one in zip(expected, found, strict=True):
        assert np.abs(of[:, None] - one).min(1).max() < 1e-9


def test_the_product_of_all_layers(result, reference):
    means = reference["block"].mean(1).astype(np.float32).astype(float)
    product = np.eye(D)
    for layer in reversed(range(LAYERS)):
        product = product @ means[layer]
        sigma = np.linalg.svd(product, compute_uv=False) ** 2
        expected = sigma.sum() ** 2 / (sigma**2).sum()
        assert result.cumulative_effective_rank.values[0, layer] == pytest.approx(expected, rel=1e-5)


def test_forward_alignment_is_between_what_is_written_and_what_is_read_next(result, reference):
    k = D  # the default width covers all of so small a space
    assert result.alignment_baseline.values[0] == 1
    means = reference["block"].mean(1)
    u, vh = np.linalg.svd(means[0])[0][:, :k], np.linalg.svd(means[1])[2][:k]
    expected = np.linalg.norm(vh @ u) ** 2 / k
    assert result.forward_alignment.sel(component="block").values[0, 0] == pytest.approx(expected)
    assert np.isnan(result.forward_alignment.values[..., -1]).all()


def test_the_closed_form_was_verified_in_the_run(result):
    assert (result.verified_error.values < 1e-9).all()
    assert any("autograd differ by at most" in note for note in json.loads(result.attrs["notes"]))


def test_every_sample_has_its_text_and_token(result):
    texts, tokens = result.sample_text.values[0], result.sample_token.values[0]
    assert all(text.strip().endswith(token.strip()) for text, token in zip(texts, tokens, strict=True))
    assert len(set(texts)) > 1


def test_intervals_hold_the_mean(result):
    interval = result.rho_interval.values
    assert (interval[..., 0] <= interval[..., 1]).all()
    assert (interval[..., 1] <= interval[..., 2]).all()
    np.testing.assert_allclose(interval[..., 1], result.rho.values.mean(-1))


def test_surgery_at_dose_one_changes_nothing(result):
    at_one = result.surgery_effective_rank.sel(construction="surgery", dose=1.0).isel(draw=0)
    np.testing.assert_allclose(at_one, result.cumulative_effective_rank, rtol=1e-6)


def test_some_layers_only(session, model, result):
    some = carried_out(session, request_for(model, layers="0, -1")).result()
    assert np.isnan(some.rho.isel(layer=1)).all()
    np.testing.assert_array_equal(some.rho.isel(model=0, layer=2), result.rho.isel(model=0, layer=2))
    assert "cumulative_effective_rank" not in some  # a product needs every layer
    from_the_second = carried_out(session, request_for(model, layers="1-2")).result()
    assert from_the_second.sample_text.values.tolist() == result.sample_text.isel(model=[0]).values.tolist()


@pytest.mark.parametrize("layers", ["3", "2-1", "-4"])
def test_layers_that_the_model_does_not_have(session, model, layers):
    with pytest.raises(UserError, match="whose layers are 0 to 2"):
        start(session, request_for(model, layers=layers))


def test_layers_in_other_words(session, model):
    with pytest.raises(UserError, match="numbers and ranges such as"):
        start(session, request_for(model, layers="the last"))


def test_a_width_beyond_patience_offers_a_gpu_or_some_layers_with_their_time(session, model, monkeypatch):
    from engine.spectra import cost

    monkeypatch.setattr("engine.analyses.jacobians.plan.VERIFIED_WIDTH", D - 1)
    monkeypatch.setattr(cost, "seconds", lambda work, d, device="cpu": {"eigenvalues": 600, "svd": 300, "lu": 0}[work])
    with pytest.raises(UserError, match=r"would take about 3.0 hours on this CPU, 60 minutes a layer. Choose a GPU"):
        start(session, request_for(model))
    assert start(session, request_for(model, layers="0-2")).plan  # whoever names them has been told


def test_a_token_from_the_front_and_the_context_can_be_chosen(session, model):
    dataset = carried_out(session, request_for(model, position=2, context="isolated", components=["block"])).result()
    assert list(dataset.component.values) == ["block"]
    assert dataset.attrs["context"] == "isolated"
    assert (dataset.verified_error.values < 1e-9).all()


def test_a_token_that_samples_do_not_reach(session, model):
    assert "does not reach the chosen token" in failure(session, request_for(model, position=50))


def test_samples_longer_than_the_context(session, model):
    request = request_for(model, data=DataSpec(samples=4, length=65))
    with pytest.raises(UserError, match=r"longer than .* can read, which is 64"):
        start(session, request)


def test_a_text_with_too_few_sentences(session, model, tmp_path):
    (tmp_path / "short.txt").write_text("One sentence stands here alone in all of it.")
    data = DataSpec(source=str(tmp_path / "short.txt"), samples=4, length=16)
    assert "different sentences" in failure(session, request_for(model, samples="sentences", data=data))


def test_a_model_that_does_not_read_text(tmp_path):
    torch.manual_seed(0)
    config = hf.ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, image_size=8, patch_size=4
    )
    hf.ViTModel(config).save_pretrained(tmp_path / "vit")
    with Session.create(tmp_path / "s.eigenscope") as session, pytest.raises(UserError, match="does not read text"):
        start(session, Request(analysis="jacobians", models=(ModelSpec(source=str(tmp_path / "vit")),), data=DATA))
