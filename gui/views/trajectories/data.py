"""What of a dataset can be followed over training, whatever the analysis: its statistics, its spectra, their axis."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np

from engine.spectra.trends import Regimes, phases, regimes
from gui.plots.figure import Axis, Floats
from gui.plots.selection import Selection
from gui.views.trajectories.checkpoint_series import CheckpointSeries, Models, names

if TYPE_CHECKING:
    import xarray as xr

PLACES = {"layer", "head", "sample"}
# Nulls, tests, errors and intervals belong to a statistic; they are none of their own.
NO_STATISTIC = ("p_", "q_", "ov_p_", "ov_q_", "null_", "ov_null_", "noise_", "shuffled_")
NO_STATISTIC_END = ("_interval", "_se", "_p", "_error")
LABELS = {
    "leading": "λ₁ of W_QK", "npr": "NPR of W_QK", "pr": "participation ratio", "entropy": "entropy", "kappa": "κ",
    "lambda_sum": "Σλ of W_QK", "lambda_sq_sum": "Σλ² of W_QK", "ov_leading": "λ₁ of W_OV", "ov_npr": "NPR of W_OV",
    "ov_entropy": "entropy of W_OV", "ov_kappa": "κ of W_OV", "ov_pr": "participation ratio of W_OV",
    "ov_lambda_sum": "Σλ of W_OV", "ov_lambda_sq_sum": "Σλ² of W_OV",
    "rho": "spectral norm σ₁", "delta": "δ = σ₂/σ₁", "frobenius": "Frobenius norm", "henrici": "Henrici departure",
    "residual_norm": "‖J − I‖_F/√d", "complex_fraction": "share of λ in complex pairs",
    "expanding_fraction": "share of |λ| > 1", "spectral_radius": "spectral radius", "mean_alpha_rank": "α of the mean",
    "alpha_rank": "α along rank", "alpha_esd": "α of the density", "r2": "R² of the fit", "erank": "effective rank",
    "r_l1l2": "(Σσ)²/Σσ²", "stable_rank": "stable rank", "sparsity": "sparsity", "concentration": "concentration",
    "top_eigenvalue": "top |λ|", "spectral_norm": "‖A‖₂", "sink": "weight on the first token",
    "qk_complex_eigenvalues": "λ of W_QK", "ov_complex_eigenvalues": "λ of W_OV",
    "qk_eigenvalues": "σ² of W_QK", "ov_eigenvalues": "σ² of W_OV", "mean_eigenvalues": "λ of the mean Jacobian",
    "mean_singular_values": "σ of the mean Jacobian", "singular_values": "singular values",
}  # fmt: skip
FIRST = ("concentration", "alpha_rank", "npr", "rho")
# Their places are no places of a model: ends of an interval, laws that were fitted and their coefficients.
NO_PLACE = ("model", "bound", "law", "coefficient", "quantile")
TRAIL = 12
"""At most so many checkpoints are drawn in one cloud."""
Scale = Literal["log", "linear", "order"]


def label(name: str) -> str:
    return LABELS.get(name, name.replace("_", " "))


def named(dataset: "xr.Dataset") -> dict[str, tuple[str, ...]]:
    """Dimensions whose places have names, such as `component` and `site`, with these names."""
    found = {}
    for dim in map(str, dataset.dims):
        if dim not in NO_PLACE and dim in dataset.coords and dataset[dim].dtype.kind in "UOT":
            found[dim] = tuple(map(str, dataset[dim].values.tolist()))
    return found


def statistics(dataset: "xr.Dataset") -> tuple[str, ...]:
    """Variables with one number for each layer, or for each head or sample of it; the usual ones first."""
    known = PLACES | set(named(dataset))
    found = [
        str(name)
        for name, variable in dataset.data_vars.items()
        if variable.dtype.kind == "f"
        and variable.dims[:1] == ("model",)
        and "layer" in variable.dims
        and set(variable.dims[1:]) <= known
        and not str(name).startswith(NO_STATISTIC)
        and not str(name).endswith(NO_STATISTIC_END)
    ]
    return tuple(sorted(found, key=lambda name: (_rank(name), name not in LABELS, name.startswith("ov_"), name)))


def _rank(name: str) -> int:
    return FIRST.index(name) if name in FIRST else len(FIRST)


def spectra(dataset: "xr.Dataset") -> tuple[str, ...]:
    """Variables with one spectrum for each layer, head or sample; clouds first."""
    known = PLACES | set(named(dataset))
    found = [
        str(name)
        for name, variable in dataset.data_vars.items()
        if variable.dtype.kind in "fc"
        and variable.dims[:1] == ("model",)
        and variable.dims[-1] == "mode"
        and "layer" in variable.dims
        and set(variable.dims[1:-1]) <= known
        and not str(name).startswith(NO_STATISTIC)
    ]
    return tuple(sorted(found, key=lambda name: (dataset[name].dtype.kind != "c", name.startswith("ov_"), name)))


class Trajectory:
    """The checkpoints that belong with the selected model, and what a dataset holds of them."""

    def __init__(self, dataset: "xr.Dataset", selection: Selection, chosen: Mapping[str, str]) -> None:
        self.dataset, self.selection = dataset, selection
        self.models = Models.of(dataset)
        self.at = min(selection.model, len(self.models.infos) - 1)
        if self.models.infos[self.at].twin and (trained := self.models.frames(self.at)):
            self.at = trained[-1] if self.at not in trained else self.at
        self.checkpoints: CheckpointSeries = self.models.checkpoints(self.at)
        info = self.models.infos[self.at]
        self.layer = min(selection.layer, info.n_layers - 1)
        self.head = min(selection.head, info.n_heads - 1)
        self._chosen = chosen

    @property
    def why_not(self) -> str:
        """Why there is nothing to follow; empty where there is."""
        if len(self.checkpoints.models) > 1:
            return ""
        note = f"{said}. " if (said := self.checkpoints.note()) else ""
        return (
            f"{self.models.infos[self.at].label} stands alone here, so there is no trajectory. {note}"
            "Measure several checkpoints of one training in one run: name their revisions on the left."
        )

    @property
    def now(self) -> int:
        """Which checkpoint of the series is selected."""
        return self.checkpoints.models.index(self.at)

    def of(self, name: str) -> str:
        """The chosen component, site … of a variable, for titles."""
        there = [value for dim, value in self._chosen.items() if dim in self.dataset[name].dims]
        return f", {', '.join(there)}" if there else ""

    def series(self, name: str, model: int | None = None) -> Floats:
        """A statistic of the checkpoints, or of one `model`: (checkpoint, layer[, head]); the median over samples."""
        info = self.models.infos[self.at]
        own = {"layer": slice(info.n_layers), "head": slice(info.n_heads)}
        values = self._at(name).isel(model=list(self.checkpoints.models) if model is None else [model])
        values = values.isel({dim: part for dim, part in own.items() if dim in values.dims})
        dims = ["model", "layer", *(["head"] if "head" in values.dims else [])]
        if "sample" in values.dims:
            array = values.transpose(*dims, "sample").values
            there = np.isfinite(array) | np.isinf(array)
            blank = ~there.any(axis=-1)
            return np.where(blank, np.nan, np.nanmedian(np.where(blank[..., None], 0.0, array), axis=-1))
        return np.asarray(values.transpose(*dims).values, float)

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
        return f"layer {self.layer}{head}{self.of(name)}"

    def losses(self) -> Floats:
        """Loss of every checkpoint: held out in training, else what the analysis measured; NaN where unknown."""
        models = list(self.checkpoints.models)
        if "held_out_loss" in self.dataset.coords:
            found = np.asarray(self.dataset["held_out_loss"].values, float)[models]
            if np.isfinite(found).any():
                return found
        if "loss" in self.dataset and "layer" not in self.dataset["loss"].dims:
            values = self._at("loss").isel(model=models)
            return np.asarray(values.mean([d for d in values.dims if d != "model"]).values, float)
        return np.full(len(models), np.nan)

    def _at(self, name: str) -> "xr.DataArray":
        values = self.dataset[name]
        places = {d: named(self.dataset)[d].index(v) for d, v in self._chosen.items() if d in values.dims}
        return values.isel(places)

    def axis(self, scale: Scale) -> tuple[Floats, Axis]:
        """Where the checkpoints stand, and their axis. Step 0, which has no logarithm, stands before the first one."""
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
        said = f" (0 is drawn at {zero:g})" if (checkpoints.steps == 0).any() else ""
        return x, Axis(f"training step{said}", log=True, ticks=ticks)

    @property
    def zero(self) -> float:
        """Where step 0 stands on a logarithmic axis."""
        positive = self.checkpoints.steps[self.checkpoints.steps > 0]
        return float(positive.min()) / 2 if positive.size else 1.0


def between(x: Floats, start: int, log: bool) -> float:
    """The middle between two checkpoints, the second of which is `start`."""
    return float(np.sqrt(x[start - 1] * x[start]) if log else (x[start - 1] + x[start]) / 2)


def is_log(values: Floats) -> bool:
    """Whether a statistic spans so much that its axis is logarithmic."""
    there = values[np.isfinite(values)]
    return bool(there.size and (there > 0).all() and there.max() > 20 * there.min())


def change_points(values: Floats) -> tuple[Regimes, tuple[str, ...]] | None:
    """Regimes of a statistic along the checkpoints, and the phase of each; None while some are absent, or too few."""
    if len(values) < 4 or not np.isfinite(values).all():
        return None
    found = regimes(np.asarray(np.log(values) if is_log(values) else values, np.float64))
    return found, phases(found, len(values))
