"""The attention analysis against the library's own attention, and its lengths, notes and refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as hf
from opening_models import tokenizer_of
from run_parts import carried_out, request_of

from engine.analyses.attention.plan import AttentionParams, planned_lengths
from engine.analyses.attention.sentence import attend
from engine.analyses.header import Header
from engine.data.tokens import tokens as windows
from engine.errors import UserError
from engine.models.opening import describe, open_model
from engine.request import DataSpec, ModelSpec, Request
from engine.runs.loop import start

torch.set_num_threads(1)

LAYERS, HEADS, SAMPLES, LENGTH, CONTEXT = 2, 4, 35, 14, 48
SMALL = {"length_samples": 3, "sweep_samples": 2, "shown": 2, "lengths": [4, 8, 16, 40]}


def data_for(folder: Path, samples: int = SAMPLES, length: int = LENGTH) -> DataSpec:
    """A text of few words, which is quicker to take apart than the built-in one; it is kept with the model."""
    path = folder / "text.txt"
    if not path.exists():
        words = ["the", "cat", "sat", "on", "mat", "and", "dog", "a", "small", "text,", "read", "twice"]
        path.write_text(" ".join(np.random.default_rng(0).choice(words, 4000)))
    return DataSpec(source=str(path), samples=samples, length=length)


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with grouped heads that attend sharply."""
    folder = tmp_path_factory.mktemp("causal")
    torch.manual_seed(0)
    config = hf.LlamaConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        num_key_value_heads=2, vocab_size=60, max_position_embeddings=CONTEXT, initializer_range=0.5, bos_token_id=0,
        eos_token_id=0,
    )  # fmt: skip
    hf.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer_of(60).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    config = hf.BertConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=LAYERS, num_attention_heads=HEADS, vocab_size=60,
        max_position_embeddings=CONTEXT, initializer_range=0.5, pad_token_id=0,
    )  # fmt: skip
    hf.BertForMaskedLM(config).save_pretrained(folder)
    tokenizer_of(60).save_pretrained(folder)
    return folder


def request_for(*models: Path, data: DataSpec | None = None, twin: bool = False, **params: object) -> Request:
    return request_of("attention", *models, data=data or data_for(models[0]), twin=twin, **SMALL | params)


@pytest.fixture(scope="module")
def result(session, causal):
    return carried_out(session, request_for(causal, twin=True)).result()


@pytest.fixture(scope="module")
def bidirectional(session, encoder, padded):
    return carried_out(session, request_for(encoder, data=padded)).result()


@pytest.fixture(scope="module")
def padded(tmp_path_factory: pytest.TempPathFactory) -> DataSpec:
    """Samples of 5 to 14 tokens, in no order."""
    rng = np.random.default_rng(0)
    ids = rng.integers(1, 60, (SAMPLES, LENGTH))
    ids[np.arange(LENGTH) >= rng.integers(5, LENGTH + 1, (SAMPLES, 1))] = -1
    path = tmp_path_factory.mktemp("ids") / "ids.npy"
    np.save(path, ids)
    return DataSpec(source=str(path), samples=SAMPLES, length=LENGTH)


def library(folder: Path, ids: np.ndarray) -> np.ndarray:
    """What the library itself returns, (layer, head, T, T), of one sample without padding."""
    module = open_model(ModelSpec(source=str(folder), dtype="float64")).module()
    with torch.no_grad():
        found = module.base_model(torch.from_numpy(ids)[None], output_attentions=True).attentions
    return torch.cat(found).numpy()


def test_every_head_of_a_causal_model(result, causal):
    opened = open_model(ModelSpec(source=str(causal), dtype="float64"))
    ids = windows(data_for(causal), opened.tokenizer(), 0)
    of = result.isel(model=0)
    for sample in (0, 7, SAMPLES - 1):  # of the first unit and of the second
        a = library(causal, ids[sample])
        sigma = np.linalg.svd(a, compute_uv=False)
        at = of.isel(sample=sample)
        np.testing.assert_allclose(at.singular_values, sigma, atol=1e-6)
        np.testing.assert_allclose(at.eigenvalues, -np.sort(-np.diagonal(a, axis1=-2, axis2=-1)), atol=1e-7)
        np.testing.assert_allclose(at.spectral_norm, sigma[..., 0])
        np.testing.assert_allclose(at.frobenius, np.linalg.norm(a, axis=(-2, -1)))
        np.testing.assert_allclose(at.sink, a[..., 1:, 0].mean(-1))
        half = np.log(np.arange(1, LENGTH // 2 + 1))
        slopes = np.polyfit(half, np.log(sigma[..., : len(half)]).reshape(-1, len(half)).T, 1)[0]
        np.testing.assert_allclose(at.alpha_rank.values.ravel(), -slopes, rtol=1e-4)
        if sample < 2:
            np.testing.assert_allclose(of.matrices[:, :, sample], a, atol=1e-7)
            assert list(of.token[sample].values) == [opened.tokenizer().decode([i]) for i in ids[sample]]
    assert result.attrs["spectrum"] == "diagonal"
    assert not np.iscomplexobj(result.eigenvalues)
    assert (result.top_eigenvalue == 1).all()


def test_every_head_of_a_bidirectional_model_without_its_padding(bidirectional, encoder, padded):
    ids = np.load(padded.source)
    of = bidirectional.isel(model=0)
    assert len({int(n) for n in of.tokens.values}) > 3
    for sample in (0, 1, 20, SAMPLES - 1):
        row = ids[sample][ids[sample] >= 0]
        a = library(encoder, row)
        at = of.isel(sample=sample)
        lam = np.linalg.eigvals(a)
        n = len(row)
        assert at.tokens == n
        own = at.eigenvalues.values
        assert np.abs(own[..., :n, None] - lam[..., None, :]).min(-1).max() < 1e-5
        assert np.isnan(own[..., n:]).all()
        assert np.isnan(at.singular_values.values[..., n:]).all()
        np.testing.assert_allclose(at.spectral_norm, np.linalg.norm(a, 2, axis=(-2, -1)))
        np.testing.assert_allclose(at.entropy, -(a * np.log(a)).sum(-1).mean(-1))
        np.testing.assert_allclose(at.concentration, 1 / (np.abs(lam) ** 2).sum(-1))
        np.testing.assert_allclose(at.sparsity, (a < 0.1 / n).mean((-2, -1)))
        if sample < 2:
            np.testing.assert_allclose(of.matrices[:, :, sample, :n, :n], a, atol=1e-7)
            assert np.isnan(of.matrices.values[:, :, sample, n:]).all()
    assert bidirectional.attrs["spectrum"] == "general"


@pytest.mark.parametrize("kind", ["causal", "encoder"])
def test_norms_are_those_of_the_cut_texts(kind, request, session):
    folder = request.getfixturevalue(kind)
    ds = carried_out(session, request_for(folder, sweep_samples=0)).result().isel(model=0)
    opened = open_model(ModelSpec(source=str(folder)))
    ids = windows(data_for(folder, 3, 40), opened.tokenizer(), 0)
    assert ds.length.values.tolist() == [4, 8, 16, 40]
    for text in (0, 2):
        for column, n in enumerate((4, 8, 16, 40)):
            a = library(folder, ids[text, :n])
            at = ds.isel(sample=text, length=column)
            np.testing.assert_allclose(at.norm_spectral, np.linalg.norm(a, 2, axis=(-2, -1)))
            np.testing.assert_allclose(at.norm_frobenius, np.linalg.norm(a, axis=(-2, -1)))
            assert (at.norm_spectral <= n**0.5 + 1e-9).all()
    assert np.isnan(ds.norm_spectral.values[:, :, 3:]).all()
    reached = ds.norm_spectral.values[:, :, :3, 3].mean(-1) / 40**0.5
    np.testing.assert_allclose(ds.norm_spectral_of_bound, reached)
    assert np.isfinite(ds.norm_spectral_aic).all()


def test_a_head_that_reads_only_the_first_token_reaches_the_bound(tmp_path, session):
    """Its norm is √n, and the claim of O(ln n) fails."""
    torch.manual_seed(0)
    config = hf.GPT2Config(
        n_embd=16, n_layer=1, n_head=2, n_positions=256, vocab_size=60, bos_token_id=0, eos_token_id=0
    )
    module = hf.GPT2LMHeadModel(config)
    with torch.no_grad():
        block = module.transformer.h[0]
        module.transformer.wpe.weight.zero_()
        module.transformer.wpe.weight[0, :2] = torch.tensor([50.0, -50.0])
        block.attn.c_attn.weight[:, :32].zero_()  # queries and keys of both heads
        block.attn.c_attn.bias[:8] = 10.0
        block.attn.c_attn.weight[0, 16:24] = 2.0
    module.save_pretrained(tmp_path / "sink")
    tokenizer_of(60).save_pretrained(tmp_path / "sink")
    data = data_for(tmp_path / "sink", 6, 16)
    ds = carried_out(session, request_for(tmp_path / "sink", data=data, lengths=[], length_samples=6)).result()
    assert ds.length.values.tolist() == [16, 32, 64, 128, 256]
    sink = ds.isel(model=0, layer=0, head=0)
    assert (sink.sink > 0.99).all()
    assert float(sink.norm_spectral_of_bound) == pytest.approx(1, abs=0.02)
    assert float(sink.norm_spectral_exponent) == pytest.approx(0.5, abs=0.01)
    assert ds.law.values[int(sink.norm_spectral_aic.values.argmin())] in ("root", "power")
    claim = next(c for c in Header.of(ds).claims if "ln n" in c.statement)
    assert claim.verdict == "fails"
    assert "1 heads are sinks" in claim.measurement


def test_thinning_on_the_model_itself(result, causal):
    opened = open_model(ModelSpec(source=str(causal), dtype="float64"))
    ids = windows(data_for(causal), opened.tokenizer(), 0)[:2]
    a = np.stack([library(causal, row) for row in ids])
    of = result.isel(model=0)
    sigma = np.linalg.svd(a, compute_uv=False)
    # This model takes its softmax in float32.
    np.testing.assert_allclose(of.sweep_spectral_norm[..., 0], sigma[..., 0].mean(0), rtol=1e-6)
    np.testing.assert_allclose(of.sweep_spectral_norm_std[..., 0], sigma[..., 0].std(0, ddof=1), rtol=1e-4)
    np.testing.assert_allclose(of.sweep_margin, 2 - of.sweep_spectral_norm)
    np.testing.assert_allclose(of.sweep_expressivity, of.sweep_erank / LENGTH)
    error = of.sweep_output_error.values
    np.testing.assert_allclose(error[..., 0], 0, atol=1e-6)
    assert (np.diff(error[..., [0, 5, 9]]) > 0).all()


def test_without_singular_values(session, causal, result):
    ds = carried_out(session, request_for(causal, singular_values=False, sweep_samples=0, length_samples=0)).result()
    assert "singular_values" not in ds
    assert "erank" not in ds
    np.testing.assert_allclose(ds.spectral_norm.values, result.spectral_norm.isel(model=[0]).values, rtol=1e-10)


def test_models_of_both_kinds_and_of_one_run(session, causal, encoder):
    ds = carried_out(session, request_for(causal, encoder, sweep_samples=0, length_samples=0)).result()
    assert ds.attrs["spectrum"] == "mixed"
    assert ds.causal.values.tolist() == [True, False]
    assert (ds.eigenvalues.isel(model=0).values.imag == 0).all()
    assert (ds.eigenvalues.isel(model=1).values.imag != 0).any()


def test_samples_longer_than_the_context_are_cut_and_it_is_said(session, causal):
    data = data_for(causal, 2, CONTEXT + 10)
    ds = carried_out(session, request_for(causal, data=data, sweep_samples=0, length_samples=0)).result()
    assert (ds.tokens == CONTEXT).all()
    assert any(f"cut to its context of {CONTEXT}" in note for note in json.loads(ds.attrs["notes"]))


def test_a_text_too_short_for_long_windows(session, causal, tmp_path):
    (tmp_path / "short.txt").write_text("a small text, read twice " * 4)
    data = DataSpec(source=str(tmp_path / "short.txt"), samples=3, length=8)
    ds = carried_out(session, request_for(causal, data=data)).result()
    assert np.isnan(ds.norm_spectral.sel(length=40)).all()
    assert np.isfinite(ds.norm_spectral.sel(length=8).values[..., :3]).all()
    assert any("lengths go up to" in note for note in json.loads(ds.attrs["notes"]))


def test_a_model_without_attention_is_refused(tmp_path, session):
    torch.manual_seed(0)
    config = hf.MambaConfig(hidden_size=16, num_hidden_layers=2, vocab_size=60, state_size=4, intermediate_size=32)
    hf.MambaForCausalLM(config).save_pretrained(tmp_path / "mamba")
    tokenizer_of(60).save_pretrained(tmp_path / "mamba")
    with pytest.raises(UserError, match="do not show the weights of a softmax attention"):
        start(session, request_for(tmp_path / "mamba", data=data_for(tmp_path / "mamba", 2, 8)))


def test_lengths_are_those_that_the_model_can_read(causal):
    info = describe(ModelSpec(source=str(causal)))
    assert planned_lengths(AttentionParams(), info) == [16, 32, 48]
    assert planned_lengths(AttentionParams(lengths=(30, 10, 99)), info) == [10, 30]
    wide = info.model_copy(update={"context": 10**6, "n_heads": 32})
    assert planned_lengths(AttentionParams(), wide)[-1] == 2048


@pytest.mark.parametrize("kind", ["causal", "encoder"])
def test_a_sentence_at_once(kind, request):
    folder = request.getfixturevalue(kind)
    opened = open_model(ModelSpec(source=str(folder), dtype="float64"))
    ds = attend(opened, "the cat sat on the mat")
    ids = np.array(opened.tokenizer()("the cat sat on the mat")["input_ids"])
    a = library(folder, ids)
    np.testing.assert_allclose(ds.matrices, a, atol=1e-7)
    np.testing.assert_allclose(ds.singular_values, np.linalg.svd(a, compute_uv=False), atol=1e-6)
    assert ds.token.dims == ("query",)
    assert "".join(ds.token.values.tolist()).strip() == ds.attrs["text"].strip()
    assert ds.attrs["spectrum"] == ("diagonal" if kind == "causal" else "general")
    long = attend(opened, "the cat " * 60)
    assert long.sizes["query"] == CONTEXT
    assert "its context" in json.loads(long.attrs["notes"])[0]
    with pytest.raises(UserError, match="no text"):
        attend(opened, "  ")
