"""The models of a dataset in training order: the frames of the timeline, and the checkpoints of one training."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.analyses.header import Header
from engine.models.info import ModelInfo
from engine.request import ModelSpec
from gui.plots.figure import Floats

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Models:
    """The facts of every model of a dataset, and their specs (the defaults where the dataset has no request)."""

    infos: tuple[ModelInfo, ...]
    specs: tuple[ModelSpec, ...]

    @classmethod
    def of(cls, dataset: "xr.Dataset") -> "Models":
        header = Header.of(dataset)
        specs = header.request.models if header.request else ()
        count = len(header.models)
        return cls(header.models, specs if len(specs) == count else (ModelSpec(),) * count)

    def step(self, at: int) -> int | None:
        return self.infos[at].step

    def frames(self, at: int) -> list[int]:
        """The frames of the timeline: the models that are trained, or twins, like `at`, by training and then by step.

        A single twin is no frame; the timeline then keeps the trained models.
        """
        alike = [i for i, info in enumerate(self.infos) if info.twin == self.infos[at].twin]
        if len(alike) < 2:
            alike = [i for i, info in enumerate(self.infos) if not info.twin]
        if len(alike) < 2:
            alike = list(range(len(self.infos)))
        trainings = list(dict.fromkeys(self._training(i) for i in alike))
        place = {i: (trainings.index(self._training(i)), -1 if (step := self.step(i)) is None else step) for i in alike}
        return sorted(alike, key=lambda i: place[i])

    def checkpoints(self, at: int) -> "CheckpointSeries":
        """The checkpoints of the training that `at` belongs to, of its architecture, in the order of their steps."""
        same = [i for i in self.frames(at) if self._training(i) == self._training(at)]
        models = [i for i in same if self._shape(i) == self._shape(at)]
        stepped = [i for i in models if self.step(i) is not None]
        if len(stepped) >= 2 and at in stepped:
            models = stepped
        all_known = all(self.step(i) is not None for i in models)
        steps = np.array([self.step(i) if all_known else place for place, i in enumerate(models)], float)
        apart = [i for i in self.frames(at) if i not in models]
        return CheckpointSeries(
            tuple(models),
            steps,
            all_known,
            tuple(self.infos[i].label for i in models),
            tuple(self.infos[i].label for i in apart if self._shape(i) != self._shape(at)),
            tuple(self.infos[i].label for i in apart if self._shape(i) == self._shape(at)),
        )

    def _training(self, at: int) -> tuple[Any, ...]:
        """What the checkpoints of one training share: their place, and how they were treated."""
        info, spec = self.infos[at], self.specs[at]
        where = info.source if info.revision else info.source.rstrip("/").rpartition("/")[0]
        return where, info.twin, spec.tuning is not None, spec.seed

    def _shape(self, at: int) -> tuple[Any, ...]:
        info = self.infos[at]
        return info.architecture, info.n_layers, info.n_heads, info.d_model, info.d_head


@dataclass(frozen=True, eq=False)
class CheckpointSeries:
    """Checkpoints that a curve may connect. `steps` are training steps, or ranks in order where a step is unknown."""

    models: tuple[int, ...]
    steps: Floats
    known: bool
    labels: tuple[str, ...]
    otherwise: tuple[str, ...]
    """Labels of models of another architecture."""
    elsewhere: tuple[str, ...]
    """Labels of models of another training."""

    def note(self) -> str:
        """Why models of the dataset are not connected with these."""
        remarks = []
        for labels, why in ((self.otherwise, "another architecture"), (self.elsewhere, "another training")):
            if labels:
                more = f" and {len(labels) - 2} more" if len(labels) > 2 else ""
                remarks.append(f"Not connected, as of {why}: {', '.join(labels[:2])}{more}")
        return "  ·  ".join(remarks)


def names(labels: Sequence[str]) -> tuple[str, ...]:
    """Labels without their common beginning: ``step0`` for ``builtin@step0``."""
    short = [label.rpartition("@")[2] for label in labels]
    return tuple(short) if len(set(short)) == len(set(labels)) else tuple(labels)
