"""Read the facts of a model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from engine.models.info import ModelInfo
from engine.request import ModelSpec
from engine.runs.jobs.job import Context, Job

LIMIT_SECONDS = 120.0
"""Enough for the largest models on a slow disk, and for the small files of one on the hub."""
CANCEL_SECONDS = 1.5


@dataclass(frozen=True)
class Inspect(Job):
    """Read the facts of a model, even while another job runs. The answer is a `ModelInfo`."""

    spec: ModelSpec

    beside: ClassVar[bool] = True
    time_limit: ClassVar[float | None] = LIMIT_SECONDS
    kill_after: ClassVar[float | None] = CANCEL_SECONDS
    after_loss: ClassVar[str] = "Ask again."

    def run(self, context: Context, tell: Callable[[Any], None], cancelled: Callable[[], bool]) -> ModelInfo:
        from engine.models.opening import describe

        return describe(self.spec)

    @property
    def failure(self) -> str:
        return f"{self.spec.label} cannot be opened"
