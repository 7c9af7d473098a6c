"""The gradient analysis against a loop with one sequence at a time, and its routes, failures and refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as hf
from opening_models import tokenizer_of
from run_parts import carried_out, failure, request_of

from engine.analyses.gradients import compute as gradients_compute
from engine.data.tokens import tokens
from engine.errors import UserError
from engine.models.opening import open_model
from engine.request import DataSpec, ModelSpec, Request
from engine.runs.loop import start

torch.set_num_threads(1)

LAYERS, SAMPLES, LENGTH = 3, 40, 9  # two chunks of sequences
DATA = DataSpec(samples=SAMPLES, length=LENGTH)
NAMES = [f"transformer.h.{layer}.attn.c_proj.weight" for layer in range(LAYERS)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    config = hf.GPT2Config(
        n_embd=16, n_layer=LAYERS, n_head=2, vocab_size=60, n_positions=32, initializer_range=0.3,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    hf.GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer_of(60).save_pretrained(folder)
    rng = np.random.default_rng(0)
    words = ["the", "cat", "sat", "on", "a", "small", "mat", "and", "dog", "text", "read", "twice"]
    documents = [{"text": " ".join(rng.choice(words, 400))} for _ in range(20)]
    (folder / "text.jsonl").write_text("\n".join(json.dumps(document) for document in documents))
    return folder


def text_of(model: Path, data: DataSpec = DATA) -> DataSpec:
    """The fixture's text, unless it is a file of its own."""
    return data if data.source != "builtin" else data.model_copy(update={"source": str(model / "text.jsonl")})


def request_for(model: Path, *, twin: bool = False, data: DataSpec = DATA, **params: object) -> Request:
    window = {"fit_start": 3, "fit_stop": 30}
    return request_of("gradients", model, data=text_of(model, data), twin=twin, **window | params)


@pytest.fixture(scope="module")
def result(session, model):
    return carried_out(session, request_for(model, twin=True, splits=["train", "test"])).result()


def loop(model: Path, split: str = "all", data: DataSpec = DATA) -> tuple[np.ndarray, np.ndarray]:
    """S1's way: loss (N,) and G (layer, N, p) from whole backward passes over one sequence each."""
    opened = open_model(ModelSpec(source=str(model), dtype="float64"))
    module = opened.module().requires_grad_(True)
    losses, found = [], []
    for row in tokens(text_of(model, data), opened.tokenizer(), 0, split=split):
        module.zero_grad()
        ids = torch.from_numpy(row[row >= 0])[None]
        loss = module(input_ids=ids, labels=ids).loss
        loss.backward()
        losses.append(loss.item())
        found.append(np.stack([module.get_parameter(name).grad.flatten().numpy() for name in NAMES]))
    return np.array(losses), np.stack(found, 1)


@pytest.mark.parametrize("split", ["train", "test"])
def test_spectra_and_losses_are_those_of_the_loop(result, model, split):
    losses, g = loop(model, split)
    of = result.sel(split=split).isel(model=0)
    sigma = np.linalg.svd(g, compute_uv=False)
    np.testing.assert_allclose(of.loss, losses, rtol=1e-6)  # the library's own loss is in single precision
    np.testing.assert_allclose(of.singular_values, sigma, rtol=1e-5, atol=3e-8 * sigma.max())
    np.testing.assert_allclose(of.pr, (sigma**2).sum(-1) ** 2 / (sigma**4).sum(-1), rtol=1e-5)
    assert float(of.perplexity) == pytest.approx(np.exp(losses.mean()), rel=1e-6)


def test_the_power_law_is_fitted_to_squares_beside_noise_of_the_same_trace(result):
    of = result.isel(model=0, split=0, layer=1)
    x, y = np.log(np.arange(3, 31)), np.log(of.singular_values.values[2:30] ** 2)
    assert float(of.alpha_rank) == pytest.approx(-np.polyfit(x, y, 1)[0])
    assert float((of.noise_singular_values**2).sum()) == pytest.approx(float((of.singular_values**2).sum()))
    assert float(of.noise_alpha_rank) == pytest.approx(
        -np.polyfit(x, np.log(of.noise_singular_values.values[2:30] ** 2), 1)[0]
    )
    assert float(of.sequences_per_dim) == SAMPLES / 256
    assert float(of.floor) == pytest.approx(float(of.singular_values[0]) * 1.05e-8, rel=0.01)
    assert "N/p = 40/256 = 0.16" in json.loads(result.attrs["notes"])[0]


def test_a_twin_is_measured_on_the_last_split_only(result):
    assert np.isnan(result.singular_values.values[1, 0]).all()
    assert np.isnan(result.loss.values[1, 0]).all()
    assert np.isfinite(result.singular_values.values[1, 1]).all()
    assert result.weight.values.tolist() == [NAMES, NAMES]


def test_every_sequence_has_its_text(result, model):
    tokenizer = open_model(ModelSpec(source=str(model))).tokenizer()
    drawn = tokens(text_of(model), tokenizer, 0, split="test")
    assert result.sample_text.values[0, 1, 7] == tokenizer.decode(drawn[7])


def test_both_routes_agree_and_the_second_keeps_small_values(session, model, result):
    other = carried_out(session, request_for(model, route="svd", splits=["test"])).result().isel(model=0, split=0)
    here = result.isel(model=0, split=1)
    np.testing.assert_allclose(other.singular_values, here.singular_values, rtol=1e-9, atol=1e-7)
    _, g = loop(model, "test")
    np.testing.assert_allclose(other.singular_values, np.linalg.svd(g, compute_uv=False), rtol=1e-5)
    assert (other.floor.values < 1e-7 * here.floor.values).all()


def test_a_tied_weight(session, model):
    found = carried_out(session, request_for(model, weight="transformer.wte.weight", splits=["test"])).result()
    opened = open_model(ModelSpec(source=str(model), dtype="float64"))
    module, g = opened.module().requires_grad_(True), []
    for row in tokens(text_of(model), opened.tokenizer(), 0, split="test"):
        module.zero_grad()
        ids = torch.from_numpy(row)[None]
        module(input_ids=ids, labels=ids).loss.backward()
        g.append(module.lm_head.weight.grad.flatten().numpy().copy())
    sigma = np.linalg.svd(np.stack(g), compute_uv=False)
    of = found.isel(model=0, split=0)
    np.testing.assert_allclose(of.singular_values[0], sigma, rtol=1e-5, atol=3e-8 * sigma[0])
    assert np.isnan(of.singular_values[1:]).all()
    assert of.weight.values.tolist() == ["transformer.wte.weight", "", ""]


def test_a_sequence_that_is_not_finite_is_named_left_out_and_counted(session, model, monkeypatch):
    real = gradients_compute.per_sample

    def broken(module, weights, batch):
        losses, gradients = real(module, weights, batch)
        if len(batch.targets) == SAMPLES - 32:
            losses[3] = torch.nan
        return losses, gradients

    monkeypatch.setattr(gradients_compute, "per_sample", broken)
    found = carried_out(session, request_for(model)).result().isel(model=0, split=0)
    _, g = loop(model)
    sigma = np.linalg.svd(np.delete(g, 35, axis=1), compute_uv=False)
    np.testing.assert_allclose(found.singular_values[:, :-1], sigma, rtol=1e-5, atol=3e-8 * sigma.max())
    assert np.isnan(found.singular_values[:, -1]).all()
    assert np.flatnonzero(np.isnan(found.loss)).tolist() == [35]
    assert (found.sequences == SAMPLES - 1).all()
    assert "1 sequence is left out, as its loss or gradients are not finite (number 35)" in found.attrs["notes"]


def test_no_sequence_is_finite(session, model, monkeypatch):
    real = gradients_compute.per_sample

    def broken(module, weights, batch):
        losses, gradients = real(module, weights, batch)
        return losses * torch.nan, gradients

    monkeypatch.setattr(gradients_compute, "per_sample", broken)
    assert "No sequence has a finite loss" in failure(session, request_for(model))


def test_rows_of_a_file_may_differ_in_length(session, model, tmp_path):
    rows = np.random.default_rng(0).integers(1, 50, size=(36, 12))
    rows[3, 5:] = rows[20, 2:] = rows[30, 1:] = -1  # the last of these predicts nothing
    np.save(tmp_path / "ids.npy", rows)
    data = DataSpec(source=str(tmp_path / "ids.npy"), samples=70, length=12)
    found = carried_out(session, request_for(model, data=data)).result().isel(model=0, split=0)
    losses, g = loop(model, data=data)
    there = np.isfinite(losses)
    assert there.sum() == 35
    np.testing.assert_allclose(found.loss[:36], losses, rtol=1e-6)
    sigma = np.linalg.svd(g[:, there], compute_uv=False)
    np.testing.assert_allclose(found.singular_values[:, :35], sigma, rtol=1e-5, atol=3e-8 * sigma.max())
    notes = json.loads(found.attrs["notes"])
    assert [note for note in notes if "left out" in note] == [notes[-1]]
    assert "1 sequence is left out" in notes[-1]
    assert "(number 30)" in notes[-1]


def test_a_full_disk_is_foreseen(session, model, monkeypatch):
    from engine.gradients import scratch

    monkeypatch.setattr(scratch.shutil, "disk_usage", lambda folder: type("U", (), {"free": 1000})())
    assert "temporary space" in failure(session, request_for(model))


@pytest.mark.parametrize(
    ("params", "data", "said"),
    [
        ({"fit_start": 38}, DATA, "at least 5 ranks"),
        ({}, DataSpec(samples=SAMPLES, length=33), r"longer than .* can read, which is 32"),
        ({"splits": ["test", "test"]}, DATA, "each part of the text once"),
        (
            {"weight": "transformer.h.{layer}.attn.c_prj.weight"},
            DATA,
            "did you mean “transformer.h.{layer}.attn.c_proj",
        ),
        ({"weight": "transformer.ln_f.weight"}, DATA, "is not a matrix"),
    ],
)
def test_requests_that_cannot_succeed_are_refused_before_they_start(session, model, params, data, said):
    with pytest.raises(UserError, match=said):
        start(session, request_for(model, data=data, **params))


def test_gradients_beyond_the_memory_go_to_the_disk_and_come_back(tmp_path, monkeypatch):
    from engine.gradients.scratch import Scratch

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("engine.gradients.scratch.BLOCK_BYTES", 8 * 5 * 7)
    g = torch.randn(5, 100, generator=torch.Generator().manual_seed(0))
    for memory in (10**6, 16):
        scratch = Scratch(5, 100, torch.float32, memory)
        for row in (4, 0, 2, 3, 2):  # row 1 never comes, row 2 twice
            scratch.write(row, g[row].reshape(10, 10))
        blocks = list(scratch.blocks([0, 2, 3, 4]))
        assert {block.shape[1] for block in blocks} == {7, 2}
        assert torch.equal(torch.cat(blocks, dim=1), g[[0, 2, 3, 4]])
        assert not torch.cat(list(scratch.blocks([1])), dim=1).any()
        scratch.close()
    assert not list(tmp_path.iterdir())
