"""The views of the `attention` analysis, in the order of their tabs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from gui.figure import Axis, Figure, Floats, Image, Line, Mark, Panel, Points
from gui.reading import Reading, Row
from gui.selection import Pick, Selection
from gui.views.base import Options, View
from gui.views.measured import Measured

if TYPE_CHECKING:
    import xarray as xr

NAME = "attention"
NOTHING = "No samples have arrived yet: the first ones are drawn as soon as they are computed."
STATISTICS: dict[str, tuple[str, str]] = {
    "entropy": ("H̄", "mean entropy of the rows, nats"),
    "exp_entropy": ("exp H̄", "exp of the mean entropy: tokens that a token reads"),
    "erank": ("erank", "effective rank, exp of the entropy of σ/Σσ"),
    "r_l1l2": ("(Σσ)²/Σσ²", "S2’s effective rank (Σσ)²/Σσ²"),
    "stable_rank": ("‖A‖_F²/‖A‖₂²", "stable rank"),
    "frobenius": ("‖A‖_F", "Frobenius norm, between 1 and √T"),
    "spectral_norm": ("‖A‖₂", "spectral norm, between 1 and √T"),
    "second_eigenvalue": ("|λ₂|", "second largest eigenvalue; the first is 1"),
    "concentration": ("|λ₁|²/Σ|λ|²", "concentration of the eigenvalues"),
    "alpha_rank": ("α", "exponent of σᵢ ∝ i^−α"),
    "sparsity": ("sparsity", "share of allowed weights below ε/T"),
    "sink": ("sink", "mean weight that the other tokens put on the first one"),
}
Name = Literal[
    "entropy", "exp_entropy", "erank", "r_l1l2", "stable_rank", "frobenius", "spectral_norm", "second_eigenvalue",
    "concentration", "alpha_rank", "sparsity", "sink",
]  # fmt: skip
LABELS: dict[str, Any] = {"labels": {name: f"{symbol}: {meaning}" for name, (symbol, meaning) in STATISTICS.items()}}


@dataclass(frozen=True)
class Attention(Measured):
    """One model of an attention dataset."""

    @classmethod
    def of(cls, dataset: "xr.Dataset", selection: Selection) -> "Attention":
        return cls(dataset, min(selection.model, dataset.sizes["model"] - 1))

    @property
    def heads(self) -> int:
        return int(self.info["n_heads"])

    def sampled(self, name: str) -> Floats:
        """A statistic (layers, heads, samples); NaN where the run lacks it."""
        if name not in self.dataset:
            return np.full((self.layers, self.heads, 1), np.nan)
        return self.dataset[name].values[self.model, : self.layers, : self.heads]

    def mean(self, name: str) -> Floats:
        """The mean over the samples that are there, (layers, heads)."""
        values = self.sampled(name)
        counts = np.isfinite(values).sum(-1)
        return np.where(counts > 0, np.nansum(values, -1) / np.maximum(counts, 1), np.nan)

    def head(self, selection: Selection) -> tuple[int, int]:
        """The selected layer and head, inside this model."""
        return min(selection.layer, self.layers - 1), min(selection.head, self.heads - 1)


def _axis(name: str, count: int) -> Axis:
    step = max(1, int(np.ceil(count / 16)))
    ticks = tuple((float(i), str(i)) for i in range(0, count, step))
    return Axis(name, ticks=ticks, limits=(-0.5, count - 0.5))


class LayerOptions(Options):
    statistic: Name = Field("spectral_norm", title="Show", json_schema_extra=LABELS)
    twin: bool = Field(True, title="Twin", description="The random-init twin")


def by_layer(dataset: "xr.Dataset", selection: Selection, options: LayerOptions) -> Figure:
    """One statistic, the mean over the samples, of every head against its layer."""
    attention = Attention.of(dataset, selection)
    symbol, meaning = STATISTICS[options.statistic]
    if options.statistic not in dataset:
        return Figure(empty=f"This run has no {meaning}: it needs the singular values. Ask for them in a new run.")
    values = attention.mean(options.statistic)
    if not np.isfinite(values).any():
        return Figure(empty=NOTHING)
    marks: list[Mark] = []
    if options.twin and (twin := attention.twin) is not None:
        marks.append(_profile(twin, options.statistic, "random-init twin, mean over heads", "twin"))
    layer, head = np.mgrid[: attention.layers, : attention.heads].reshape(2, -1)
    picks = tuple(Pick(model=attention.model, layer=int(i), head=int(h)) for i, h in zip(layer, head, strict=True))
    hover = tuple(
        f"layer {i}, head {h}: {symbol} = {value:.4g}" for i, h, value in zip(layer, head, values.ravel(), strict=True)
    )
    # Heads stand beside each other, so that those with one value are seen.
    spread = (head - (attention.heads - 1) / 2) * 0.5 / attention.heads
    marks.append(Points(layer + spread, values.ravel(), "heads", picks=picks, hover=hover))
    marks.append(_profile(attention, options.statistic, "mean over heads", "accent"))
    i, h = attention.head(selection)
    at = i + (h - (attention.heads - 1) / 2) * 0.5 / attention.heads
    marks.append(Points(np.array([at]), values[i, h : h + 1], "selected", "accent", size=13, filled=False))
    panel = Panel(_axis("layer", attention.layers), Axis(meaning), tuple(marks))
    title = f"{attention.label}: {symbol} of every head, mean over the samples"
    return Figure(((panel,),), title=title, note=attention.note)


def _profile(attention: Attention, name: str, label: str, color: str) -> Line:
    values = attention.mean(name)
    counts = np.isfinite(values).sum(1)
    mean = np.where(counts > 0, np.nansum(values, 1) / np.maximum(counts, 1), np.nan)
    return Line(np.arange(attention.layers, dtype=float), mean, label, color, width=2)


class NavigatorOptions(Options):
    statistic: Name = Field("spectral_norm", title="Colour by", json_schema_extra=LABELS)


def navigator(dataset: "xr.Dataset", selection: Selection, options: NavigatorOptions) -> Figure:
    """The layer × head grid coloured by one statistic, the mean over the samples; the current head is outlined."""
    attention = Attention.of(dataset, selection)
    values = attention.mean(options.statistic)
    if not np.isfinite(values).any():
        return Figure(empty=NOTHING)
    layers, heads = values.shape
    layer, head = attention.head(selection)
    picks = tuple(tuple(Pick(attention.model, i, h) for i in range(layers)) for h in range(heads))
    x_edges, y_edges = (np.arange(count + 1) - 0.5 for count in (layers, heads))
    label = STATISTICS[options.statistic][0]
    image = Image(values.T, x_edges, y_edges, label=label, picks=picks, marked=((head, layer),))
    y = _axis("head", heads)
    panel = Panel(_axis("layer", layers), Axis(y.label, ticks=y.ticks, limits=y.limits, inverted=True), (image,))
    return Figure(((panel,),), legend=False)


def read_head(dataset: "xr.Dataset", selection: Selection) -> Reading:
    """Statistics of the selected head, means over the samples, beside the random-init twin's."""
    attention = Attention.of(dataset, selection)
    layer, head = attention.head(selection)
    title, columns = f"Layer {layer}, head {head}", ("", "value", "twin")
    if np.isnan(attention.mean("spectral_norm")[layer, head]):
        return Reading(title, attention.label, columns, verdict=NOTHING, help=NAME)
    twin = attention.twin
    rows = tuple(
        Row(
            symbol,
            f"{meaning}; mean over the samples",
            float(attention.mean(name)[layer, head]),
            float(twin.mean(name)[layer, head]) if twin is not None else float("nan"),
        )
        for name, (symbol, meaning) in STATISTICS.items()
        if np.isfinite(attention.mean(name)[layer, head])
    )
    return Reading(title, attention.label, columns, rows, _verdict(attention, layer, head), help=NAME)


def _verdict(attention: Attention, layer: int, head: int) -> str:
    """Where the head's spectral norm lies between its bounds, and whether it is a sink."""
    norms = attention.sampled("spectral_norm")[layer, head]
    tokens = attention.dataset["tokens"].values[attention.model][: len(norms)]
    there = np.isfinite(norms)
    share = float(np.mean(norms[there] / np.sqrt(tokens[there])))
    sink = attention.mean("sink")[layer, head]
    kind = "A sink head: its" if sink >= 0.5 else "Its"
    return f"{kind} tokens put {sink:.0%} of their weight on the first one; ‖A‖₂ is {share:.0%} of the bound √T."


READ = read_head
NAVIGATOR = View("navigator", "Navigator", NAME, NAME, NavigatorOptions, navigator)
VIEWS: tuple[View, ...] = (View("layers", "By layer", NAME, NAME, LayerOptions, by_layer),)
