"""Fine-tune a model into a folder of the user's."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from engine.request import DataSpec, Device, ModelSpec
from engine.runs.jobs.job import Context, Job

if TYPE_CHECKING:
    from engine.training.spec import TrainingProgress

TELL_SECONDS = 0.1


@dataclass(frozen=True)
class TuneProgress:
    """`step` of `steps` are done; `loss` (nats a token) is the last step's, `held_out` the held-out text's."""

    step: int
    steps: int
    loss: float
    held_out: float | None


@dataclass(frozen=True)
class Tune(Job):
    """Fine-tune a model into the folder `out`, or go on with what is there; the start and every epoch are kept.

    It tells its `TuneProgress`; the answer is a tuple of the checkpoints' folder names, first to last.
    """

    spec: ModelSpec
    data: DataSpec
    device: Device
    seed: int
    out: Path

    after_loss: ClassVar[str] = "The fine-tuning can be resumed from its last saved state."

    def run(self, context: Context, tell: Callable[[Any], None], cancelled: Callable[[], bool]) -> tuple[str, ...]:
        from engine.runs.device import resolve_device
        from engine.training.tuning import tune

        told = -TELL_SECONDS

        def show(progress: "TrainingProgress") -> None:
            nonlocal told
            if progress.checkpoint or time.monotonic() - told >= TELL_SECONDS:
                told = time.monotonic()
                held_out = progress.checkpoint.held_out_loss if progress.checkpoint else None
                tell(TuneProgress(progress.step, progress.steps, progress.loss, held_out))

        context.models.close()  # one model is in memory at a time
        device = resolve_device(self.device)
        record = tune(self.spec, self.data, self.seed, device, self.out, show, cancelled, history=True)
        return tuple(checkpoint.name for checkpoint in record.checkpoints)

    @property
    def failure(self) -> str:
        return f"{self.spec.label} cannot be made"
