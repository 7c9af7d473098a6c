"""Slices of the weights dataset that its views share. Nothing here computes a result; it finds and labels them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from gui.plots.figure import Floats
from gui.plots.selection import Pick, Selection
from gui.views.model_slice import ModelSlice

if TYPE_CHECKING:
    import xarray as xr

Matrix = Literal["QK", "OV"]


@dataclass(frozen=True)
class Statistic:
    """How a per-head statistic is named on axes, and whether its axis is logarithmic."""

    label: str
    log: bool = False


STATISTICS: dict[str, Statistic] = {
    "leading": Statistic("leading eigenvalue λ₁", log=True),
    "lambda_sum": Statistic("Σλ", log=True),
    "lambda_sq_sum": Statistic("Σλ²", log=True),
    "pr": Statistic("participation ratio"),
    "npr": Statistic("NPR (PR / d_h)"),
    "entropy": Statistic("spectral entropy (nats)"),
    "kappa": Statistic("condition number κ", log=True),
}
ELEMENTWISE: dict[str, Statistic] = {
    f"{weight}_{moment}": Statistic(f"{label} of the entries of {name}", log=moment == "std")
    for weight, name in (("wq", "W_Q"), ("wk", "W_K"), ("wqk", "W_QK"))
    for moment, label in (
        ("mean", "mean"),
        ("std", "standard deviation σ"),
        ("skew", "skewness"),
        ("kurtosis", "excess kurtosis"),
    )
}


def stored(matrix: Matrix, name: str) -> str:
    """The variable that holds `name` for W_QK or W_OV."""
    if name.endswith(("eigenvalues", "density")):
        return f"{matrix.lower()}_{name}"
    return name if matrix == "QK" else f"ov_{name}"


@dataclass(frozen=True)
class WeightsSlice(ModelSlice):
    """One model of a weights dataset, looked at for one of its two matrices."""

    matrix: Matrix = "QK"

    @classmethod
    def of(cls, dataset: "xr.Dataset", selection: Selection, matrix: Matrix = "QK") -> "WeightsSlice":
        return cls(dataset, min(selection.model, dataset.sizes["model"] - 1), matrix)

    @property
    def shape(self) -> tuple[int, int]:
        """Layers and heads of this model."""
        return self.layers, self.info.n_heads

    @property
    def d_head(self) -> int:
        return self.info.d_head

    def has(self, name: str) -> bool:
        return stored(self.matrix, name) in self.dataset

    def heads(self, name: str) -> Floats:
        """A statistic of every head, (layers, heads); NaN where it has not arrived."""
        layers, heads = self.shape
        return self.array(stored(self.matrix, name))[self.model, :layers, :heads]

    def spectrum(self, layer: int, head: int, name: str = "eigenvalues") -> np.ndarray:
        """Values along a head's `mode` dimension, (d_h,), without padding."""
        return self.array(stored(self.matrix, name))[self.model, layer, head, : self.d_head]

    def scale(self, layer: int, head: int) -> float:
        """The head's unit d²σ_Q²σ_K², in which its null stands."""
        return float(self.heads("unit_scale")[layer, head])

    def null(self, name: str, layer: int) -> Floats:
        """The Monte Carlo null's 2.5, 50 and 97.5 % quantiles of `name` at `layer`, quantile first."""
        values = self.array(stored(self.matrix, f"null_{name}"))[self.model]  # ([layer,] quantile[, mode])
        if values.ndim > 1 + (name == "quantiles"):
            values = values[layer]
        return values[:, : self.d_head] if values.ndim == 2 else values

    def arrived(self, layer: int) -> bool:
        return self.has("leading") and bool(np.isfinite(self.heads("leading")[layer]).any())

    def pick(self, layer: int, head: int) -> Pick:
        return Pick(model=self.model, layer=layer, head=head)


def clamp(weights: WeightsSlice, selection: Selection) -> tuple[int, int]:
    """The selected layer and head, inside this model's shape."""
    layers, heads = weights.shape
    return min(selection.layer, layers - 1), min(selection.head, heads - 1)


def waiting(layer: int) -> str:
    return f"Layer {layer} has not arrived yet: it is drawn as soon as it is computed."
