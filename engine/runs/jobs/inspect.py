"""Read the facts of a model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from engine.models.info import ModelInfo
from engine.request import ModelSpec
from engine.runs.jobs.job import Context, Job


@dataclass(frozen=True)
class Inspect(Job):
    """Read the facts of a model, even while another job runs. The answer is a `ModelInfo`."""

    spec: ModelSpec

    beside: ClassVar[bool] = True
    after_loss: ClassVar[str] = "Ask again."

    def run(self, context: Context, tell: Callable[[Any], None], cancelled: Callable[[], bool]) -> ModelInfo:
        from engine.models.opening import describe

        return describe(self.spec)

    def explain(self, error: Exception) -> str:
        return f"{self.spec.label} cannot be opened: {error}."
