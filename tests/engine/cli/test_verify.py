"""`verify --model`: the table, the JSON, and the exit codes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from opening_models import pristine

import main
from engine.jacobians import verify as verify_module
from engine.jacobians.verify import verify
from engine.models.opening import OpenModel, open_model
from engine.request import ModelSpec

torch.set_num_threads(1)

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def ids(tmp_path: Path) -> Path:
    """Two samples of token ids, longer than a verification reads."""
    np.save(tmp_path / "ids.npy", np.random.default_rng(1).integers(1, 50, (2, 40)))
    return tmp_path / "ids.npy"


def call(*words: object) -> int:
    return main.main(["verify", *map(str, words), "--device", "cpu"])


def test_json_holds_the_errors_of_every_component_layer_and_context(ids: Path, capsys: Capture) -> None:
    assert call("--model", pristine(), "--data", ids, "--samples", 2, "--json") == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert (told["passed"], told["dtype"], told["layers"]) == (True, "float64", [0, 1, 2])
    read = np.load(ids)[:, :32]
    for context in ("in_context", "isolated"):
        report = verify(open_model(ModelSpec(source=str(pristine()))), read, context=context)
        np.testing.assert_array_equal(told["errors"][context], report.errors.amax(2).T)
        assert f"{context}, layer 2" in err


def test_a_table_and_one_sentence(capsys: Capture) -> None:
    assert call("--model", pristine()) == 0  # on the built-in text
    out = capsys.readouterr().out
    assert out.splitlines()[0].split() == ["context", "layer", "attn", "mlp", "block", "residual"]
    assert out.count("in_context") == out.count("isolated") == 3
    assert "agree to" in out
    assert out.endswith("over 3 layers, both contexts.\n")


def test_a_wrong_closed_form_exits_with_1(ids: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    original = OpenModel.block

    def wrong(self: OpenModel, layer: int, parts: Any = "heads") -> Any:
        block = original(self, layer, parts)
        assert block.attention is not None
        return replace(block, attention=replace(block.attention, scale=1.01 * block.attention.scale))

    monkeypatch.setattr(OpenModel, "block", wrong)
    assert call("--model", pristine(), "--data", ids) == 1
    out, err = capsys.readouterr()
    assert "in_context" in out
    assert "eigenscope: Closed forms and automatic differentiation differ by" in err.splitlines()[-1]


def test_a_closed_form_that_is_not_finite_is_no_agreement(
    ids: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Undefined:
        def dense(self) -> torch.Tensor:
            return torch.full((1, 24, 24), torch.nan, dtype=torch.float64)

    monkeypatch.setattr(
        verify_module, "component_operators", lambda *_: dict.fromkeys(verify_module.COMPONENTS, Undefined())
    )
    assert call("--model", pristine(), "--data", ids) == 1
    assert "differ by inf" in capsys.readouterr().err


def test_an_architecture_without_closed_forms_is_one_sentence(ids: Path, tmp_path: Path, capsys: Capture) -> None:
    torch.manual_seed(0)
    config = hf.MambaConfig(hidden_size=24, num_hidden_layers=1, state_size=4, vocab_size=50)
    hf.MambaForCausalLM(config).save_pretrained(tmp_path / "mamba")
    capsys.readouterr()
    assert call("--model", tmp_path / "mamba", "--data", ids) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "nothing to verify." in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("words", [(), (".", "--model", "builtin")])
def test_both_or_neither_is_a_usage_error(words: tuple[str, ...], capsys: Capture) -> None:
    assert call(*words) == 2
    assert "either NAME.eigenscope or --model MODEL" in capsys.readouterr().err
