"""Slices of an attention dataset, and the statistics that its views offer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from engine.analyses.registry import variables_of
from gui.plots.figure import Axis, Floats
from gui.plots.selection import Pick, Selection
from gui.views.model_slice import ModelSlice

if TYPE_CHECKING:
    import xarray as xr

NAME = "attention"
NOTHING = "No samples have arrived yet: the first ones are drawn as soon as they are computed."
VARIABLES = variables_of(NAME)
STATISTICS = tuple(
    name for name, v in VARIABLES.items() if v.role == "statistic" and v.dims == ("model", "layer", "head", "sample")
)
"""One number for every head and sample."""
HEAD_STATISTICS = (
    *STATISTICS,
    *(name for name, v in VARIABLES.items() if v.role == "statistic" and v.dims == ("model", "layer", "head")),
)
"""`STATISTICS`, and one number for every head."""
if TYPE_CHECKING:
    Statistic = str
    HeadStatistic = str
else:
    Statistic = Literal[STATISTICS]
    HeadStatistic = Literal[HEAD_STATISTICS]
LABELS: dict[str, Any] = {"labels": {name: VARIABLES[name].label for name in HEAD_STATISTICS}}
SYMBOLS: dict[str, Any] = {"labels": {name: VARIABLES[name].symbol for name in STATISTICS}}


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
        """Whether any value of a variable has arrived for this model."""
        return name in self.dataset and bool(np.isfinite(self.array(name)[self.model]).any())

    def of_heads(self, name: str) -> np.ndarray:
        """A variable of this model, (layers, heads, …); NaN of shape (layers, heads) where the run lacks it."""
        if name not in self.dataset:
            return np.full((self.layers, self.heads), np.nan)
        return self.array(name)[self.model, : self.layers, : self.heads]

    def sampled(self, name: str) -> Floats:
        """A statistic (layers, heads, samples); NaN where the run lacks it."""
        values = self.of_heads(name)
        return values if values.ndim == 3 else values[..., None]

    def mean(self, name: str) -> Floats:
        """The mean over the samples that have arrived, (layers, heads)."""
        values = self.sampled(name)
        counts = np.isfinite(values).sum(-1)
        return np.where(counts > 0, np.nansum(values, -1) / np.maximum(counts, 1), np.nan)

    def sample(self, selection: Selection) -> int:
        """The selected sample, inside this dataset."""
        return min(selection.sample, int(self.dataset.sizes["sample"]) - 1)

    def spectra(self, name: str, head: tuple[int, int]) -> np.ndarray:
        """A spectrum of one head, (samples, modes), NaN where absent or padded."""
        return self.of_heads(name)[head]

    @property
    def tokens(self) -> np.ndarray:
        """Tokens of every sample; 0 before it has arrived."""
        return self.array("tokens")[self.model]

    def text(self, sample: int, width: int = 260) -> str:
        """A sample's text on one line, cut to `width` characters."""
        if "sample_text" not in self.dataset:
            return ""
        line = " ".join(str(self.array("sample_text")[self.model, sample] or "").split())
        return f"“{line}”" if len(line) <= width else f"“{line[:width].rstrip()} …”"

    def sentence(self, sample: int, width: int = 260) -> str:
        """The sample's number and its text."""
        return f"Sample {sample}: {text}" if (text := self.text(sample, width)) else ""

    def pick(self, head: tuple[int, int], sample: int | None = None) -> Pick:
        return Pick(model=self.model, layer=int(head[0]), head=int(head[1]), sample=sample)

    def title(self, what: str, selection: Selection, sample: bool = True) -> str:
        """`what` of the selected head, on the selected sample."""
        layer, head = self.selected_head(selection)
        suffix = f", sample {self.sample(selection)}" if sample else ""
        return f"{self.label}: {what} of layer {layer}, head {head}{suffix}"

    @property
    def params(self) -> Mapping[str, Any]:
        """Parameters of the run; empty for a typed sentence."""
        request = self.header.request
        return request.params if request is not None else {}

    def missing(self, name: str, what: str, field: str) -> str:
        """Why `what` is missing, and what to do."""
        if self.header.request is None:
            return f"A sentence alone has no {what}: run the analysis for that."
        if name in self.dataset or self.params.get(field):
            return f"The {what} of {self.label} have not arrived yet: they are drawn as soon as they are computed."
        return f"This run has no {what}. Ask for them in a new run."

    def caveats(self, *more: str) -> str:
        """`more`, then the notes of this model."""
        notes = self.header.notes
        mine = [note for note in notes if note.startswith(f"{self.label}:") or ": " not in note]
        return "  ·  ".join(filter(None, (*more, *mine)))


def number_axis(name: str, count: int, inverted: bool = False) -> Axis:
    """An axis of layers or heads."""
    step = max(1, int(np.ceil(count / 16)))
    ticks = tuple((float(i), str(i)) for i in range(0, count, step))
    return Axis(name, ticks=ticks, limits=(-0.5, count - 0.5), inverted=inverted)


def quantiles(values: Floats, at: tuple[float, ...] = (0.05, 0.5, 0.95)) -> Floats:
    """Quantiles over the rows that hold values, (quantile, columns); NaN in empty columns."""
    rows = values[np.isfinite(values).any(1)]
    result = np.full((len(at), values.shape[1]), np.nan)
    filled = np.isfinite(rows).any(0)
    if filled.any():
        columns = rows[:, filled]
        result[:, filled] = (np.quantile if np.isfinite(columns).all() else np.nanquantile)(columns, at, axis=0)
    return result
