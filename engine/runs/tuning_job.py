"""Fine-tuning into a folder of the user's, for the window: the question, its progress, the answer."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import Cancelled, UserError
from engine.request import DataSpec, Device, ModelSpec

if TYPE_CHECKING:
    from engine.training.spec import TrainingProgress

TELL_SECONDS = 0.1


@dataclass(frozen=True)
class Tune:
    """Fine-tune `spec` into the folder `out`, or go on with what is there, after the job in progress."""

    spec: ModelSpec
    data: DataSpec
    device: Device
    seed: int
    out: Path


@dataclass(frozen=True)
class TuneProgress:
    """`step` of `steps` are done; `loss` (nats a token) is the last step's, `held_out` the held-out text's."""

    step: int
    steps: int
    loss: float
    held_out: float | None


@dataclass(frozen=True)
class Tuned:
    """The answer to `Tune`. `checkpoints` are the folders' names, first to last, empty unless it came to its end."""

    out: Path
    checkpoints: tuple[str, ...]
    text: str
    detail: str


def fine_tune(job: Tune, tell: Callable[[TuneProgress], None], cancelled: Callable[[], bool]) -> Tuned:
    """Carry out `job`, keeping the start and every epoch; every outcome is an answer."""
    from engine.runs.device import resolve_device
    from engine.training.tuning import tune

    told = -TELL_SECONDS

    def show(progress: "TrainingProgress") -> None:
        nonlocal told
        if progress.checkpoint or time.monotonic() - told >= TELL_SECONDS:
            told = time.monotonic()
            held_out = progress.checkpoint.held_out_loss if progress.checkpoint else None
            tell(TuneProgress(progress.step, progress.steps, progress.loss, held_out))

    try:
        device = resolve_device(job.device)
        record = tune(job.spec, job.data, job.seed, device, job.out, show, cancelled, history=True)
    except Cancelled:
        return Tuned(
            job.out, (), "Fine-tuning was stopped; starting it again in the same folder goes on from there.", ""
        )
    except UserError as error:
        return Tuned(job.out, (), error.message, error.detail)
    except Exception as error:  # the window must get an answer, whatever happens
        return Tuned(job.out, (), f"{job.spec.label} cannot be made: {error}.", repr(error))
    return Tuned(job.out, tuple(checkpoint.name for checkpoint in record.checkpoints), "", "")
