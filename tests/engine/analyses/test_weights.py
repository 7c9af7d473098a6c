"""The weights analysis on tiny real checkpoints: numbers against the model's own tensors, nulls, order of units."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
import xarray as xr
from scipy.stats import false_discovery_control

from engine.analyses.abilities import require_able
from engine.analyses.base import Unit, unit_rng
from engine.analyses.header import assemble
from engine.analyses.registry import get_analysis
from engine.analyses.weights.plan import WeightsParams, folded_draws, null_chunks
from engine.errors import UserError
from engine.models.info import ModelInfo
from engine.models.opening import describe, open_model
from engine.request import ModelSpec, Request
from engine.spectra.p_values import two_sided_p

torch.set_num_threads(1)
DRAWS = 400
SHAPES = {"hidden_size": 24, "num_hidden_layers": 2, "vocab_size": 40, "max_position_embeddings": 64}
GQA = SHAPES | {"num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 6, "intermediate_size": 24}
IDS = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models with random gains, the first with one head of low rank."""
    made = {}
    torch.manual_seed(0)
    for name, model in {
        "gpt2": hf.GPT2LMHeadModel(hf.GPT2Config(n_embd=32, n_layer=3, n_head=4, vocab_size=40, n_positions=16, **IDS)),
        "llama": hf.LlamaForCausalLM(hf.LlamaConfig(**GQA, **IDS)),
        "qwen3": hf.Qwen3ForCausalLM(hf.Qwen3Config(**GQA, **IDS)),
        "olmo2": hf.Olmo2ForCausalLM(hf.Olmo2Config(**{k: v for k, v in GQA.items() if k != "head_dim"}, **IDS)),
    }.items():
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if "ln_1" in key or "norm" in key:
                    parameter.uniform_(0.2, 2.0)
        if name == "gpt2":
            with torch.no_grad():
                weight = model.transformer.h[1].attn.c_attn.weight
                weight[:, :8] *= torch.logspace(0, -2, 8)  # W_Q of layer 1, head 0
        made[name] = tmp_path_factory.mktemp(name)
        model.save_pretrained(made[name])
    return made


def request(specs: tuple[ModelSpec, ...], **params: Any) -> Request:
    values = WeightsParams(**{"null_draws": DRAWS} | params).model_dump()
    return Request(analysis="weights", params=values, models=specs, device="cpu", seed=5)


class Job:
    """A request carried out unit by unit, as the run loop does."""

    def __init__(self, asked: Request) -> None:
        self.request = asked
        self.analysis = get_analysis("weights")
        self.params = WeightsParams(**asked.params)
        self.infos: list[ModelInfo] = [describe(spec) for spec in asked.models]
        self._compute = self.analysis.compute()
        self.plan: list[Unit] = self.analysis.units(asked, self.params, self.infos)

    def compute(self, unit: Unit) -> xr.Dataset:
        model = open_model(self.request.models[unit.model], seed=self.request.seed)
        return self._compute(unit, self.request, self.params, model, unit_rng(self.request, unit), {})

    def finish(self, units: dict[str, xr.Dataset]) -> xr.Dataset:
        return assemble(self.analysis, self.request, self.params, self.infos, units)


@pytest.fixture(scope="module")
def run(folders: dict[str, Path]) -> Callable[..., xr.Dataset]:
    done: dict[str, xr.Dataset] = {}

    def run(*names: str, **params: Any) -> xr.Dataset:
        key = repr((names, params))
        if key not in done:
            specs = tuple(ModelSpec(source=str(folders[n.split("+")[0]]), twin=n.endswith("+twin")) for n in names)
            job = Job(request(specs, **params))
            done[key] = job.finish({unit.key: job.compute(unit) for unit in job.plan})
        return done[key]

    return run


def products(
    folder: Path, layer: int, head: int, *, fold: bool = False, turn: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """W_QK and W_OV, d×d, straight from the library's module."""
    model = hf.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    if model.config.model_type == "gpt2":
        block = model.transformer.h[layer]
        w_q, w_k, w_v = block.attn.c_attn.weight.T.split(32)
        w_o, norm, r, kv = block.attn.c_proj.weight.T, block.ln_1, 8, head
    else:
        block = model.model.layers[layer]
        attention, norm = block.self_attn, getattr(block, "input_layernorm", None)
        w_q, w_k, w_v = (getattr(attention, f"{x}_proj").weight for x in "qkv")
        w_o, r, kv = attention.o_proj.weight, attention.head_dim, head // 3
    d = w_q.shape[1]
    gain = torch.eye(d, dtype=torch.float64)
    if fold:
        gain = torch.diag(norm.weight)
        if model.config.model_type == "gpt2":
            gain = gain @ (torch.eye(d, dtype=torch.float64) - 1 / d)
    q, k, v = (w[i * r : (i + 1) * r] @ gain for w, i in ((w_q, head), (w_k, kv), (w_v, kv)))
    if turn:
        rotary = model.model.rotary_emb
        cos, sin = rotary(q[None], torch.tensor([[turn]]))
        half = torch.cat((-k[r // 2 :], k[: r // 2]))
        k = k * cos[0, 0, :, None] + half * sin[0, 0, :, None]
    o = w_o[:, head * r : (head + 1) * r]
    return (q.T @ k).detach().numpy(), (o @ v).detach().numpy()


def squared_singular_values(product: np.ndarray, n: int) -> np.ndarray:
    return np.linalg.svd(product, compute_uv=False)[:n] ** 2


@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen3"])
@pytest.mark.parametrize("fold", [False, True])
def test_spectra_are_those_of_the_modules_weights(
    run: Callable[..., xr.Dataset], folders: dict[str, Path], name: str, fold: bool
) -> None:
    ds = run(name, fold_norm=fold)
    layers, heads, modes = (ds.sizes[dim] for dim in ("layer", "head", "mode"))
    for layer, head in ((0, 0), (layers - 1, heads - 1), (1, 2)):
        for which, product in zip(("qk", "ov"), products(folders[name], layer, head, fold=fold), strict=True):
            at = {"model": 0, "layer": layer, "head": head}
            expected = squared_singular_values(product, modes)
            np.testing.assert_allclose(ds[f"{which}_eigenvalues"][at], expected, rtol=1e-5)
            moduli = np.sort(np.abs(np.linalg.eigvals(product)))[::-1][:modes]
            np.testing.assert_allclose(np.abs(ds[f"{which}_complex_eigenvalues"][at]), moduli, rtol=1e-4)


@pytest.mark.parametrize("offset", [7, -7])
def test_offset_turns_the_keys(run: Callable[..., xr.Dataset], folders: dict[str, Path], offset: int) -> None:
    ds = run("llama", offset=offset)
    for layer, head in ((0, 4), (1, 1)):
        product, _ = products(folders["llama"], layer, head, turn=offset)
        expected = squared_singular_values(product, 6)
        np.testing.assert_allclose(ds["qk_eigenvalues"][0, layer, head], expected, rtol=1e-5)
    plain = run("llama")
    assert not np.allclose(ds["qk_eigenvalues"], plain["qk_eigenvalues"], rtol=1e-3)
    np.testing.assert_allclose(ds["ov_eigenvalues"], plain["ov_eigenvalues"])


@pytest.mark.parametrize(("fold", "prefix"), [(False, ""), (False, "ov_"), (True, ""), (True, "ov_")])
def test_p_and_q_are_those_of_the_null_that_is_drawn(
    folders: dict[str, Path], run: Callable[..., xr.Dataset], fold: bool, prefix: str
) -> None:
    ds = run("gpt2", fold_norm=fold)
    job = Job(request((ModelSpec(source=str(folders["gpt2"])),), fold_norm=fold))
    for layer in range(3):
        if fold:
            unit = job.compute(next(unit for unit in job.plan if unit.layer == layer))
            null = unit["qk_null_eigenvalues" if not prefix else "ov_null_eigenvalues"].values
        else:
            null = job.compute(next(unit for unit in job.plan if unit.layer is None))["null_eigenvalues"].values
        npr = null.sum(1) ** 2 / (null**2).sum(1) / 8
        p = ds[f"{prefix}p_npr"].values[0, layer]
        np.testing.assert_allclose(p, two_sided_p(npr, ds[f"{prefix}npr"].values[0, layer]))
        scaled = ds[f"{prefix}leading"].values[0, layer] / ds[f"{prefix}unit_scale"].values[0, layer]
        np.testing.assert_allclose(ds[f"{prefix}p_leading"].values[0, layer], two_sided_p(null[:, 0], scaled))
        bands = ds[f"{prefix}null_quantiles"].isel(model=0)
        bands = bands.isel(layer=layer) if fold else bands
        np.testing.assert_allclose(bands, np.quantile(null, [0.025, 0.5, 0.975], axis=0))
    for name in ("leading", "npr", "entropy", "kappa"):
        p = ds[f"{prefix}p_{name}"].values[0]
        np.testing.assert_allclose(
            ds[f"{prefix}q_{name}"].values[0], false_discovery_control(p, axis=None).reshape(3, 4)
        )


def test_folded_null_of_ov_has_the_gain_on_one_side_only(run: Callable[..., xr.Dataset]) -> None:
    """A gain leaves a factor fewer directions, so NPR falls: most for W_QK, less for W_OV, whose W_O reads no norm."""
    plain, folded = run("gpt2"), run("gpt2", fold_norm=True)
    for layer in range(3):
        both, one = (folded[f"{prefix}null_npr"].values[0, layer, 1] for prefix in ("", "ov_"))
        assert both < one - 0.005 < plain["null_npr"].values[0, 1] - 0.01
    np.testing.assert_array_equal(plain["null_npr"], plain["ov_null_npr"])


def test_the_made_up_head_is_the_one_found(run: Callable[..., xr.Dataset]) -> None:
    ds = run("gpt2", null_draws=2000)
    found = (ds["q_npr"].values[0] < 0.05) & (ds["q_kappa"].values[0] < 0.05)
    assert np.argwhere(found).tolist() == [[1, 0]]
    assert ds["outside_law"].values[0, 1, 0] > ds["outside_law"].values[0, 2].max()


def test_tests_of_a_partial_result_need_the_null_and_their_q_are_upper_bounds(
    folders: dict[str, Path], run: Callable[..., xr.Dataset]
) -> None:
    full = run("gpt2")
    job = Job(request((ModelSpec(source=str(folders["gpt2"])),)))
    units = {unit.key: job.compute(unit) for unit in job.plan if unit.layer in (None, 1)}
    partial = job.finish(units).isel(layer=1)
    for name, values in partial.data_vars.items():
        if name.startswith(("q_", "ov_q_")):
            assert (values >= full[name].isel(layer=1) - 1e-12).all(), name
    xr.testing.assert_equal(partial["p_npr"], full["p_npr"].isel(layer=1))
    null_first = job.finish({key: unit for key, unit in units.items() if key.startswith("null")})
    assert np.isfinite(null_first["null_quantiles"]).all()
    layer_first = job.finish({key: unit for key, unit in units.items() if not key.startswith("null")})
    assert np.isnan(layer_first["p_npr"]).all()
    assert np.isnan(layer_first["null_npr"]).all()


def test_any_order_of_units_gives_the_same_result(folders: dict[str, Path], run: Callable[..., xr.Dataset]) -> None:
    full = run("gpt2")
    job = Job(request((ModelSpec(source=str(folders["gpt2"])),)))
    xr.testing.assert_identical(job.finish({unit.key: job.compute(unit) for unit in reversed(job.plan)}), full)


def test_twin_is_noise_and_shares_the_null(folders: dict[str, Path], run: Callable[..., xr.Dataset]) -> None:
    ds = run("gpt2", "gpt2+twin")
    folder = str(folders["gpt2"])
    job = Job(request((ModelSpec(source=folder), ModelSpec(source=folder, twin=True))))
    assert sum(unit.layer is None for unit in job.plan) == len(null_chunks(job.params, job.infos[0].d_head))
    np.testing.assert_array_equal(ds["null_quantiles"][0], ds["null_quantiles"][1])
    for name in ("p_npr", "p_entropy", "p_leading", "ov_p_npr"):
        assert ds[name].values[1].min() > 0.004
    assert ds["p_npr"].values[0, 1, 0] < 0.01


def test_densities_and_laws(run: Callable[..., xr.Dataset]) -> None:
    ds = run("gpt2", "llama")
    width = np.diff(ds["bin_edges"])
    for which in ("qk", "ov"):
        total = (ds[f"{which}_density"] * width).sum("bin", skipna=False)
        np.testing.assert_allclose(total.isel(model=1, layer=slice(2)), 1)
        zeros = ds[f"{which}_density"].isel(model=0, bin=0) * width[0]
        np.testing.assert_allclose(zeros.isel(head=slice(4)), 24 / 32)
    for m in range(2):
        area = np.trapezoid(ds["law_density"][m], ds["law_x"][m])
        assert area == pytest.approx(1, rel=1e-3)
        assert ds["law_edges"][m, 0] < ds["naive_edges"][m, 0] < ds["naive_edges"][m, 1] < ds["law_edges"][m, 1]


def test_notes_say_what_a_reader_must_know(run: Callable[..., xr.Dataset]) -> None:
    def notes(*names: str, **params: Any) -> str:
        return " ".join(json.loads(run(*names, **params).attrs["notes"]))

    assert "normalised after projection" in notes("qwen3")
    assert "normalised after projection" not in notes("llama")
    assert "nothing was folded" in notes("olmo2", fold_norm=True)
    assert "not rotary" in notes("gpt2", "llama", offset=3)
    assert "479" in notes("gpt2")  # 12 heads: 2/(1 + 479) = 0.05/12
    assert "null draws" not in notes("gpt2", null_draws=2000)


def test_olmo2_is_the_same_folded_or_not(run: Callable[..., xr.Dataset]) -> None:
    xr.testing.assert_equal(run("olmo2", fold_norm=True)["qk_eigenvalues"], run("olmo2")["qk_eigenvalues"])


def test_offset_without_rotary_is_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="rotary"):
        Job(request((ModelSpec(source=str(folders["gpt2"])),), offset=1))


def test_unsupported_architecture_is_refused(folders: dict[str, Path]) -> None:
    job = Job(request((ModelSpec(source=str(folders["gpt2"])),)))
    strange = job.infos[0].model_copy(update={"lacks": {"heads": "MambaForCausalLM has no heads."}})
    with pytest.raises(UserError, match="MambaForCausalLM"):
        require_able(job.analysis, strange)


def test_plan(folders: dict[str, Path]) -> None:
    job = Job(request((ModelSpec(source=str(folders["gpt2"])),), null_draws=123_456))
    assert job.plan[0].layer == 0
    assert job.plan[1].layer is None
    assert len({unit.key for unit in job.plan}) == len(job.plan)
    assert all(set(unit.key) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for unit in job.plan)
    wide = job.infos[0].model_copy(update={"d_head": 128, "d_model": 4096})
    for info in (job.infos[0], wide):
        assert sum(null_chunks(job.params, info.d_head)) == 123_456
        assert min(null_chunks(job.params, info.d_head)) > 0
    folded = WeightsParams(fold_norm=True)
    assert folded_draws(folded, job.infos[0].d_head, job.infos[0].d_model) == folded.null_draws
    assert folded_draws(folded, wide.d_head, wide.d_model) == 200
    small, large = (job.analysis.estimate_bytes(job.request, job.params, info) for info in (job.infos[0], wide))
    assert small < large
