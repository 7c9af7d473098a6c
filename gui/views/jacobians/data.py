"""Slices of the jacobians dataset that its views share. Nothing here computes a result; it finds and labels them."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from engine.studies import cited
from gui.plots.figure import Axis, Floats
from gui.plots.selection import Pick, Selection
from gui.views.model_slice import ModelSlice

if TYPE_CHECKING:
    import xarray as xr

Component = Literal["block", "residual", "attn", "mlp"]
COMPONENTS: dict[str, str] = {"block": "block", "residual": "block − I", "attn": "attention", "mlp": "MLP"}
COLORS: dict[str, str] = {"block": "c0", "residual": "c2", "attn": "c0", "mlp": "c1"}
LABELS: dict[str, Any] = {"labels": COMPONENTS}
CONTEXTS = {"in_context": "in context", "isolated": "isolated token"}
NOTHING = "No layer has arrived yet: the first one is drawn as soon as it is computed."


def waiting(layer: int) -> str:
    return f"Layer {layer} is not there: either it has not arrived yet, or this run was not asked for it."


@dataclass(frozen=True)
class Statistic:
    """How a statistic is named on axes and in one symbol, and whether its axis is logarithmic."""

    label: str
    symbol: str
    log: bool = False
    note: str = ""


SAMPLED: dict[str, Statistic] = {
    "rho": Statistic(cited("spectral norm σ₁ (ρ in S0 eq. 7)"), "σ₁", log=True),
    "delta": Statistic(
        "δ = σ₂/σ₁",
        "δ",
        note=cited("A small δ means that one direction dominates; the prose of S0 §5.3 reads δ the other way round"),
    ),
    "kappa": Statistic("condition number κ = σ₁/σ_d", "κ", log=True),
    "pr": Statistic("participation ratio (Σσ²)²/Σσ⁴", "PR"),
    "frobenius": Statistic("Frobenius norm ‖J‖_F", "‖J‖_F", log=True),
}
OPERATOR: dict[str, Statistic] = {
    "complex_fraction": Statistic("share of λ in complex pairs", "complex λ"),
    "expanding_fraction": Statistic("share of |λ| > 1", "|λ| > 1"),
    "spectral_radius": Statistic("spectral radius |λ₁|", "|λ₁|", log=True),
    "condition": Statistic("condition number σ₁/σ_d", "σ₁/σ_d", log=True),
    "henrici": Statistic("Henrici departure", "Henrici"),
    "self_alignment": Statistic("self-alignment", "self-align."),
    "forward_alignment": Statistic("forward alignment", "forward align."),
    "residual_norm": Statistic("‖J − I‖_F/√d", "‖J − I‖_F/√d", log=True),
}
SampledName = Literal["rho", "delta", "kappa", "pr", "frobenius"]
SAMPLED_LABELS: dict[str, Any] = {"labels": {name: kind.label for name, kind in SAMPLED.items()}}


@dataclass(frozen=True)
class JacobiansSlice(ModelSlice):
    """One model of a jacobians dataset."""

    @classmethod
    def of(cls, dataset: "xr.Dataset", selection: Selection) -> "JacobiansSlice":
        return cls(dataset, min(selection.model, dataset.sizes["model"] - 1))

    @property
    def every(self) -> "list[JacobiansSlice]":
        """All models of the dataset."""
        return [JacobiansSlice(self.dataset, index) for index in range(self.dataset.sizes["model"])]

    @property
    def width(self) -> int:
        return self.info.d_model

    @property
    def samples(self) -> int:
        return int(self.dataset.sizes["sample"])

    @property
    def context(self) -> str:
        return CONTEXTS[str(self.dataset.attrs["context"])]

    def title(self, what: str) -> str:
        """`what` of this model, in which context."""
        return f"{self.label}: {what} ({self.context})"

    def layer(self, selection: Selection) -> int:
        """The selected layer, inside this model."""
        return min(selection.layer, self.layers - 1)

    def sample(self, selection: Selection) -> int:
        """The selected sample, inside this dataset."""
        return min(selection.sample, self.samples - 1)

    @cached_property
    def _components(self) -> list[str]:
        return [str(component) for component in self.array("component")]

    def values(self, name: str, component: str) -> np.ndarray:
        """Variable `name` of `component`, (layers, …); NaN where it is not there or has not arrived."""
        if name == "condition":
            return self._condition(component)
        if name not in self.dataset or component not in self._components:
            sizes = [] if name not in self.dataset else list(self.array(name).shape[3:])
            return np.full((self.layers, *sizes), np.nan)
        return self.array(name)[self.model, self._components.index(component), : self.layers]

    def interval(self, name: str, component: str) -> tuple[Floats, Floats, Floats]:
        """Mean over samples by layer, between the ends of its interval."""
        low, mean, high = np.broadcast_to(self.values(f"{name}_interval", component).T, (3, self.layers))
        return low, mean, high

    def product(self, name: str) -> np.ndarray:
        """A variable of the product of all layers, (layers, …)."""
        if name not in self.dataset:
            return np.full(self.layers, np.nan)
        return self.dataset[name].isel(model=self.model).transpose("layer", ...).values[: self.layers]

    def _condition(self, component: str) -> np.ndarray:
        sigma = self.values("mean_singular_values", component)
        if sigma.ndim < 2:
            return sigma
        smallest = sigma[:, self.width - 1]
        with np.errstate(divide="ignore"):
            return sigma[:, 0] / smallest

    def measured(self, name: str) -> list[str]:
        """The components of which there is anything of `name`."""
        return [c for c in COMPONENTS if not np.isnan(self.values(name, c)).all()]

    def missing(self, name: str, component: str, what: str) -> str:
        """Why `what` of `component` cannot be drawn, and what to do."""
        there = [COMPONENTS[c] for c in self.measured(name)]
        if component in self.dataset["component"].values and not there:
            return NOTHING
        if not there:
            return f"This run has no {what} of {self.label}. Ask for it in a new run."
        here = " and ".join((", ".join(there[:-1]), there[-1]) if there[:-1] else there)
        return f"This run has no {what} of the {COMPONENTS[component]}, but of {here}: choose that above, or run anew."

    def absent(self, name: str, what: str) -> str:
        """Why `what`, which comes after all layers, cannot be drawn."""
        if name in self.dataset:
            return f"The {what} of {self.label} has not arrived yet: it needs every layer."
        return f"This run has no {what}. It belongs to runs of the whole block; ask for it in a new run."

    def spectrum(self, name: str, component: str, layer: int) -> np.ndarray:
        """Values along `mode` of one layer, without padding."""
        values = self.values(name, component)
        return values[layer, : self.width] if values.ndim == 2 else np.full(0, np.nan)

    def pick(self, layer: int, sample: int | None = None) -> Pick:
        return Pick(model=self.model, layer=layer, sample=sample)

    @cached_property
    def texts(self) -> list[tuple[str, str]]:
        """Every sample's text and the token at which its Jacobians were taken; empty where they are not kept."""
        kept = [
            self.dataset[name].values[self.model].tolist() if name in self.dataset else [""] * self.samples
            for name in ("sample_text", "sample_token")
        ]
        return [(str(text or ""), str(token or "")) for text, token in zip(*kept, strict=True)]

    @property
    def positions(self) -> Floats:
        """Where every sample's token stands in it, from 0; NaN where that was not kept."""
        kept = self.dataset.get("sample_position")
        return np.full(self.samples, np.nan) if kept is None else kept.values[self.model]

    def caveats(self, *more: str) -> str:
        """`more`, then what belongs under every plot, such as how well the closed forms were verified."""
        return "  ·  ".join(filter(None, (*more, self.note)))


def quote(text: str, room: int = 320) -> str:
    """A sample's text on one line; of a long one the end, where its Jacobian was taken."""
    line = " ".join(text.split())
    return f"“{line}”" if len(line) <= room else f"“… {line[-room:]}”"


def layer_axis(layers: int) -> Axis:
    step = max(1, int(np.ceil(layers / 16)))
    ticks = tuple((float(i), str(i)) for i in range(0, layers, step))
    return Axis("layer", ticks=ticks, limits=(-0.6, layers - 0.4))


def depth(layers: int) -> Floats:
    return np.arange(layers, dtype=float)
