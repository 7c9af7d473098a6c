"""Verify the closed-form Jacobians of a model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from engine.errors import Cancelled, UserError
from engine.request import DataSpec, Device, ModelSpec
from engine.runs.jobs.job import Context, Job


@dataclass(frozen=True)
class Verified:
    """Whether closed forms and automatic differentiation agree, in a sentence, and the errors as a table."""

    passed: bool
    text: str
    table: str


@dataclass(frozen=True)
class Verify(Job):
    """Verify the closed-form Jacobians of a model on a little text; any job that comes after ends it.

    The answer is a `Verified`.
    """

    spec: ModelSpec
    data: DataSpec
    device: Device
    seed: int

    after_loss: ClassVar[str] = "The closed forms were not verified."

    def run(self, context: Context, tell: Callable[[Any], None], cancelled: Callable[[], bool]) -> Verified:
        from engine.runs.verification import verify_model

        def give_way(_: str) -> None:
            if cancelled():
                raise Cancelled
            if context.awaited():  # it can be asked for again, and a run should not have to wait for it
                raise UserError(
                    "The verification was given up because something else was started; start it again after."
                )

        outcome = verify_model(self.spec, self.data, self.device, self.seed, give_way, context.models)
        return Verified(outcome.passed, outcome.sentence, outcome.table)

    @property
    def failure(self) -> str:
        return f"{self.spec.label} cannot be verified"
