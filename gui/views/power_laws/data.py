"""Slices of spectra with power laws along rank, of activations or gradients."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from engine.analyses.conditions import Condition, conditions
from engine.analyses.registry import variables_of
from engine.analyses.variables import Variable
from engine.spectra import power_law
from engine.spectra.power_law import RankFit
from gui.plots.figure import Axis, Floats
from gui.plots.selection import Pick, Selection
from gui.views.model_slice import ModelSlice

if TYPE_CHECKING:
    import xarray as xr

NOTHING = "No spectrum has arrived yet: the first ones are drawn as soon as they are computed."
PLAIN = ("c0", "c1", "c2", "c4", "c5", "c6", "c7")
"""Colours of conditions, without c3, which is too close to that of twins."""


SITES = {
    "embedding": "embedding",
    "ln1": "norm 1",
    "attn_out": "attention output",
    "ln1_post": "norm after attention",
    "resid_mid": "after attention",
    "ln2": "norm 2",
    "mlp_gate": "MLP gate",
    "mlp_in": "MLP, first linear",
    "mlp_act": "MLP activation",
    "mlp_out": "MLP output",
    "ln2_post": "norm after the MLP",
    "resid_post": "after the MLP",
    "block": "block output",
    "final_norm": "final norm",
}


@dataclass(frozen=True)
class PowerLawSlice(ModelSlice):
    """The spectra of one dataset at one site; gradients have none."""

    site: int = -1

    @classmethod
    def of(cls, dataset: "xr.Dataset", selection: Selection) -> "PowerLawSlice":
        model, site = min(selection.model, dataset.sizes["model"] - 1), -1
        if "site" in dataset.dims:
            names = list(dataset["site"].values)
            first = names.index("block") if "block" in names else 0
            site = selection.site if 0 <= selection.site < len(names) else first
        return cls(dataset, model, site)

    @property
    def variables(self) -> dict[str, Variable]:
        """The declared variables of this analysis."""
        return variables_of(self.header.analysis)

    @cached_property
    def spectrum(self) -> Variable:
        """The variable that holds the spectra: λ of activations, σ of gradients."""
        return next(v for v in self.variables.values() if v.role == "spectrum")

    @property
    def power(self) -> int:
        """The power of the spectrum that follows the law, which is always that of λ = σ²."""
        return 2 if self.spectrum.name == "singular_values" else 1

    @property
    def help(self) -> str:
        """The help page of this analysis."""
        return self.header.analysis

    @cached_property
    def sites(self) -> list[str]:
        """Names of all sites, in the order of the forward pass; empty for gradients."""
        return [str(name) for name in self.dataset["site"].values] if self.site >= 0 else []

    @property
    def place(self) -> str:
        """The selected site in plain words."""
        return self.name_of(self.site) if self.site >= 0 else "gradients"

    def name_of(self, site: int) -> str:
        """A site in plain words."""
        return SITES.get(self.sites[site], self.sites[site])

    @cached_property
    def conditions(self) -> tuple[Condition, ...]:
        return conditions(self.dataset, self.spectrum.name)

    @cached_property
    def colors(self) -> dict[str, str]:
        """A colour for each condition, by its label; the only random one has the twins'."""
        random = [c for c in self.conditions if c.kind == "random"]
        plain = [c for c in self.conditions if c not in random or len(random) > 1]
        return {c.label: PLAIN[i % len(PLAIN)] for i, c in enumerate(plain)} | {
            c.label: "twin" for c in random if c not in plain
        }

    @cached_property
    def current(self) -> Condition | None:
        """The first condition that the selected model belongs to."""
        return next((c for c in self.conditions if self.model in c.models), next(iter(self.conditions), None))

    @property
    def depth(self) -> int:
        """Layers of the deepest model."""
        return int(self.dataset.sizes["layer"])

    def layer(self, selection: Selection) -> int:
        """The selected layer, inside this dataset."""
        return min(selection.layer, self.depth - 1)

    def has(self, name: str) -> bool:
        return name in self.dataset and bool(np.isfinite(self.dataset[name].values).any())

    def at(self, condition: Condition, name: str, site: int | None = None) -> Floats:
        """A variable of one condition at a site, this one by default: (seed, layer, …), or (seed, …) without layers."""
        values = condition.of(self.dataset[name].values)
        return values[:, self.site if site is None else site] if "site" in self.dataset[name].dims else values

    def spectra(self, condition: Condition, site: int | None = None, noise: bool = False) -> Floats:
        """Spectra of all layers, (seed, layer, mode), with zeros below the floor of rounding."""
        values = self.at(condition, f"noise_{self.spectrum.name}" if noise else self.spectrum.name, site)
        if "floor" in self.dataset and not noise:
            values = np.where(values > self.at(condition, "floor")[..., None], values, np.where(values >= 0, 0, np.nan))
        return values

    def fit(self, spectra: Floats, start: int, stop: int) -> RankFit:
        """The power law of λ over ranks start … stop, with seeds and layers as they come.

        Raises
        ------
        UserError
            If the window holds fewer than five ranks.
        """
        return power_law.fit(spectra**self.power, start, stop)

    def line(self, fitted: RankFit) -> Floats:
        """The fitted spectrum at the ranks of its window."""
        return fitted.line() ** (1 / self.power)

    @property
    def run_window(self) -> tuple[int, int]:
        """First and last rank of the run's fits."""
        settings = self.header.settings
        return int(settings["fit_start"]), int(settings["fit_stop"])

    def window(self, start: int, stop: int) -> tuple[int, int]:
        """The window of a view's options, where 0 is the run's own."""
        first, last = self.run_window
        return start or first, stop or last

    def seeds(self, condition: Condition) -> list[int]:
        """The seed of each of its models."""
        return [int(self.dataset["seed"].values[m]) for m in condition.models]

    def pick(self, condition: Condition, layer: int, site: int | None = None) -> Pick:
        chosen = self.site if site is None else site
        return Pick(model=condition.models[0], layer=layer, site=None if chosen < 0 else chosen)

    def proportions(self, condition: Condition) -> str:
        """N/d, on which every spectrum of a finite sample depends; empty for gradients, whose notes give it."""
        if self.site < 0:
            return ""
        n = float(np.nanmean(self.at(condition, "positions")))
        ratio = float(np.nanmean(self.at(condition, "positions_per_dim")))
        return f"N/d = {n:,.0f}/{n / ratio:,.0f} = {ratio:.3g}"

    def caveats(self, *more: str) -> str:
        """`more`, then the notes of the run."""
        return "  ·  ".join(filter(None, (*more, self.note)))


def layer_axis(layers: int) -> Axis:
    step = max(1, int(np.ceil(layers / 16)))
    return Axis("layer", ticks=tuple((float(i), str(i)) for i in range(0, layers, step)), limits=(-0.6, layers - 0.4))


def ranked(spectrum: Floats) -> tuple[Floats, Floats]:
    """Ranks from 1, and the spectrum, up to its last positive value."""
    width = int(np.flatnonzero(spectrum > 0).max(initial=-1)) + 1
    return np.arange(1, width + 1, dtype=float), np.where(spectrum[:width] > 0, spectrum[:width], np.nan)


def geometric_mean(spectra: Floats) -> Floats:
    """Over the first axis; NaN where any is absent or zero, so that slopes of it are means of slopes."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(spectra)
    return np.exp(np.where(np.isfinite(logs).all(0), np.where(np.isfinite(logs), logs, 0).mean(0), np.nan))
