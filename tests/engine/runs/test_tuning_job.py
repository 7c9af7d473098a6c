"""Fine-tuning in the compute process: it outlives the cancel of a run that waits for it, and its own end is told."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from opening_models import pristine

from engine.events import Stopped
from engine.request import DataSpec, ModelSpec, Request, Tuning
from engine.runs.child import CANCEL_SECONDS, Child, Reply
from engine.runs.tuning_job import Tune, Tuned, TuneProgress
from engine.sessions.store import Session

PATIENCE = 90.0


@pytest.fixture
def child() -> Iterator[Child]:
    child = Child()
    child.start()
    yield child
    child.close()


def until(child: Child, found: Callable[[Reply], bool]) -> Reply:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        reply = child.poll(0.1)
        if reply is not None and found(reply):
            return reply
    raise AssertionError("it never came")


def test_a_fine_tuning_ends_only_when_it_is_told_to(child: Child, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("the cat sat on the mat\n" * 200)
    spec = ModelSpec(source=str(pristine()), tuning=Tuning(epochs=1000, batch=2, length=16))
    data = DataSpec(source=str(tmp_path / "text.txt"))
    child.tune(Tune(spec, data, "cpu", 0, tmp_path / "tuned"))
    until(child, lambda reply: isinstance(reply, TuneProgress) and reply.step > 3)
    with Session.create(tmp_path / "s.eigenscope") as session:
        models = (ModelSpec(source=str(pristine())),)
        child.submit(session.path, Request(analysis="weights", params={"null_draws": 200}, models=models, device="cpu"))
        child.cancel()
        began = time.monotonic()
        late = until(child, lambda _: time.monotonic() > began + CANCEL_SECONDS + 1)
        assert isinstance(late, TuneProgress)
        child.cancel_tuning()
        end = until(child, lambda reply: isinstance(reply, Tuned))
        assert isinstance(end, Tuned)
        assert end.checkpoints == ()
        assert "was stopped" in end.text
        assert isinstance(until(child, lambda reply: isinstance(reply, Stopped)), Stopped)
    child.tune(Tune(spec, data, "cpu", 0, tmp_path / "tuned"))
    again = until(child, lambda reply: isinstance(reply, TuneProgress))
    assert isinstance(again, TuneProgress)
    assert again.step > 3
    child.kill()
    end = until(child, lambda reply: isinstance(reply, Tuned))
    assert isinstance(end, Tuned)
    assert "can be resumed" in end.text
    unread = Tune(spec, DataSpec(source=str(tmp_path / "none.txt")), "cpu", 0, tmp_path / "other")
    child.tune(unread)
    end = until(child, lambda reply: isinstance(reply, Tuned))
    assert isinstance(end, Tuned)
    assert "There is no file" in end.text
