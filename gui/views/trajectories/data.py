"""What can be followed over training in a dataset of any analysis: its statistics, its spectra and their axis."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np

from engine.analyses.header import Header
from engine.analyses.registry import variables_of
from engine.analyses.variables import Role, Variable
from engine.spectra.trends import Regimes, phases, regimes
from gui.plots.figure import Axis, Floats
from gui.plots.selection import Selection
from gui.views.trajectories.checkpoint_series import CheckpointSeries, Models, names

if TYPE_CHECKING:
    import xarray as xr

PLACES = ("model", "layer", "head", "sample", "mode")
"""Dimensions that the selection, a curve or a spectrum covers; along any other the user chooses one place by name."""
TRAIL = 12
"""Most checkpoints that one cloud shows."""
Scale = Literal["log", "linear", "order"]


def followed(dataset: "xr.Dataset", role: Role) -> dict[str, Variable]:
    """Variables of a role that this dataset has for each layer, in the order of their declaration."""
    return {
        name: variable
        for name, variable in variables_of(Header.of(dataset).analysis).items()
        if variable.role == role and "layer" in variable.dims and name in dataset
    }


def statistics(dataset: "xr.Dataset") -> dict[str, Variable]:
    """Variables with one number for each layer, or for each of its heads or samples."""
    return followed(dataset, "statistic")


def spectra(dataset: "xr.Dataset") -> dict[str, Variable]:
    """Variables with one spectrum for each layer, head or sample."""
    return followed(dataset, "spectrum")


def named(dataset: "xr.Dataset") -> dict[str, tuple[str, ...]]:
    """Names of the places along each further dimension, such as `component` and `site`."""
    dims = (dim for v in (*statistics(dataset).values(), *spectra(dataset).values()) for dim in v.dims)
    return {dim: tuple(map(str, dataset[dim].values.tolist())) for dim in dict.fromkeys(dims) if dim not in PLACES}


class Trajectory:
    """The checkpoints of the selected model's training, with their values in a dataset."""

    def __init__(self, dataset: "xr.Dataset", selection: Selection, chosen: Mapping[str, str]) -> None:
        self.dataset, self.selection = dataset, selection
        self.models = Models.of(dataset)
        self.at = min(selection.model, len(self.models.infos) - 1)
        if self.models.infos[self.at].twin and (trained := self.models.frames(self.at)):
            self.at = trained[-1] if self.at not in trained else self.at
        self.checkpoints: CheckpointSeries = self.models.checkpoints(self.at)
        info = self.models.infos[self.at]
        self.layer = min(selection.layer, info.n_layers - 1)
        self.head = min(selection.head, max(info.head_count(self.layer) - 1, 0))
        self._chosen = chosen
        self._variables = statistics(dataset) | spectra(dataset)

    def variable(self, name: str) -> Variable:
        """The declaration of `name`: its labels, whether it is log-scaled, how it is reduced."""
        return self._variables[name]

    @property
    def why_not(self) -> str:
        """Why there is no trajectory; empty if there is one."""
        if len(self.checkpoints.models) > 1:
            return ""
        note = f"{apart}. " if (apart := self.checkpoints.note()) else ""
        return (
            f"{self.models.infos[self.at].label} stands alone here, so there is no trajectory. {note}"
            "Measure several checkpoints of one training in one run: name their revisions on the left."
        )

    @property
    def now(self) -> int:
        """Index of the selected checkpoint in the series."""
        return self.checkpoints.models.index(self.at)

    def places(self, name: str) -> str:
        """The chosen component, site … of a variable, for titles."""
        chosen = [value for dim, value in self._chosen.items() if dim in self.dataset[name].dims]
        return f", {', '.join(chosen)}" if chosen else ""

    def series(self, name: str, model: int | None = None) -> Floats:
        """A statistic of the checkpoints, or of one `model`: (checkpoint, layer[, head]), reduced over samples."""
        info = self.models.infos[self.at]
        own = {"layer": slice(info.n_layers), "head": slice(info.n_heads)}
        values = self._at(name).isel(model=list(self.checkpoints.models) if model is None else [model])
        values = values.isel({dim: part for dim, part in own.items() if dim in values.dims})
        dims = ["model", "layer", *(["head"] if "head" in values.dims else [])]
        if "sample" in values.dims:
            array = values.transpose(*dims, "sample").values
            blank = np.isnan(array).all(axis=-1)
            reduce = getattr(np, f"nan{self.variable(name).samples}")
            return np.where(blank, np.nan, reduce(np.where(blank[..., None], 0.0, array), axis=-1))
        return np.asarray(values.transpose(*dims).values, float)

    def over_heads(self, name: str, values: Floats) -> Floats:
        """A statistic (…, layer, head) reduced to (…, layer) as declared, over the heads that a layer has."""
        info, reduce = self.models.infos[self.at], getattr(np, self.variable(name).heads)
        reduced = np.full(values.shape[:-1], np.nan)
        for layer in info.headed_layers:
            reduced[..., layer] = reduce(values[..., layer, : info.head_count(layer)], axis=-1)
        return reduced

    def spectrum(self, name: str) -> np.ndarray:
        """The selected layer's, head's and sample's spectrum of every checkpoint: (checkpoint, mode), NaN if absent."""
        places = {"layer": self.layer, "head": self.head, "sample": self.selection.sample}
        values = self._at(name).isel(model=list(self.checkpoints.models))
        values = values.isel({d: min(at, values.sizes[d] - 1) for d, at in places.items() if d in values.dims})
        array = values.transpose("model", "mode").values
        return np.asarray(array[:, np.isfinite(array).any(axis=0)])

    def where(self, name: str) -> str:
        """Layer and head of a variable, for titles."""
        head = f", head {self.head}" if "head" in self.dataset[name].dims else ""
        return f"layer {self.layer}{head}{self.places(name)}"

    def losses(self) -> Floats:
        """Loss of every checkpoint: held out in training, else what the analysis measured; NaN where unknown."""
        models = list(self.checkpoints.models)
        if "held_out_loss" in self.dataset.coords:
            losses = np.asarray(self.dataset["held_out_loss"].values, float)[models]
            if np.isfinite(losses).any():
                return losses
        if "loss" in self.dataset and "layer" not in self.dataset["loss"].dims:
            values = self._at("loss").isel(model=models)
            return np.asarray(values.mean([d for d in values.dims if d != "model"]).values, float)
        return np.full(len(models), np.nan)

    def _at(self, name: str) -> "xr.DataArray":
        values = self.dataset[name]
        places = {d: named(self.dataset)[d].index(v) for d, v in self._chosen.items() if d in values.dims}
        return values.isel(places)

    def axis(self, scale: Scale) -> tuple[Floats, Axis]:
        """Positions of the checkpoints, and their axis. On a log axis step 0 stands before the first positive step."""
        checkpoints = self.checkpoints
        order = np.arange(len(checkpoints.models), dtype=float)
        if scale == "order" or not checkpoints.known:
            ticks = tuple(zip(order.tolist(), names(checkpoints.labels), strict=True))
            return order, Axis("checkpoint", ticks=ticks)
        if scale == "linear":
            return checkpoints.steps, Axis("training step")
        zero = self.zero
        x = np.where(checkpoints.steps > 0, checkpoints.steps, zero)
        ticks = tuple((float(at), f"{step:,.0f}") for at, step in zip(x, checkpoints.steps, strict=True))
        remark = f" (0 is drawn at {zero:g})" if (checkpoints.steps == 0).any() else ""
        return x, Axis(f"training step{remark}", log=True, ticks=ticks)

    @property
    def zero(self) -> float:
        """Position of step 0 on a logarithmic axis."""
        positive = self.checkpoints.steps[self.checkpoints.steps > 0]
        return float(positive.min()) / 2 if positive.size else 1.0


def between(x: Floats, start: int, log: bool) -> float:
    """Midpoint between checkpoint `start` and the one before it."""
    return float(np.sqrt(x[start - 1] * x[start]) if log else (x[start - 1] + x[start]) / 2)


def is_log(values: Floats) -> bool:
    """Whether positive values span more than a factor of 20, so that their logarithm is shown and segmented."""
    finite = values[np.isfinite(values)]
    return bool(finite.size and (finite > 0).all() and finite.max() > 20 * finite.min())


def change_points(values: Floats) -> tuple[Regimes, tuple[str, ...]] | None:
    """Regimes of a statistic along the checkpoints, and the phase of each; None while some are absent, or too few."""
    if len(values) < 4 or not np.isfinite(values).all():
        return None
    fit = regimes(np.asarray(np.log(values) if is_log(values) else values, np.float64))
    return fit, phases(fit, len(values))
