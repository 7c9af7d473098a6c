"""Conditions of a dataset: models that differ in their seed alone, on one part of the text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from engine.analyses.header import Header

if TYPE_CHECKING:
    import xarray as xr

    from engine.models.info import ModelInfo

Array = NDArray[np.float64]
Kind = Literal["trained", "fine-tuned", "random"]
TUNED, TWIN = " (fine-tuned)", " (random twin)"


@dataclass(frozen=True)
class Condition:
    """One line of a plot: a model, or its fine-tuned or random form, on one part of the text.

    `base` is the name of the trained model it derives from; `models` are indices, one per seed; `split` is empty if the
    text was not divided, and `at` is its index. `final` is False for a checkpoint that a later one of the same training
    follows: it belongs to a trajectory and is no witness of its own.
    """

    name: str
    base: str
    kind: Kind
    split: str
    at: int
    models: tuple[int, ...]
    final: bool = True

    @property
    def label(self) -> str:
        return f"{self.name}, {self.split}" if self.split else self.name

    def of(self, values: Array) -> Array:
        """The condition's part of a variable (model, split, …): (seed, …)."""
        return np.asarray(values[list(self.models), self.at])


def conditions(ds: "xr.Dataset", variable: str = "alpha_rank") -> tuple[Condition, ...]:
    """All conditions with any value of `variable` (model, split, …), in the order of models and splits."""
    infos = Header.of(ds).models
    names = [str(v) for v in (ds["condition"] if "condition" in ds.coords else ds["model"]).values]
    splits = [str(v) for v in ds["split"].values]
    models_by_name: dict[str, list[int]] = {}
    for model, name in enumerate(names):
        models_by_name.setdefault(name, []).append(model)
    values = ds[variable].values
    kinds = [_kind(infos[model], name) for model, name in enumerate(names)]
    last = {kind: final_models([infos[m] for m, own in enumerate(kinds) if own == kind]) for kind in set(kinds)}
    result = []
    for name, models in models_by_name.items():
        kind = kinds[models[0]]
        base = name.removesuffix(TUNED).removesuffix(TWIN)
        for at, split in enumerate(splits):
            present = tuple(m for m in models if np.isfinite(values[m, at]).any())
            if present:
                final = infos[models[0]] in last[kind]
                result.append(Condition(name, base, kind, "" if splits == ["all"] else split, at, present, final))
    return tuple(result)


def _kind(info: "ModelInfo", name: str) -> Kind:
    """A checkpoint before the first step is as random as a twin."""
    if name.endswith(TUNED):
        return "fine-tuned"
    return "random" if info.twin or info.step == 0 else "trained"


def final_models(infos: Sequence["ModelInfo"]) -> list["ModelInfo"]:
    """Of each source the models that no later step of the same training follows."""
    latest: dict[str, int] = {}
    for info in infos:
        if info.step is not None:
            latest[info.source] = max(latest.get(info.source, 0), info.step)
    return [info for info in infos if info.step is None or info.step == latest[info.source]]


def trainings(infos: Sequence["ModelInfo"]) -> list[list[int]]:
    """Checkpoints of one training, as indices by step, for each training with at least two of them."""
    rows: dict[str, list[int]] = {}
    for model, info in enumerate(infos):
        if info.step is not None and not info.twin:
            rows.setdefault(info.source, []).append(model)
    return [sorted(row, key=lambda model: infos[model].step or 0) for row in rows.values() if len(row) > 1]
