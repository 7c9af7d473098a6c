"""One model of a dataset, for the views of every analysis: its facts, its random twin, the notes to print."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Self

import numpy as np

from engine.analyses.header import Header
from engine.models.info import ModelInfo
from gui.plots.selection import Pick, Selection

if TYPE_CHECKING:
    import xarray as xr

MOST_DOTTED = 24


@dataclass(frozen=True)
class ModelSlice:
    """One model of a dataset."""

    dataset: "xr.Dataset"
    model: int

    @cached_property
    def header(self) -> Header:
        return Header.of(self.dataset)

    @property
    def infos(self) -> tuple[ModelInfo, ...]:
        """The facts about every model of the dataset."""
        return self.header.models

    def array(self, name: str) -> np.ndarray:
        """A variable's values; much quicker than ``dataset[name]``, which also gathers its coordinates."""
        return np.asarray(self.dataset.variables[name].values)

    @property
    def info(self) -> ModelInfo:
        return self.infos[self.model]

    @property
    def label(self) -> str:
        return self.info.label

    @property
    def layers(self) -> int:
        """Layers of this model (the dataset may be padded to a larger one)."""
        return self.info.n_layers

    def selected_head(self, selection: Selection) -> tuple[int, int]:
        """The selected layer and head, inside this model; head 0 of a layer that has none."""
        layer = min(selection.layer, self.layers - 1)
        return layer, min(selection.head, max(self.info.head_count(layer) - 1, 0))

    def cells(self) -> tuple[tuple[Pick | None, ...], ...]:
        """What a click on the grid of heads selects, a row for each head; None where a layer has no such head."""
        return tuple(
            tuple(
                Pick(model=self.model, layer=layer, head=head) if head < self.info.head_count(layer) else None
                for layer in range(self.layers)
            )
            for head in range(self.info.n_heads)
        )

    def no_heads(self, layer: int) -> str:
        """Why nothing of a layer can be shown: it has no softmax heads. Empty where it has some."""
        return "" if self.info.head_count(layer) else f"Layer {layer} has no softmax heads; choose another layer."

    @property
    def twin(self) -> Self | None:
        """The random-init twin of this model in the same dataset, if the request had one."""
        if self.info.twin:
            return None
        twins = (i for i, info in enumerate(self.infos) if info.twin and origin(info) == origin(self.info))
        return next((replace(self, model=index) for index in twins), None)

    @property
    def note(self) -> str:
        """The notes of the result, for the line under a plot."""
        return "  ·  ".join(self.header.notes)


def origin(info: ModelInfo) -> tuple[str, str | None]:
    """What a model and its twin have in common."""
    return info.source, info.revision


def colors(infos: Sequence[ModelInfo]) -> list[str]:
    """A categorical colour for each model; a twin has its model's."""
    colors_by_origin: dict[tuple[str, str | None], str] = {}
    return [colors_by_origin.setdefault(origin(info), f"c{len(colors_by_origin) % 8}") for info in infos]


def dotted(infos: Sequence[ModelInfo]) -> bool:
    """Whether the lines of that many models may have dots: more are slow, and nobody can tell them apart."""
    return len(infos) <= MOST_DOTTED
