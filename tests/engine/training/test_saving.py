"""What training writes and reads below a session goes through no link, waits for nothing, and is whole or not there."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from session_examples import Killed, disk_full, failing_at
from tokenizers import Tokenizer, models
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from engine.errors import UserError
from engine.sessions.files import writing
from engine.sessions.rooted import Root
from engine.sessions.store import Session
from engine.training.saving import RECORD, STATE, resume, save_checkpoint, save_state
from engine.training.spec import TrainingRecord, TrainingSpec

RECORDED = TrainingRecord(
    spec=TrainingSpec(steps=3),
    text_hash="aa",
    train_tokens=1,
    held_out_tokens=1,
    unigram_entropy=0.5,
    steps=3,
    environment="",
    step=2,
)
FRESH = RECORDED.model_copy(update={"step": 0})
Parts = tuple[GPT2LMHeadModel, torch.optim.Optimizer, PreTrainedTokenizerFast]


@pytest.fixture(scope="module")
def parts() -> Parts:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=4, n_positions=4))
    words = Tokenizer(models.WordLevel({"a": 0, "b": 1, "[UNK]": 2}, unk_token="[UNK]"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]")
    return model, torch.optim.AdamW(model.parameters()), tokenizer


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with Session.create(tmp_path / "a.eigenscope") as session:
        yield session


def save(out: Path, root: Root | None, parts: Parts) -> None:
    model, optimizer, tokenizer = parts
    with writing(out):
        save_checkpoint(out / "step2", model, tokenizer, "float32", root)
        save_state(out, RECORDED, model, optimizer, root)


def loaded(out: Path, root: Root | None, parts: Parts) -> TrainingRecord:
    model, optimizer, _ = parts
    with writing(out):
        return resume(out, FRESH, model, optimizer, root)


@pytest.mark.parametrize("own", [False, True])
def test_what_is_saved_is_loaded(own: bool, session: Session, parts: Parts, tmp_path: Path) -> None:
    out, root = (tmp_path / "mine" / "deeper", None) if own else (session.path / "models" / "k.part", session.root)
    assert loaded(out, root, parts) == FRESH
    for _ in range(2):  # a second time over what is there
        save(out, root, parts)
        assert loaded(out, root, parts) == RECORDED
    assert sorted(path.name for path in out.iterdir()) == [STATE, "step2", RECORD]
    weights = load_file(out / "step2" / "model.safetensors")
    assert torch.equal(weights["transformer.wte.weight"], parts[0].transformer.wte.weight)
    assert json.loads((out / "step2" / "config.json").read_text())["dtype"] == "float32"
    assert oct((out / "step2" / "model.safetensors").stat().st_mode)[-3:] == "644"


def outside_of(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    for name in ("file", "folder/inside"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("mine")
    return folder


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("models/k.part/state.pt.part", "file"),
        ("models/k.part/state.pt", "file"),
        ("models/k.part/training.json.part", "file"),
        ("models/k.part/training.json", "file"),
        ("models/k.part/step2.part", "folder"),
        ("models/k.part/step2", "folder"),
        ("models/k.part", "folder"),
        ("models", "folder"),
    ],
)
def test_no_link_leads_out(name: str, target: str, session: Session, parts: Parts, tmp_path: Path) -> None:
    outside = outside_of(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in outside.rglob("*")}
    link = session.path / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside / target)
    out = session.path / "models" / "k.part"
    for act in (save, loaded):
        with suppress(UserError):
            act(out, session.root, parts)
    assert {path: path.stat().st_mtime_ns for path in outside.rglob("*")} == before
    assert (outside / "file").read_text() == (outside / "folder" / "inside").read_text() == "mine"


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


SPOILT: dict[str, Callable[[Path], object]] = {
    "pipe": make_pipe,
    "folder": lambda path: path.mkdir(),
    "empty": lambda path: path.write_bytes(b""),
    "noise": lambda path: path.write_bytes(os.urandom(1000)),
    "other": lambda path: torch.save({"record": 3}, path),
    "code": lambda path: path.write_bytes(b"cos\nsystem\n(S'echo no'\ntR."),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_state_that_somebody_made_up_is_a_sentence(how: str, session: Session, parts: Parts) -> None:
    if how == "pipe" and sys.platform == "win32":
        pytest.skip("no pipes in folders there")
    out = session.path / "models" / "k.part"
    out.mkdir(parents=True)
    SPOILT[how](out / STATE)
    with pytest.raises(UserError, match=r"cannot be read|could not be written") as refused:
        loaded(out, session.root, parts)
    assert "\n" not in refused.value.message


def test_a_session_that_is_gone_is_not_made_again(session: Session, parts: Parts) -> None:
    root = session.root
    shutil.rmtree(session.path)
    with pytest.raises(UserError, match="deleted, moved or renamed"):
        save(session.path / "models" / "k.part", root, parts)
    assert not session.path.exists()


def test_a_full_disk_below_the_library_of_weights_is_a_sentence(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(parts[0], "save_pretrained", full)
    with pytest.raises(UserError, match="The disk is full"):
        save(tmp_path / "out", None, parts)


@pytest.mark.parametrize("failure", [Killed, disk_full])
def test_a_save_that_ends_at_any_step_leaves_the_old_state_or_the_new(
    failure: Callable[[], BaseException], parts: Parts, tmp_path: Path
) -> None:
    out, seen = tmp_path / "out", list[int]()
    save(out, None, parts)
    with pytest.MonkeyPatch.context() as patch:
        failing_at(patch, -1, disk_full, seen)
        save(out, None, parts)
    for step in range(0, len(seen), 3):
        with pytest.MonkeyPatch.context() as patch:
            failing_at(patch, step, failure)
            with pytest.raises((UserError, Killed)):
                save(out, None, parts)
        assert loaded(out, None, parts) == RECORDED
    save(out, None, parts)
    assert load_file(out / "step2" / "model.safetensors")
