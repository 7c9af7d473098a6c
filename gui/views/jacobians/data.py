"""Slices of the jacobians dataset that its views share. Nothing here computes a result; it finds and labels them."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from engine.analyses.jacobians.variables import HEAD
from engine.analyses.registry import variables_of
from engine.analyses.variables import Variable
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
    return f"Layer {layer} is missing: either it has not arrived yet, or this run was not asked for it."


SampledName = Literal["rho", "delta", "kappa", "pr", "frobenius"]
OperatorName = Literal[
    "complex_fraction", "expanding_fraction", "spectral_radius", "condition", "henrici", "self_alignment",
    "forward_alignment", "residual_norm",
]  # fmt: skip
SAMPLED: tuple[str, ...] = get_args(SampledName)
"""Statistics of every sample, in the order of the choices."""
OPERATOR: tuple[str, ...] = get_args(OperatorName)
"""Statistics of the mean operator, in the order of the panels."""
VARIABLES = {
    **variables_of("jacobians"),
    # Not on disk: the views take it from the mean Jacobian's singular values.
    "condition": Variable("condition", HEAD, "σ₁/σ_d", "condition number σ₁/σ_d", log=True),
}
SAMPLED_LABELS: dict[str, Any] = {"labels": {name: VARIABLES[name].label for name in SAMPLED}}


def axis_of(variable: Variable) -> Axis:
    return Axis(variable.label, log=variable.log)


def reading_of(variable: Variable) -> str:
    """How to read its values, as a sentence under the plot; empty where that is plain."""
    return variable.reading[:1].upper() + variable.reading[1:]


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
        return CONTEXTS[str(self.header.settings["context"])]

    def title(self, what: str) -> str:
        """A title: `what` of this model, in which context."""
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
        """Variable `name` of `component`, (layers, …); NaN where it is absent or has not arrived."""
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

    def of_kappa(self, components: Iterable[str], *names: str) -> str:
        """What has to be said of these components where κ is among the variables that are shown; empty elsewhere."""
        said = json.loads(str(self.header.settings.get("kappa") or "{}")) if "kappa" in names else {}
        return "; ".join(f"κ of the {COMPONENTS[c]} is {sentence}" for c in components for sentence in said.get(c, ()))

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
        """The components that have any value of `name`."""
        return [c for c in COMPONENTS if not np.isnan(self.values(name, c)).all()]

    def missing(self, name: str, component: str, what: str) -> str:
        """Why `what` of `component` cannot be drawn, and what to do."""
        present = [COMPONENTS[c] for c in self.measured(name)]
        if component in self.dataset["component"].values and not present:
            return NOTHING
        if not present:
            return f"This run has no {what} of {self.label}. Ask for it in a new run."
        listing = " and ".join((", ".join(present[:-1]), present[-1]) if present[:-1] else present)
        return (
            f"This run has no {what} of the {COMPONENTS[component]}, but of {listing}: choose that above, or run anew."
        )

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
