"""The activation analysis against numpy on the library's own hidden states, and its losses and gaps in the text."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from opening_models import tokenizer_of
from run_parts import carried_out, failure, save_llama

from engine.analyses.activations import plan as activations
from engine.analyses.activations.analysis import ACTIVATIONS
from engine.data.tokens import tokens
from engine.errors import UserError
from engine.models.opening import open_model
from engine.request import DataSpec, ModelSpec, Request
from engine.runs.loop import start
from engine.sessions.store import Session

torch.set_num_threads(1)

D, LAYERS, SAMPLES, VOCAB = 16, 3, 24, 60
DATA = DataSpec(samples=SAMPLES, length=12)
WINDOW = {"fit_start": 2, "fit_stop": 12}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llama(tmp_path_factory.mktemp("model"), width=D, layers=LAYERS, uneven_norms=False)


def request_for(*specs: ModelSpec, data: DataSpec = DATA, **params: Any) -> Request:
    params = {"density": False, **WINDOW, **params}
    return Request(analysis="activations", params=params, models=specs, data=data, device="cpu")


def result_of(session: Session, request: Request) -> Any:
    result = carried_out(session, request).result()
    assert result is not None
    return result


def slope(lambdas: np.ndarray, low: int, high: int) -> float:
    ranks = np.arange(low, high + 1)
    return -float(np.polyfit(np.log(ranks), np.log(lambdas[low - 1 : high]), 1)[0])


@pytest.fixture(scope="module")
def reference(model: Path) -> dict[str, Any]:
    """The library's hidden states and loss for the same tokens, all sequences kept: layer to (N, d), in float64."""
    opened = open_model(ModelSpec(source=str(model), dtype="float64"))
    ids = torch.from_numpy(tokens(DATA, opened.tokenizer(), 0))
    assert not (ids == 0).any()  # no special tokens in this text
    with torch.no_grad():
        out = opened.module()(input_ids=ids, labels=ids, output_hidden_states=True)
    hidden = [h.flatten(0, 1).numpy() for h in out.hidden_states]
    return {"hidden": hidden, "loss": out.loss.item(), "final": hidden[-1]}


def test_block_spectra_are_those_of_the_stored_activations(session, model, reference) -> None:
    spec = ModelSpec(source=str(model), dtype="float64")
    result = result_of(session, request_for(spec, spec.model_copy(update={"twin": True})))
    assert result.site.values.tolist() == ["block"]
    for layer in range(LAYERS - 1):  # the library gives the last block's output only after its norm
        of = result.isel(model=0, split=0, site=0, layer=layer)
        expected = np.linalg.eigvalsh(np.cov(reference["hidden"][layer + 1].T))[::-1]
        np.testing.assert_allclose(of.eigenvalues, expected, rtol=1e-9)
        assert float(of.trace) == pytest.approx(expected.sum())
        assert float(of.alpha_rank) == pytest.approx(slope(expected, 2, 12))
    assert float(result.loss[0, 0]) == pytest.approx(reference["loss"], rel=1e-6)
    assert float(result.perplexity[0, 0]) == pytest.approx(np.exp(reference["loss"]), rel=1e-6)
    assert float(result.positions[0, 0]) == SAMPLES * 12
    assert float(result.positions_per_dim[0, 0, 0]) == SAMPLES * 12 / D
    assert result.condition.values.tolist() == [spec.condition, f"{spec.condition} (random twin)"]
    assert float(abs(result.loss[1, 0] - result.loss[0, 0])) > 1e-3


def test_noise_has_the_trace_and_is_nearly_flat(session, model) -> None:
    result = result_of(session, request_for(ModelSpec(source=str(model))))
    np.testing.assert_allclose(result.noise_eigenvalues.sum("mode"), result.trace, rtol=1e-9)
    control = result.noise_eigenvalues.values[0, 0, 0, 0]
    gamma = D / (SAMPLES * 12)
    scale = control.mean()
    assert control[0] / scale < 1.25 * (1 + gamma**0.5) ** 2  # Marchenko-Pastur's edges
    assert control[-1] / scale > 0.75 * (1 - gamma**0.5) ** 2
    assert float(result.noise_alpha_rank[0, 0, 0, 0]) == pytest.approx(slope(control, 2, 12))


def test_sublayers_have_their_own_widths_and_ends(session, model, reference) -> None:
    result = result_of(session, request_for(ModelSpec(source=str(model), dtype="float64"), sites="sublayers"))
    names = ["embedding", "ln1", "attn_out", "resid_mid", "ln2", "mlp_gate", "mlp_in", "mlp_act", "mlp_out", "block"]
    assert result.site.values.tolist() == [*names, "final_norm"]
    at = result.isel(model=0, split=0)
    assert at.sizes["mode"] == 40
    wide = at.eigenvalues.sel(site="mlp_act")
    assert np.isfinite(wide).all()
    assert np.isnan(at.eigenvalues.sel(site="block").values[:, D:]).all()
    embedding = np.linalg.eigvalsh(np.cov(reference["hidden"][0].T))[::-1]
    np.testing.assert_allclose(at.eigenvalues.sel(site="embedding", layer=0)[:D], embedding, rtol=1e-8)
    final = np.linalg.eigvalsh(np.cov(reference["final"].T))[::-1]
    np.testing.assert_allclose(at.eigenvalues.sel(site="final_norm", layer=LAYERS - 1)[:D], final, rtol=1e-6)
    assert np.isnan(at.alpha_rank.sel(site="embedding").values[1:]).all()
    assert np.isnan(at.alpha_rank.sel(site="final_norm").values[:-1]).all()


def test_density_fits_are_there_under_their_own_name(session, model) -> None:
    result = result_of(session, request_for(ModelSpec(source=str(model)), density=True, bootstrap=0, sites="sublayers"))
    of = result.isel(model=0, split=0)
    assert (of.alpha_esd.sel(site="mlp_act") > 1).all()
    assert np.isnan(of.esd_p).all()
    assert of.ks.sel(site="mlp_act").max() < 1


def test_splits_apart_and_a_twin_on_the_last_alone(session, model) -> None:
    spec = ModelSpec(source=str(model))
    specs = [spec, spec.model_copy(update={"twin": True}), spec.model_copy(update={"seed": 5})]
    result = result_of(session, request_for(*specs, splits=("train", "test")))
    assert result.split.values.tolist() == ["train", "test"]
    assert np.isfinite(result.alpha_rank.values).all(axis=(2, 3)).tolist() == [[True, True], [False, True], [True] * 2]
    assert np.isnan(result.positions.values[1, 0])
    assert float(result.loss[0, 0]) != float(result.loss[0, 1])
    assert result.seed.values.tolist() == [0, 0, 5]
    assert float(result.loss[0, 0]) != float(result.loss[2, 0])  # its own samples


def test_parts_and_one_pass_differ_in_rounding_alone(session, model, monkeypatch) -> None:
    request = request_for(ModelSpec(source=str(model)), sites="sublayers")
    once = carried_out(session, request)
    assert len(once.plan) == 1
    monkeypatch.setattr(activations, "PART_OPERATIONS", 1e6)
    parts = carried_out(session, request)
    assert len(parts.plan) > 3
    np.testing.assert_allclose(parts.result().trace, once.result().trace, rtol=1e-6)
    assert parts.result().positions.item() == once.result().positions.item()


@pytest.fixture
def ids(tmp_path: Path) -> Path:
    """Rows of unequal length; rows 3 and 10 alone hold token 7; token 0 is special."""
    rng = np.random.default_rng(0)
    rows = rng.integers(8, VOCAB, (20, 10))
    rows[3, 4] = rows[10, 0] = 7
    rows[5, 2:4] = 0
    for row, length in ((0, 3), (1, 9), (6, 1)):
        rows[row, length:] = -1
    np.save(tmp_path / "ids.npy", rows)
    return tmp_path / "ids.npy"


def test_padding_and_special_tokens_are_not_counted(session, model, ids) -> None:
    data = DataSpec(source=str(ids), samples=20, length=10)
    result = result_of(session, request_for(ModelSpec(source=str(model), dtype="float64"), data=data))
    rows = np.load(ids)
    assert result.positions.item() == (rows > 0).sum() == 20 * 10 - 7 - 1 - 9 - 2
    module = open_model(ModelSpec(source=str(model), dtype="float64")).module()
    kept, losses = [], []
    for row in rows:
        row = torch.from_numpy(row[row >= 0])[None]  # each sequence alone: nothing to pad
        with torch.no_grad():
            out = module(input_ids=row, output_hidden_states=True)
        kept.append(out.hidden_states[1][0][row[0] > 0].numpy())
        losses += torch.nn.functional.cross_entropy(out.logits[0, :-1], row[0, 1:], reduction="none").tolist()
    expected = np.linalg.eigvalsh(np.cov(np.concatenate(kept).T))[::-1]
    np.testing.assert_allclose(result.eigenvalues.values[0, 0, 0, 0], expected, rtol=1e-8)
    assert result.loss.item() == pytest.approx(np.mean(losses), rel=1e-6)


def test_sequences_that_are_not_finite_are_named_and_left_out(session, model, ids, tmp_path) -> None:
    module = hf.LlamaForCausalLM.from_pretrained(model)
    module.model.embed_tokens.weight.data[7] = 3e30
    module.save_pretrained(tmp_path / "hot")
    tokenizer_of(VOCAB).save_pretrained(tmp_path / "hot")
    data = DataSpec(source=str(ids), samples=20, length=10)
    result = result_of(session, request_for(ModelSpec(source=str(tmp_path / "hot")), data=data))
    rows = np.delete(np.load(ids), (3, 10), axis=0)
    assert result.positions.item() == (rows > 0).sum()
    assert np.isfinite(result.eigenvalues).all()
    assert any("2 of 20 samples are left out" in n and "first: 3, 10" in n for n in json.loads(result.attrs["notes"]))
    without = tmp_path / "without.npy"
    np.save(without, rows)
    same = result_of(
        session, request_for(ModelSpec(source=str(model)), data=DataSpec(source=str(without), samples=18, length=10))
    )
    np.testing.assert_allclose(result.eigenvalues, same.eigenvalues, rtol=1e-3)
    np.testing.assert_allclose(result.loss, same.loss, rtol=1e-6)


def test_nothing_finite_at_all(session, model, tmp_path) -> None:
    module = hf.LlamaForCausalLM.from_pretrained(model)
    module.model.embed_tokens.weight.data *= 3e30
    module.save_pretrained(tmp_path / "hot")
    tokenizer_of(VOCAB).save_pretrained(tmp_path / "hot")
    assert "not finite for any sample" in failure(session, request_for(ModelSpec(source=str(tmp_path / "hot"))))


def test_fewer_positions_than_dimensions(session, model) -> None:
    data = DataSpec(samples=1, length=10)
    result = result_of(session, request_for(ModelSpec(source=str(model)), data=data, fit_stop=8))
    assert result["rank"].item() == 9
    values = result.eigenvalues.values[0, 0, 0]
    assert np.isfinite(values[:, :9]).all()
    assert np.isnan(values[:, 9:]).all()
    assert any("10 positions are no more than the dimensions of block" in note for note in _notes(result))
    assert any("end at rank 9" in note for note in _notes(result))


def _notes(result: Any) -> list[str]:
    return json.loads(result.attrs["notes"])


@pytest.mark.parametrize(
    ("params", "data", "match"),
    [
        ({"fit_start": 100, "fit_stop": 200}, DATA, "ranks 100 to 200 of a spectrum of 16 values"),
        ({"fit_start": 2, "fit_stop": 12}, DataSpec(samples=1, length=5), "spectrum of 4 values"),
        ({}, DataSpec(samples=4, length=65), "longer than .* can read, which is 64"),
        ({"splits": ["train", "train"]}, DATA, "name each part of the text once"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_the_run(session, model, params, data, match) -> None:
    with pytest.raises(UserError, match=match):
        start(session, request_for(ModelSpec(source=str(model)), data=data, **params))


def test_a_model_without_a_head_has_no_loss(session, model, tmp_path) -> None:
    hf.LlamaModel.from_pretrained(model).save_pretrained(tmp_path / "bare")
    tokenizer_of(VOCAB).save_pretrained(tmp_path / "bare")
    result = result_of(session, request_for(ModelSpec(source=str(tmp_path / "bare"))))
    assert np.isnan(result.loss).all()
    assert np.isfinite(result.alpha_rank).all()
    assert any("no language-model head" in note for note in _notes(result))


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("masked")
    torch.manual_seed(0)
    config = hf.BertConfig(
        hidden_size=D, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4, vocab_size=70,
        max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    hf.BertForMaskedLM(config).save_pretrained(folder)
    tokenizer = tokenizer_of(60)
    tokenizer.add_special_tokens({"mask_token": "[MASK]", "pad_token": "[PAD]"})
    tokenizer.save_pretrained(folder)
    return folder


def test_a_masked_model_is_asked_for_hidden_tokens_which_are_not_counted(session, masked) -> None:
    result = result_of(session, request_for(ModelSpec(source=str(masked)), sites="sublayers"))
    hidden = SAMPLES * round(0.15 * 12)
    assert result.positions.item() == SAMPLES * 12 - hidden
    assert 0.5 * np.log(70) < result.loss.item() < 3 * np.log(70)
    assert "resid_post" in result.site.values
    assert "ln1" not in result.site.values


def test_a_masked_model_without_a_mask_reads_the_text_as_it_is(session, masked, tmp_path) -> None:
    hf.BertForMaskedLM.from_pretrained(masked).save_pretrained(tmp_path / "maskless")
    tokenizer_of(60).save_pretrained(tmp_path / "maskless")
    result = result_of(session, request_for(ModelSpec(source=str(tmp_path / "maskless"))))
    assert result.positions.item() == SAMPLES * 12
    assert np.isnan(result.loss).all()


def test_without_an_adapter_the_blocks_are_measured(session, tmp_path) -> None:
    torch.manual_seed(0)
    config = hf.MambaConfig(
        hidden_size=D, num_hidden_layers=2, state_size=4, vocab_size=VOCAB, bos_token_id=0, eos_token_id=0
    )
    hf.MambaForCausalLM(config).save_pretrained(tmp_path / "mamba")  # its config names no context: any length will do
    tokenizer_of(VOCAB).save_pretrained(tmp_path / "mamba")
    result = result_of(session, request_for(ModelSpec(source=str(tmp_path / "mamba")), sites="sublayers"))
    assert result.site.values.tolist() == ["block"]
    assert np.isfinite(result.alpha_rank).all()
    assert np.isfinite(result.loss).all()
    assert any("no adapter for MambaForCausalLM, so only its blocks" in note for note in _notes(result))


def test_models_of_different_shape_side_by_side(session, model, masked) -> None:
    specs = ModelSpec(source=str(model)), ModelSpec(source=str(masked))
    result = result_of(session, request_for(*specs, sites="sublayers"))
    assert result.sizes["layer"] == LAYERS
    assert np.isnan(result.eigenvalues.sel(site="ln1").values[1]).all()
    assert np.isfinite(result.alpha_rank.sel(site="block").values[1, 0, :2]).all()
    assert np.isnan(result.alpha_rank.sel(site="block").values[1, 0, 2:]).all()


def test_memory_grows_with_the_sites_and_parts_stay_within_their_share(session, model) -> None:
    spec = ModelSpec(source=str(model))
    info = start(session, request_for(spec)).models[0]
    few, many = (activations.ActivationsParams(sites=sites) for sites in ("blocks", "sublayers"))
    request = request_for(spec)
    assert ACTIVATIONS.estimate_bytes(request, many, info) > ACTIVATIONS.estimate_bytes(request, few, info)
    assert activations.site_widths(few, info) == [D] * LAYERS
    assert max(activations.site_widths(many, info)) >= 40
    huge = info.model_copy(update={"d_model": 8192, "n_parameters": 10**10, "n_layers": 80})
    assert activations.part_count(request, few, [huge], huge) == 1
