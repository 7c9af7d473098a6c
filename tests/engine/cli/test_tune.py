"""The command that fine-tunes: ordinary folders, losses before and after, Ctrl-C, and conditions of a run."""

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from opening_models import pristine
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from engine.cli import main
from engine.cli.options import build_request, build_tuning
from engine.errors import UserError
from engine.models.opening import describe
from engine.request import ModelSpec, Tuning, conditions
from engine.training.windows import Windows


@pytest.fixture
def text(tmp_path: Path) -> str:
    words = np.random.default_rng(0).choice(["the", "cat", "sat", "on", "a", "mat"], size=360)
    (tmp_path / "text.txt").write_text("\n".join(" ".join(line) for line in words.reshape(-1, 6)))
    return str(tmp_path / "text.txt")


def tune(text: str, out: Path, *more: str) -> int:
    options = ["--epochs", "2", "--learning-rate", "0.01", "--batch", "4", "--length", "16", "--device", "cpu"]
    return main(["tune", "--model", str(pristine()), "--data", text, *options, "--out", str(out), *more])


def test_ctrl_c_and_the_same_command_end_in_the_same_model(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    assert tune(text, tmp_path / "whole", "--history") == 0
    out = capsys.readouterr().out
    record = json.loads((tmp_path / "whole" / "training.json").read_text())
    losses = [checkpoint["held_out_loss"] for checkpoint in record["checkpoints"]]
    assert f"before  loss {losses[0]:.4f}, perplexity {np.exp(losses[0]):.2f}" in out
    assert f"after   loss {losses[-1]:.4f}" in out
    assert losses[-1] < losses[0]
    names = [checkpoint["name"] for checkpoint in record["checkpoints"]]
    assert len(names) == 3
    assert names[0] == "step0"
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "whole" / names[-1]).num_parameters() > 0
    facts = describe(ModelSpec(source=str(tmp_path / "whole")))
    assert (facts.revision, facts.held_out_loss) == (names[-1], losses[-1])

    cut = Windows.batch

    def interrupted(self: Windows, step: int, size: int, seed: int) -> np.ndarray:
        if step == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return cut(self, step, size, seed)

    monkeypatch.setattr(Windows, "batch", interrupted)
    assert tune(text, tmp_path / "parts", "--history") == 130
    assert "goes on from the last saved state" in capsys.readouterr().err
    monkeypatch.undo()
    assert tune(text, tmp_path / "parts", "--history") == 0
    ours, theirs = (load_file(tmp_path / run / names[-1] / "model.safetensors") for run in ("parts", "whole"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_what_cannot_be_tuned_is_a_sentence(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tune(text, tmp_path / "x", "--epochs", "0") == 2
    assert "“epochs” of fine-tuning cannot be used" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(UserError, match="which is 32"):
        tune(text, tmp_path / "x", "--length", "64")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="could not be written"):
        tune(text, tmp_path / "file" / "x")


def test_conditions_and_seeds_of_a_run() -> None:
    tuning = build_tuning(False, ["epochs=1", "batch=8"])
    assert tuning == Tuning(epochs=1, batch=8)
    assert build_tuning(False, []) is None
    assert build_tuning(True, []) == Tuning()
    with pytest.raises(UserError, match="did you mean “epochs”"):
        build_tuning(True, ["epoch=1"])
    with pytest.raises(UserError, match="--tuning takes name=value"):
        build_tuning(True, ["epochs"])

    def labels(analysis: str, seeds: int, data: str | None = None) -> list[str]:
        request = build_request(analysis, ["builtin"], [], True, data, None, [], "cpu", 0, tuning, seeds)
        assert request.data is not None
        return [spec.label for spec in request.models]

    three = ["builtin", "builtin (fine-tuned)", "builtin (random twin)"]
    assert labels("jacobians", 1) == three
    assert labels("jacobians", 2) == [f"{name}, seed {seed}" for name in three for seed in (0, 1)]
    assert labels("weights", 2, "builtin") == [
        "builtin",
        *(f"{name}, seed {seed}" for name in three[1:] for seed in (0, 1)),
    ]
    with pytest.raises(UserError, match="reads no text"):
        build_request("weights", ["builtin"], [], True, "builtin", None, [], "cpu", 0)
    steps = [ModelSpec(revision=f"step{n}") for n in (0, 32)]
    assert [spec.label for spec in conditions(steps, twin=True)] == [
        "builtin@step0",
        "builtin@step32",
        "builtin@step32 (random twin)",
    ]


@pytest.mark.parametrize("tokenizer", ["with", "without"])
def test_rows_of_ids_are_a_text_too(tokenizer: str, tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(3, 60, (60, 20))
    ids[::2, 11:] = -1
    np.save(tmp_path / "ids.npy", ids)
    model = tmp_path / "model"
    shutil.copytree(pristine(), model)
    if tokenizer == "without":
        for file in model.glob("*token*"):
            file.unlink()
    out = tmp_path / "out"
    options = ["--epochs", "1", "--batch", "8", "--length", "16", "--device", "cpu", "--out", str(out)]
    assert main(["tune", "--model", str(model), "--data", str(tmp_path / "ids.npy"), *options]) == 0
    record = json.loads((out / "training.json").read_text())
    assert record["train_tokens"] + record["held_out_tokens"] == (ids >= 0).sum()
    assert bool(list(out.glob("step*/tokenizer*"))) == (tokenizer == "with")
