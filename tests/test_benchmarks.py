"""The benchmarks run at a tiny size, and they notice numbers that do not agree. No times are asserted."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from benchmarks import BENCHMARKS, false_rates, harness, jacobian_mean, jacobian_study, jacobian_top
from benchmarks import gradients as gradients_benchmark
from benchmarks import weights as weights_benchmark
from benchmarks.__main__ import main
from engine.request import DataSpec
from engine.spectra import factored

torch.set_num_threads(1)
TINY = {"layers": 2, "heads": 3, "d": 32, "d_head": 8, "repeats": 1, "exact_heads": 3}
TINY_LLAMA = {"layers": 2, "heads": 4, "kv_heads": 2, "d": 32, "d_head": 8, "null_draws": 50}


def test_every_name_leads_to_a_function() -> None:
    for target in BENCHMARKS.values():
        module, function = target.split(":")
        assert callable(getattr(__import__(module, fromlist=[function]), function))


def test_false_rates_are_counted_for_every_case() -> None:
    result = false_rates.false_rates(draws=12)
    assert set(false_rates.CASES) < set(result.facts)
    assert all("power" in str(result.facts[name]) for name in false_rates.CASES)
    assert result.demands


def test_weights_agrees() -> None:
    result = weights_benchmark.weights(**TINY)
    assert result.agreement is not None
    assert result.agreement < 1e-5
    assert result.demands["agrees to 1e-5 relative"]
    assert result.ratio == result.reference / result.ours


def test_weights_notices_wrong_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    right = factored.singular_values
    monkeypatch.setattr(factored, "singular_values", lambda a, b: right(a, b) * (1 + 1e-4))
    result = weights_benchmark.weights(**TINY)
    assert result.agreement == pytest.approx(2e-4, rel=0.05)
    assert not result.demands["agrees to 1e-5 relative"]


def test_weights_llama_runs_the_analysis_and_agrees() -> None:
    result = weights_benchmark.weights_llama(**TINY_LLAMA)
    assert result.agreement < 1e-9
    assert result.facts["peak resident memory of the process, MB"] > 1


def test_jacobian_mean_agrees_and_notices_wrong_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = {"d": 16, "heads": 2, "f": 32, "samples": 6, "looped": 2, "repeats": 1}
    result = jacobian_mean.jacobian_mean(**tiny)
    assert result.agreement < 1e-5
    assert result.demands["agrees to 1e-5 relative"]
    right = jacobian_mean.mean_jacobian
    monkeypatch.setattr(jacobian_mean, "mean_jacobian", lambda *args: right(*args) * (1 + 1e-4))
    result = jacobian_mean.jacobian_mean(**tiny)
    assert result.agreement == pytest.approx(1e-4, rel=0.05)


def test_jacobian_top_agrees_and_notices_wrong_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = {"d": 16, "heads": 2, "f": 32, "samples": 5, "tokens": 4, "batched": 3, "looped": 2}
    result = jacobian_top.jacobian_top(**tiny)
    assert result.agreement < 1e-4
    assert result.demands["agrees to 1e-4 relative"]
    right = jacobian_top.sample_statistics
    monkeypatch.setattr(jacobian_top, "sample_statistics", lambda *args: {k: v * 1.01 for k, v in right(*args).items()})
    assert jacobian_top.jacobian_top(**tiny).agreement == pytest.approx(0.01, rel=0.05)


def test_gradients_agree_and_wrong_numbers_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = {"d": 16, "layers": 2, "heads": 2, "vocabulary": 40, "sequences": 70, "length": 7}
    result = gradients_benchmark.gradients(**tiny)
    assert result.agreement < 1e-4
    assert result.demands["singular values agree to 0.0001 relative above the floor"]
    right = gradients_benchmark.Collected.singular_values
    monkeypatch.setattr(gradients_benchmark.Collected, "singular_values", lambda *args: right(*args) * (1 + 1e-3))
    assert gradients_benchmark.gradients(**tiny).agreement == pytest.approx(1e-3, rel=0.05)


def test_jacobian_study_agrees_and_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = {"layers": 2, "d": 16, "heads": 2, "samples": 8, "length": 12, "looped": 2}
    tiny |= {"fewer": (2, 4), "widths": (8, 16), "folder": tmp_path}

    def ragged(spec: DataSpec, tokenizer: object, seed: int) -> np.ndarray:
        # Splitting the whole text into sentences takes seconds, and has tests of its own.
        ids = np.random.default_rng(seed).integers(4, 50, (spec.samples, spec.length))
        return np.where(np.arange(spec.length) < 4 + np.arange(spec.samples)[:, None], ids, -1)

    monkeypatch.setattr(jacobian_study, "sentences", ragged)
    result = jacobian_study.jacobian_study(**tiny)
    assert result.agreement < 1e-4
    assert all(result.demands.values())
    assert result.ratio == result.reference / result.ours
    assert result.facts["samples whose J is singular (κ = ∞), as a LayerNorm makes it"] == "100%"
    assert (tmp_path / "jacobian_study.png").stat().st_size > 1000
    right = jacobian_study.sample_statistics
    monkeypatch.setattr(
        jacobian_study, "sample_statistics", lambda *args: {k: v * 1.01 for k, v in right(*args).items()}
    )
    assert jacobian_study.jacobian_study(**tiny).agreement == pytest.approx(0.01, rel=0.05)


def test_largest_difference_looks_only_where_it_should() -> None:
    ours, reference = np.array([1.0, 2.0, 5.0]), np.array([1.0, 2.2, 1.0])
    assert harness.largest_difference(ours, reference, np.array([True, True, False])) == pytest.approx(0.2 / 2.2)
    assert np.isnan(harness.largest_difference(np.array([np.nan]), np.array([1.0]), np.array([True])))


def test_seconds_is_a_median_after_a_warm_up() -> None:
    calls = []
    harness.seconds(lambda: calls.append(1), repeats=3)
    assert len(calls) == 4


@pytest.mark.parametrize(("met", "code"), [(True, 0), (False, 1)])
def test_command_line(monkeypatch: pytest.MonkeyPatch, met: bool, code: int) -> None:
    import typer

    result = harness.Result("weights", 2.0, 100.0, 1e-9, {"is fast": met}, {"threads": 2})
    monkeypatch.setattr(harness, "run", lambda name: result)
    app = typer.Typer()
    app.command()(main)
    said = CliRunner().invoke(app, ["weights", "--json"])
    assert said.exit_code == code
    assert json.loads(said.stdout)[0]["ratio"] == 50
    text = CliRunner().invoke(app, ["weights"]).stdout
    assert all(word in text for word in ("ours", "reference", "50.0×", "1e-09", "met" if met else "MISSED"))
    assert CliRunner().invoke(app, ["wieghts"]).exit_code == 2
