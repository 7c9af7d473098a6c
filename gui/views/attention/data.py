"""Slices of the attention dataset that its views share. Nothing here computes a result; it finds and labels them."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from engine.studies import cited
from gui.plots.figure import Axis, Floats
from gui.plots.selection import Pick, Selection
from gui.views.model_slice import ModelSlice

if TYPE_CHECKING:
    import xarray as xr

NAME = "attention"
NOTHING = "No samples have arrived yet: the first ones are drawn as soon as they are computed."
SINK = 0.5
STATISTICS: dict[str, tuple[str, str]] = {
    "entropy": ("H̄", "mean entropy of the rows, nats"),
    "exp_entropy": ("exp H̄", "exp of the mean entropy: tokens that a token reads"),
    "erank": ("erank", "effective rank, exp of the entropy of σ/Σσ"),
    "r_l1l2": ("(Σσ)²/Σσ²", cited("effective rank (Σσ)²/Σσ² (S2 eq. 3)")),
    "stable_rank": ("‖A‖_F²/‖A‖₂²", "stable rank"),
    "frobenius": ("‖A‖_F", "Frobenius norm, between 1 and √T"),
    "spectral_norm": ("‖A‖₂", "spectral norm, between 1 and √T"),
    "top_eigenvalue": ("|λ₁|", "largest eigenvalue, 1 where rows sum to 1"),
    "second_eigenvalue": ("|λ₂|", "second largest eigenvalue; the first is 1"),
    "concentration": ("|λ₁|²/Σ|λ|²", "concentration of the eigenvalues"),
    "alpha_rank": ("α", "exponent of σᵢ ∝ i^−α"),
    "r2": ("R²", "of the fit of α; noise alone has a high one too"),
    "sparsity": ("sparsity", "share of allowed weights below ε/T"),
    "sink": ("sink", "mean weight that the other tokens put on the first one"),
}
Name = Literal[
    "entropy", "exp_entropy", "erank", "r_l1l2", "stable_rank", "frobenius", "spectral_norm", "top_eigenvalue",
    "second_eigenvalue", "concentration", "alpha_rank", "r2", "sparsity", "sink",
]  # fmt: skip
OF_HEAD: dict[str, tuple[str, str]] = {
    "norm_spectral_exponent": ("b of ‖A‖₂ ∝ n^b", "how ‖A‖₂ grows with the number of tokens n"),
    "norm_frobenius_exponent": ("a of ‖A‖_F ∝ n^a", "how ‖A‖_F grows with the number of tokens n"),
    "norm_spectral_of_bound": ("‖A‖₂/√n", "share of the exact bound √n at the longest length"),
    "sweep_crossing": ("s*", "sparsity at which erank/T meets 2 − ‖A‖₂"),
}
HeadName = Literal[
    Name, "norm_spectral_exponent", "norm_frobenius_exponent", "norm_spectral_of_bound", "sweep_crossing"
]


def _labels(statistics: dict[str, tuple[str, str]]) -> dict[str, Any]:
    return {"labels": {name: f"{symbol}: {meaning}" for name, (symbol, meaning) in statistics.items()}}


SYMBOLS: dict[str, Any] = {"labels": {name: symbol for name, (symbol, _) in STATISTICS.items()}}
LABELS, HEAD_LABELS = _labels(STATISTICS), _labels(STATISTICS | OF_HEAD)


@dataclass(frozen=True)
class AttentionSlice(ModelSlice):
    """One model of an attention dataset."""

    @classmethod
    def of(cls, dataset: "xr.Dataset", selection: Selection) -> "AttentionSlice":
        return cls(dataset, min(selection.model, dataset.sizes["model"] - 1))

    @property
    def heads(self) -> int:
        return self.info.n_heads

    @property
    def causal(self) -> bool:
        return self.info.causal

    def has(self, name: str) -> bool:
        """Whether this model has any number of this kind yet."""
        return name in self.dataset and bool(np.isfinite(self.array(name)[self.model]).any())

    def of_heads(self, name: str) -> np.ndarray:
        """A variable (layers, heads, …) of this model; NaN, with no more dimensions, where the run lacks it."""
        if name not in self.dataset:
            return np.full((self.layers, self.heads), np.nan)
        return self.array(name)[self.model, : self.layers, : self.heads]

    def sampled(self, name: str) -> Floats:
        """A statistic (layers, heads, samples); NaN where the run lacks it."""
        values = self.of_heads(name)
        return values if values.ndim == 3 else values[..., None]

    def mean(self, name: str) -> Floats:
        """The mean over the samples that are there, (layers, heads)."""
        values = self.sampled(name)
        counts = np.isfinite(values).sum(-1)
        return np.where(counts > 0, np.nansum(values, -1) / np.maximum(counts, 1), np.nan)

    def head(self, selection: Selection) -> tuple[int, int]:
        """The selected layer and head, inside this model."""
        return min(selection.layer, self.layers - 1), min(selection.head, self.heads - 1)

    def sample(self, selection: Selection) -> int:
        """The selected sample, inside this dataset."""
        return min(selection.sample, int(self.dataset.sizes["sample"]) - 1)

    def spectra(self, name: str, head: tuple[int, int]) -> np.ndarray:
        """A spectrum of one head, (samples, modes); what has not arrived, and padding, is NaN."""
        return self.of_heads(name)[head]

    @property
    def tokens(self) -> np.ndarray:
        """How many tokens every sample has; 0 before it has arrived."""
        return self.array("tokens")[self.model]

    def text(self, sample: int, room: int = 260) -> str:
        """The beginning of a sample's text in one line."""
        if "sample_text" not in self.dataset:
            return ""
        line = " ".join(str(self.array("sample_text")[self.model, sample] or "").split())
        return f"“{line}”" if len(line) <= room else f"“{line[:room].rstrip()} …”"

    def sentence(self, sample: int, room: int = 260) -> str:
        """Which sample it is, and what it says."""
        return f"Sample {sample}: {text}" if (text := self.text(sample, room)) else ""

    def pick(self, head: tuple[int, int], sample: int | None = None) -> Pick:
        return Pick(model=self.model, layer=int(head[0]), head=int(head[1]), sample=sample)

    def title(self, what: str, selection: Selection, sample: bool = True) -> str:
        """`what` of the selected head, on the selected sample."""
        layer, head = self.head(selection)
        on = f", sample {self.sample(selection)}" if sample else ""
        return f"{self.label}: {what} of layer {layer}, head {head}{on}"

    def params(self) -> dict[str, Any]:
        """What the run was asked for; nothing where there was no run."""
        found: dict[str, Any] = json.loads(self.dataset.attrs.get("request", "{}")).get("params", {})
        return found

    def missing(self, name: str, what: str, field: str) -> str:
        """Why `what` is not there, and what to do."""
        if "request" not in self.dataset.attrs:
            return f"A sentence alone has no {what}: run the analysis for that."
        if name in self.dataset or self.params().get(field):
            return f"The {what} of {self.label} have not arrived yet: they are drawn as soon as they are computed."
        return f"This run has no {what}. Ask for them in a new run."

    def caveats(self, *more: str) -> str:
        """`more`, then the notes of this model."""
        notes = json.loads(self.dataset.attrs.get("notes", "[]"))
        mine = [note for note in notes if note.startswith(f"{self.label}:") or ": " not in note]
        return "  ·  ".join(filter(None, (*more, *mine)))


def number_axis(name: str, count: int, inverted: bool = False) -> Axis:
    """An axis of layers or heads."""
    step = max(1, int(np.ceil(count / 16)))
    ticks = tuple((float(i), str(i)) for i in range(0, count, step))
    return Axis(name, ticks=ticks, limits=(-0.5, count - 0.5), inverted=inverted)


def quantiles(values: Floats, at: tuple[float, ...] = (0.05, 0.5, 0.95)) -> Floats:
    """Quantiles over the rows that are there, (quantile, columns); NaN where none is."""
    rows = values[np.isfinite(values).any(1)]
    found = np.full((len(at), values.shape[1]), np.nan)
    there = np.isfinite(rows).any(0)
    if there.any():
        whole = rows[:, there]
        found[:, there] = (np.quantile if np.isfinite(whole).all() else np.nanquantile)(whole, at, axis=0)
    return found


def ring(x: float, y: float, label: str = "selected") -> dict[str, Any]:
    """Arguments of the mark around what is selected."""
    return {"x": np.array([x]), "y": np.array([y]), "label": label, "color": "accent", "size": 13, "filled": False}
