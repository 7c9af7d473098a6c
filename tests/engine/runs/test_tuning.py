"""Fine-tuning inside a run: made once for a session, on the training part, the same after a cancel or a kill."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import runs_helpers
import torch
import xarray as xr
from opening_models import pristine
from safetensors.torch import load_file

from engine import events
from engine.analyses import registry
from engine.errors import UserError
from engine.models.memory import require
from engine.models.opening import describe, open_model
from engine.request import DataSpec, ModelSpec, Request, Tuning
from engine.runs.loop import execute, start
from engine.sessions.archive import pack, unpack
from engine.sessions.store import Run, Session
from engine.sessions.verify import verify
from engine.training import job, tuning

TUNING = Tuning(epochs=1, learning_rate=1e-2, batch=4, length=16)


@pytest.fixture(autouse=True)
def steps(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setitem(registry.ANALYSES, "steps", runs_helpers.STEPS)
    monkeypatch.setattr("runs_helpers.LAYERS", 3)


@pytest.fixture
def text(tmp_path: Path) -> DataSpec:
    words = np.random.default_rng(0).choice(["the", "cat", "sat", "on", "a", "mat"], size=360)
    (tmp_path / "text.txt").write_text("\n".join(" ".join(line) for line in words.reshape(-1, 6)))
    return DataSpec(source=str(tmp_path / "text.txt"))


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with Session.create(tmp_path / "s.eigenscope") as session:
        yield session


def request_for(text: DataSpec, *specs: ModelSpec) -> Request:
    return Request(analysis="steps", models=specs, data=text)


def tuned(seed: int | None = None) -> ModelSpec:
    return ModelSpec(source=str(pristine()), tuning=TUNING, seed=seed)


def carry_through(run: Run, cancelled: Callable[[], bool] = lambda: False) -> list[events.Event]:
    seen: list[events.Event] = []
    execute(run.session, run, seen.append, cancelled)
    return seen


def result_of(run: Run) -> xr.Dataset:
    assert isinstance(carry_through(run)[-1], events.Finished)
    result = run.result()
    assert result is not None
    return result


def doings(seen: list[events.Event]) -> list[str]:
    return [event.doing for event in seen if isinstance(event, events.Progress)]


def test_each_seed_is_tuned_once_and_measured(
    session: Session, text: DataSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.runs.tuning.TELL_SECONDS", 0.0)
    base = ModelSpec(source=str(pristine()))
    run = start(session, request_for(text, base, tuned(0), tuned(1)))
    seen = carry_through(run)
    assert isinstance(seen[-1], events.Finished)
    assert any("fine-tuning step 2/" in doing and "loss" in doing for doing in doings(seen))
    result = run.result()
    singular = result.singular.values
    assert not np.allclose(singular[0], singular[1], rtol=1e-3)
    assert not np.allclose(singular[1], singular[2], rtol=1e-3)
    folders = sorted((session.path / "models").iterdir())
    assert len(folders) == 2
    record = json.loads(result.attrs["tuned"])
    assert set(record) == {folder.name for folder in folders}
    for folder in folders:
        made = record[folder.name]["record"]
        before, after = made["checkpoints"]
        assert after["held_out_loss"] < before["held_out_loss"]
        assert made["train_loss"]
        # The ordinary folder that anybody can open has the spectra of the result.
        opened = open_model(ModelSpec(source=str(folder)))
        own = np.stack([torch.linalg.svdvals(opened.block(i).heads.w_q.double()).numpy() for i in range(3)])
        assert any(np.array_equal(own, singular[m]) for m in (1, 2))

    again = carry_through(start(session, request_for(text, tuned(1))))
    assert not any("fine-tuning" in doing for doing in doings(again))
    assert len(list((session.path / "models").iterdir())) == 2


def test_tuned_models_are_verified_packed_and_copied(session: Session, text: DataSpec, tmp_path: Path) -> None:
    result_of(start(session, request_for(text, tuned())))
    assert verify(session.path).problems == ()
    pack(session.path, tmp_path / "s.zip")
    unpack(tmp_path / "s.zip", tmp_path / "t.eigenscope")
    weights = next((session.path / "models").rglob("*.safetensors"))
    for other in (tmp_path / "t.eigenscope", session.save_as(tmp_path / "u.eigenscope")):
        if isinstance(other, Session):
            with other:
                other = other.path
        assert (other / weights.relative_to(session.path)).read_bytes() == weights.read_bytes()
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert "models/" in verify(session.path).problems[0]
    # A damaged one is set aside and made again, the same.
    result_of(start(session, request_for(text, tuned())))
    data[-1] ^= 1
    assert weights.read_bytes() == bytes(data)
    assert verify(session.path).problems == ()


class Killed(BaseException):
    """Stands for a kill: nothing handles it."""


@pytest.mark.parametrize("how", ["cancelled", "killed", "killed at the end"])
def test_what_was_interrupted_ends_the_same(
    how: str, session: Session, text: DataSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Session.create(tmp_path / "whole.eigenscope") as other:
        whole = result_of(start(other, request_for(text, tuned(3))))
        weights = load_file(next((other.path / "models").rglob("*.safetensors")))
    run = start(session, request_for(text, tuned(3)))
    saved: list[int] = []
    if how == "cancelled":
        calls = iter(range(100))
        assert isinstance(carry_through(run, lambda: next(calls) > 4)[-1], events.Stopped)
    else:
        save = job.save_state
        monkeypatch.setattr(job, "_SAVE_EVERY", 0.0)

        def save_and_die(out: Path, record, *rest) -> None:
            save(out, record, *rest)
            saved.append(record.step)
            if record.step == 4 and how == "killed":
                raise Killed

        def die(*_: object) -> None:
            raise Killed

        monkeypatch.setattr(job, "save_state", save_and_die)
        if how == "killed at the end":
            monkeypatch.setattr("engine.runs.tuning.commit_model", die)
        with pytest.raises(Killed):
            carry_through(run)
        monkeypatch.undo()
        monkeypatch.setitem(registry.ANALYSES, "steps", runs_helpers.STEPS)
        assert saved[-1] == 4 or how == "killed at the end"
    assert [folder.suffix for folder in (session.path / "models").iterdir()] == [".part"]
    result = result_of(run)
    xr.testing.assert_identical(result.drop_attrs(), whole.drop_attrs())
    again = load_file(next((session.path / "models").rglob("*.safetensors")))
    assert all(torch.equal(again[name], weights[name]) for name in weights)


def test_training_sees_the_training_part_only(text: DataSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, list[np.ndarray]] = {}

    def note(spec, model, tokenizer, documents, out, *rest, held, root):
        asked.update(train=documents, test=held)

    monkeypatch.setattr(tuning, "train", note)
    tuning.tune(tuned(), text, 0, "cpu", tmp_path)
    tokenizer = open_model(ModelSpec(source=str(pristine()))).tokenizer()
    whole = Path(text.source).read_text()
    train, test = (tokenizer.decode(asked[part][0], skip_special_tokens=True) for part in ("train", "test"))
    assert "".join((train + test).split()) == "".join(whole.split())
    assert len(test) / len(whole) == pytest.approx(0.05, abs=0.03)


def test_twins_and_tuned_models_have_their_own_seed(text: DataSpec) -> None:
    twin = ModelSpec(source=str(pristine()), twin=True)
    name = "transformer.h.0.attn.c_attn.weight"
    assert torch.equal(
        open_model(twin.model_copy(update={"seed": 7})).tensor(name), open_model(twin, seed=7).tensor(name)
    )
    assert not torch.equal(
        open_model(twin.model_copy(update={"seed": 8}), seed=7).tensor(name), open_model(twin, seed=7).tensor(name)
    )
    keys = {tuning.tuning_key(spec, text, 5) for spec in (tuned(), tuned(5), tuned(6))}
    assert len(keys) == 2
    assert describe(tuned()).identity == describe(ModelSpec(source=str(pristine()))).identity
    assert "(fine-tuned), seed 6" in describe(tuned(6)).label


def test_bad_input_is_told_before_anything_is_written(
    session: Session, text: DataSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(said: str, spec: ModelSpec, data: DataSpec = text) -> None:
        with pytest.raises(UserError, match=said):
            start(session, request_for(data, spec))
        assert not (session.path / "runs").exists()

    headless = tmp_path / "headless"
    open_model(ModelSpec(source=str(pristine()))).module().transformer.save_pretrained(headless)
    open_model(ModelSpec(source=str(pristine()))).tokenizer().save_pretrained(headless)
    refused("predicts neither next nor masked tokens", ModelSpec(source=str(headless), tuning=TUNING))
    refused("longer than .* can read, which is 32", ModelSpec(source=str(pristine()), tuning=Tuning(length=33)))

    def full(needed: int, device: str, what: str) -> None:
        assert needed > 16 * describe(ModelSpec(source=str(pristine()))).n_parameters
        require(1 << 60, device, what)

    monkeypatch.setattr(tuning, "require", full)
    refused("Fine-tuning .* needs", tuned())
    monkeypatch.undo()


def test_failures_of_training_are_sentences(session: Session, text: DataSpec, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("the cat")
    end = carry_through(start(session, request_for(DataSpec(source=str(tmp_path / "short.txt")), tuned())))[-1]
    assert isinstance(end, events.Failed)
    assert "too few for windows" in end.message
    wild = ModelSpec(source=str(pristine()), tuning=TUNING.model_copy(update={"learning_rate": 1e30}))
    end = carry_through(start(session, request_for(text, wild)))[-1]
    assert isinstance(end, events.Failed)
    assert "no longer finite" in end.message
    path = session.path
    session.close()
    with Session.open(path, readonly=True) as seen, pytest.raises(UserError, match="read-only"):
        start(seen, request_for(text, tuned()))
