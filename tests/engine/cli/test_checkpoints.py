"""`--revision all`, and a run from the command line of which one checkpoint is not there."""

import json
from pathlib import Path

import pytest
from runs_helpers import make_model
from typer.testing import CliRunner

from engine.cli.commands import app
from engine.cli.options import build_request
from engine.errors import UserError
from engine.models import source
from engine.request import Request


def request(model: str, *revisions: str, twin: bool = False) -> Request:
    return build_request("weights", [model], revisions, twin, None, None, ["null_draws=200"], "cpu", 0)


@pytest.mark.parametrize("word", ["all", "*"])
def test_all_are_the_built_in_checkpoints_in_the_order_of_training(word: str) -> None:
    models = request("builtin", word, twin=True).models
    assert [spec.revision for spec in models[:-1]] == ["step0", *(f"step{2**k}" for k in range(5, 12))]
    assert models[-1].twin
    assert models[-1].revision == "step2048"


def test_all_are_the_subfolders_of_a_folder(tmp_path: Path) -> None:
    for step in (9, 10, 100):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "config.json").write_text('{"model_type": "gpt2"}')
        (tmp_path / f"checkpoint-{step}" / "model.safetensors").touch()
    found = [spec.revision for spec in request(str(tmp_path), "all").models]
    assert found == ["checkpoint-9", "checkpoint-10", "checkpoint-100"]


def test_all_of_a_hub_model_are_the_revisions_that_name_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("main", "step2", "step10", "step1", "v1")
    monkeypatch.setattr(source, "references", lambda _: names)
    found = [spec.revision for spec in request("EleutherAI/pythia-14m", "all").models]
    assert found == ["step1", "step2", "step10"]


def test_a_folder_without_checkpoints_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no checkpoints to take all of"):
        request(str(tmp_path), "all")


def test_a_checkpoint_that_is_not_there_ends_in_one_clear_line(tmp_path: Path) -> None:
    make_model(tmp_path / "training" / "checkpoint-7")
    out = tmp_path / "s.eigenscope"
    words = ["run", "weights", "--model", str(tmp_path / "training"), "--device", "cpu", "--set", "null_draws=200"]
    words += ["--revision", "checkpoint-7", "--revision", "checkpoint-8", "--out", str(out), "--json"]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, UserError)
    assert "training@checkpoint-8 was left out" in done.exception.message
    printed = json.loads(done.stdout)
    assert printed["models"] == ["training@checkpoint-7"]
    assert "checkpoint-8" in printed["notes"][-1]
