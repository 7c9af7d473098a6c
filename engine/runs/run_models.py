"""The models of one run: opened one at a time, fine-tuned first where that is asked, passed over where they fail."""

from collections.abc import Callable, Iterator
from pathlib import Path

from engine.analyses.base import Unit
from engine.errors import UserError
from engine.events import Failed
from engine.models.memory import is_out_of_memory
from engine.models.opening import OpenModel
from engine.runs.failure import describe_failure
from engine.runs.model_cache import ModelCache
from engine.runs.reporting import Reporter
from engine.runs.tuning import fine_tuned
from engine.runs.weights_read import WeightsRead
from engine.sessions.store import Run


class RunModels:
    """Opens the models of a run by their index, and remembers which of them have failed.

    `weights` is what committed units were computed from.

    Attributes
    ----------
    device : str
        Where they are opened.
    tuned : Path or None
        The folder of the open model's weights, if the run fine-tuned it.
    """

    def __init__(
        self,
        run: Run,
        device: str,
        cache: ModelCache,
        reporter: Reporter,
        cancelled: Callable[[], bool],
        weights: WeightsRead,
    ) -> None:
        self.device = device
        self.tuned: Path | None = None
        self._run, self._cache, self._reporter, self._cancelled = run, cache, reporter, cancelled
        self._open: tuple[int, OpenModel] | None = None
        self._weights = weights
        self._failed: dict[int, Failed] = {}

    def able(self, unit: Unit) -> Iterator[int]:
        """The models that `unit` can be computed with, first its own, without those that have failed."""
        return (index for index in (unit.model, *unit.also) if index not in self._failed)

    def open(self, index: int) -> OpenModel:
        """Return a model, opened, and fine-tuned if its spec asks for it.

        Raises
        ------
        Cancelled
            In the middle of fine-tuning.
        UserError
            If it cannot be opened or fine-tuned.
        """
        if self._open is None or self._open[0] != index:
            spec, planned = self._run.request.models[index], self._run.models[index]

            def tell(doing: str) -> None:
                self._reporter.progress(f"{planned.label} · {doing}")

            tell("opening the model")
            self.tuned = None
            if spec.tuning:
                self._cache.close()  # one model is in memory at a time
                self.tuned = fine_tuned(self._run, spec, self.device, tell, self._cancelled)
            self._open = index, self._cache.get(spec, self._run.request.seed, self.device, planned, self.tuned)
            self.require_unchanged()
        return self._open[1]

    def require_unchanged(self, layer: int | None = None, weights_hash: str | None = None) -> dict[str, str]:
        """Return what to record of the open model's weights; `weights_hash` is that of the layer just computed.

        Raises
        ------
        UserError
            If units of this run were computed from other weights.
        """
        assert self._open is not None
        index, model = self._open
        before = self._weights.written.get(index)
        record = self._weights.require_same(index, model, self._run.models[index])
        if before not in (None, record["weights_written"]):
            self._reporter.notice(
                f"The files of {self._run.models[index].label} were written again since this run began. Parts of every "
                "tensor and all layers computed before agree with them; nothing else was compared."
            )
        self._weights.note(index, layer, weights_hash)
        return record

    def pass_over(self, index: int, error: BaseException) -> bool:
        """Go on without a model that failed; False if the run cannot, for lack of other models or of memory."""
        if len(self._run.models) == 1 or is_out_of_memory(error):
            return False
        self._open = None
        failed = self._failed[index] = describe_failure(self._run.id, error)
        label = self._run.models[index].label
        self._reporter.notice(f"{label} failed and is passed over: {failed.message}", failed.detail)
        return True

    def missing(self) -> list[str]:
        """One sentence for each model that failed.

        Raises
        ------
        UserError
            If none is left.
        """
        ends = [(self._run.models[index].label, failed) for index, failed in sorted(self._failed.items())]
        if len(ends) == len(self._run.models):
            label, failed = ends[0]
            raise UserError(f"Every model failed. {label}: {failed.message}", failed.detail)
        return [f"{label} failed: {failed.message}" for label, failed in ends]
