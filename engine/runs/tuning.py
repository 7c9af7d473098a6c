"""Fine-tuned models of a run: each made once for its session, before the first unit that reads it."""

import time
from collections.abc import Callable
from pathlib import Path

from engine.models.opening import describe
from engine.request import DataSpec, ModelSpec
from engine.sessions.models import commit_model, committed_model, set_model_aside, unfinished_model
from engine.sessions.store import DamagedUnit, Run, Session
from engine.sessions.tree import MODELS
from engine.training.saving import RECORD, STATE
from engine.training.spec import TrainingProgress, TrainingRecord
from engine.training.tuning import text_hash, tune, tuning_key

TELL_SECONDS = 1.0


def fine_tuned(
    run: Run, spec: ModelSpec, device: str, tell: Callable[[str], None], cancelled: Callable[[], bool]
) -> Path:
    """The folder of the weights of a spec with `tuning`, which is made first if the session has none.

    Parameters
    ----------
    tell : callable
        Called now and then with what is being done.

    Raises
    ------
    Cancelled
        The next call goes on from there.
    UserError
        It cannot be fine-tuned.
    """
    data, seed = run.request.data or DataSpec(), run.request.seed
    tell("looking for the fine-tuned weights")
    key = tuning_key(spec, data, seed)
    try:
        if (folder := committed_model(run.session, key)) is not None:
            return folder
    except DamagedUnit:
        set_model_aside(run.session, key)
    part = unfinished_model(run.session, key)
    told = time.monotonic()

    def show(progress: TrainingProgress) -> None:
        nonlocal told
        if progress.step and time.monotonic() - told >= TELL_SECONDS:
            told = time.monotonic()
            tell(f"fine-tuning step {progress.step}/{progress.steps}, loss {progress.loss:.3g}")

    record = _finished(run.session, part.name)
    if record is None:
        tell("fine-tuning: reading the text")
        record = tune(spec, data, seed, device, part, show, cancelled, root=run.session.root)
    start = describe(spec)
    made_of = {"source": start.source, "revision": start.revision, "identity": start.identity}
    text = {"source": data.source, "blake2b": text_hash(data)}
    return commit_model(run.session, key, {"model": made_of, "text": text, "record": record.model_dump(mode="json")})


def _finished(session: Session, part: str) -> TrainingRecord | None:
    """The record of a training that was killed between its end and its commit; a damaged one is begun anew."""
    files = session.tree.files(f"{MODELS}/{part}")
    if RECORD not in files or STATE in files:
        return None
    try:
        return TrainingRecord.model_validate_json(session.tree.read(f"{MODELS}/{part}/{RECORD}"))
    except (OSError, ValueError):
        with session.root.folder(f"{MODELS}/{part}") as place:
            place.remove(RECORD)
        return None
