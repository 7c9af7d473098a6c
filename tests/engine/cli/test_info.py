"""What the command line says of a model, and of what opens."""

import json

import pytest
from unadapted_models import saved

import main
from engine.analyses.registry import ANALYSES
from engine.resources import RESOURCES


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main.main(["info", *words]) == 0
    return capsys.readouterr().out


def test_a_model_is_described_with_what_it_can_have(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, str(saved("bert-ner")))
    assert "BertForTokenClassification\n2 layers × 2 heads, d = 16, d_h = 8" in text
    assert "Can do: weights, jacobians, activations, attention, communities." in text
    assert "Cannot do gradients: BertForTokenClassification has no language-model head" in text


def test_the_same_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(said(capsys, str(saved("bert-ner")), "--json"))
    assert told["causal"] is False
    assert set(told["abilities"]) == set(ANALYSES)
    assert told["abilities"]["weights"] == {"can": True, "because": ""}
    assert told["abilities"]["gradients"] == {"can": False, "because": told["lacks"]["loss"]}


def test_without_a_model_it_says_what_opens(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys) == (RESOURCES / "help" / "opens.md").read_text("utf-8")
