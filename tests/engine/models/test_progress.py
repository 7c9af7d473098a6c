"""Training step and held-out loss of a checkpoint, from records and from names."""

import json
from pathlib import Path

import pytest
from opening_models import copy, pristine

from engine.models.opening import describe
from engine.models.progress import named_step, trained
from engine.models.source import Source
from engine.request import ModelSpec, Tuning


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("step0", 0), ("step143000", 143_000), ("checkpoint-500", 500), ("stage1-step1000-tokens5B", 1000),
        ("global_step_20", 20), ("ckpt_7", 7), ("iter-12", 12), ("main", None), ("v1.0", None), ("stepping", None),
    ],
)  # fmt: skip
def test_steps_in_names(name: str, step: int | None) -> None:
    assert named_step(name) == step


def test_the_built_in_checkpoints_know_their_step_and_loss() -> None:
    info = describe(ModelSpec(source="builtin", revision="step256"))
    assert info.step == 256
    assert info.held_out_loss == pytest.approx(5.918, abs=1e-3)
    twin = describe(ModelSpec(source="builtin", revision="step256", twin=True))
    tuned = describe(ModelSpec(source="builtin", revision="step256", tuning=Tuning()))
    assert (twin.step, twin.held_out_loss, tuned.step) == (None, None, None)


def test_the_librarys_trainer_says_both(tmp_path: Path) -> None:
    folder = copy(pristine(), tmp_path / "anything")
    log = [{"eval_loss": 4.0, "step": 10}, {"loss": 3.9, "step": 20}, {"eval_loss": 3.5, "step": 20}]
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": 20, "log_history": log}))
    info = describe(ModelSpec(source=str(folder)))
    assert (info.step, info.held_out_loss) == (20, 3.5)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"global_step": null, "log_history": 3}', '{"global_step": 4}'])
def test_a_record_that_cannot_be_understood_leaves_the_name(tmp_path: Path, content: str) -> None:
    folder = tmp_path / "checkpoint-30"
    folder.mkdir()
    (folder / "trainer_state.json").write_text(content)
    assert trained(Source(folder, None), None) == (30, None)


def test_a_loss_that_is_not_finite_is_none(tmp_path: Path) -> None:
    (tmp_path / "training.json").write_text('{"checkpoints": [{"name": "a", "step": 3, "held_out_loss": NaN}]}')
    assert trained(Source(tmp_path / "a", "a"), "a") == (3, None)
