"""Slices of the weights dataset and their declarations, shared by its views."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from engine.analyses.registry import variables_of
from engine.analyses.variables import Variable
from gui.plots.figure import Floats
from gui.plots.selection import Pick, Selection
from gui.views.model_slice import ModelSlice

if TYPE_CHECKING:
    import xarray as xr

Matrix = Literal["QK", "OV"]


SIGNIFICANT = 0.05
VARIABLES = variables_of("weights")
STATISTICS = tuple(name for name, v in VARIABLES.items() if v.role == "statistic" and not name.startswith("ov_"))
"""Statistics of a head that a view can show; most exist for both W_QK and W_OV."""


def stored(matrix: Matrix, name: str) -> str:
    """Name of the variable that holds `name` for W_QK or W_OV; moments of entries have one variable only."""
    own = f"{matrix.lower()}_{name}"
    return own if own in VARIABLES else name


@dataclass(frozen=True)
class WeightsSlice(ModelSlice):
    """One model of a weights dataset, seen through W_QK or W_OV."""

    matrix: Matrix = "QK"

    @classmethod
    def of(cls, dataset: "xr.Dataset", selection: Selection, matrix: Matrix = "QK") -> "WeightsSlice":
        return cls(dataset, min(selection.model, dataset.sizes["model"] - 1), matrix)

    @property
    def shape(self) -> tuple[int, int]:
        """Layers of this model, and the most heads that one of them has."""
        return self.layers, self.info.n_heads

    def width(self, layer: int) -> int:
        """The width d_h of the heads of a layer; 0 where it has none."""
        shape = self.info.heads_at(layer)
        return shape.d_head if shape else 0

    def variable(self, name: str) -> Variable:
        """The declaration of `name`, for its labels."""
        return VARIABLES[stored(self.matrix, name)]

    def has(self, name: str) -> bool:
        return stored(self.matrix, name) in self.dataset

    def heads(self, name: str) -> Floats:
        """A statistic of every head, (layers, heads); NaN where it has not arrived."""
        layers, heads = self.shape
        return self.array(stored(self.matrix, name))[self.model, :layers, :heads]

    def spectrum(self, layer: int, head: int, name: str = "eigenvalues") -> np.ndarray:
        """Values along a head's `mode` dimension, (d_h,), without padding."""
        return self.array(stored(self.matrix, name))[self.model, layer, head, : self.width(layer)]

    def scale(self, layer: int, head: int) -> float:
        """The head's null unit d²σ_Q²σ_K²."""
        return float(self.heads("unit_scale")[layer, head])

    def null(self, name: str, layer: int) -> Floats:
        """The Monte Carlo null's 2.5, 50 and 97.5 % quantiles of `name` at `layer`, quantile first."""
        values = self._of_width(stored(self.matrix, f"null_{name}"), layer)  # ([layer,] quantile[, mode])
        if values.ndim > 1 + (name == "quantiles"):
            values = values[layer]
        return values[:, : self.width(layer)] if values.ndim == 2 else values

    def law(self, name: str, layer: int) -> Floats:
        """Points of a limiting law for the heads of a layer."""
        return self._of_width(name, layer)

    def _of_width(self, name: str, layer: int) -> Floats:
        """A variable of this model that depends on the width of its heads, for those of a layer; NaN if it has none."""
        values = self.array(name)[self.model]
        if not (width := self.width(layer)):
            return np.full_like(values, np.nan)
        if self.has(f"{name}_by_width"):
            widths = self.dataset["width"].values.tolist()
            return self.array(f"{name}_by_width")[self.model, widths.index(width)]
        return values

    def arrived(self, layer: int) -> bool:
        return self.has("leading") and bool(np.isfinite(self.heads("leading")[layer]).any())

    def pick(self, layer: int, head: int) -> Pick:
        return Pick(model=self.model, layer=layer, head=head)

    def nothing(self, layer: int) -> str:
        """Why nothing of a layer can be drawn, and what to do; empty where it can."""
        waiting = f"Layer {layer} has not arrived yet: it is drawn as soon as it is computed."
        return self.no_heads(layer) or ("" if self.arrived(layer) else waiting)
