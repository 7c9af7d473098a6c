"""Slices of the communities dataset that its views share. Nothing here computes a result; it finds and labels them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from gui.plots.figure import Axis
from gui.plots.selection import Selection
from gui.views.model_slice import ModelSlice

if TYPE_CHECKING:
    import xarray as xr

NAME = "communities"
Site = Literal["attn", "mlp"]
SITES: dict[str, str] = {"attn": "before attention", "mlp": "before the MLP"}
SITE_LABELS: dict[str, Any] = {"labels": SITES}
SIGNIFICANT = 0.05
COLORS = 8
NOTHING = "No layer has been computed yet: communities appear here as their layers arrive."
JACOBIAN = "column norm ‖J eᵢ‖ of the mean Jacobian"


@dataclass(frozen=True)
class CommunitiesSlice(ModelSlice):
    """One model of a communities dataset."""

    @classmethod
    def of(cls, dataset: "xr.Dataset", selection: Selection) -> Self:
        return cls(dataset, min(selection.model, dataset.sizes["model"] - 1))

    @property
    def every(self) -> list[Self]:
        """All models of the dataset."""
        return [type(self)(self.dataset, index) for index in range(self.dataset.sizes["model"])]

    @property
    def untrained(self) -> Self | None:
        """The twin of this model, or else that of another revision: training made neither."""
        others = (one for one in self.every if one.info.twin and one.info.source == self.info.source)
        return None if self.info.twin else self.twin or next(others, None)

    def layer(self, selection: Selection) -> int:
        """The selected layer, inside this model."""
        return min(selection.layer, self.layers - 1)

    def unit(self, selection: Selection) -> int:
        """The selected unit, inside this model."""
        return min(selection.unit, self.info.d_model - 1)

    def values(self, name: str, site: str, layer: int | None = None) -> Any:
        """A variable (model, site, layer, …) of this model at a site: of all its layers, or of one."""
        found = self.array(name)[self.model, list(SITES).index(site), : self.layers]
        return found if layer is None else found[layer]

    def number(self, name: str, site: str, layer: int) -> float:
        return float(self.values(name, site, layer))

    @property
    def arrived(self) -> "np.ndarray[Any, Any]":
        """Layers of which there is something at either site."""
        names = [self.values("n_communities", site) for site in SITES]
        return np.flatnonzero(np.isfinite(names).any(0))

    def missing(self, site: str, layer: int) -> str:
        """Why there is nothing to draw of a snapshot; empty if there is."""
        if not self.arrived.size:
            return NOTHING
        if layer not in self.arrived:
            return f"Layer {layer} has not arrived yet: it is drawn as soon as it is computed."
        if np.isnan(self.values("n_communities", site)).all():
            return f"{self.label} has no snapshot {SITES[site]}: its architecture does not say where its MLP begins."
        return ""

    def colors(self, site: str, layer: int) -> "np.ndarray[Any, Any]":
        """A colour number for each unit, that of its community's line through the layers; −1 in a degenerate one."""
        membership, lineage = (self.values(name, site, layer) for name in ("membership", "lineage"))
        sizes = self.values("community_size", site, layer)
        proper = np.isfinite(membership) & (membership < np.isfinite(sizes).sum())
        found = np.full(len(membership), -1)
        found[proper] = lineage[membership[proper].astype(int)].astype(int) % COLORS
        return found

    def tails(self, site: str, layer: int) -> tuple["np.ndarray[Any, Any]", "np.ndarray[Any, Any]"]:
        """Units of the top and of the bottom 10 % of participation, as the test took them."""
        participation = self.values("participation", site, layer)
        order = np.argsort(np.where(np.isfinite(participation), participation, np.inf), kind="stable")
        order = order[: int(np.isfinite(participation).sum())]
        top, bottom = (self.number(name, site, layer) for name in ("tail_top", "tail_bottom"))
        top, bottom = (0 if np.isnan(count) else int(count) for count in (top, bottom))
        return order[len(order) - top :], order[:bottom]

    def title(self, what: str, site: str | None = None, layer: int | None = None) -> str:
        where = f", {SITES[site]}" if site else ""
        return f"{self.label}: {what}{where}" + (f" of layer {layer}" if layer is not None and site else "")

    def caveats(self, *more: str) -> str:
        """`more`, then the notes of this model."""
        mine = [note for note in self.note.split("  ·  ") if note.startswith((f"{self.label}:", f"{self.label},"))]
        return "  ·  ".join(filter(None, (*more, *mine)))

    def describe(self, site: str, layer: int, units: "np.ndarray[Any, Any]") -> tuple[str, ...]:
        """Each of `units` in words."""
        names = ("membership", "participation", "degree", "column_norm")
        columns = (self.values(name, site, layer)[units].tolist() for name in names)
        return tuple(
            f"unit {unit}: constant, in no community"
            if np.isnan(community)
            else f"unit {unit}, community {int(community)}: P = {p:.3g}, Σ|r| = {degree:.3g}, ‖J eᵢ‖ = {norm:.3g}"
            for unit, community, p, degree, norm in zip(units.tolist(), *columns, strict=True)
        )


def layer_axis(layers: int, label: str = "layer") -> Axis:
    step = max(1, int(np.ceil(layers / 16)))
    return Axis(label, ticks=tuple((float(i), str(i)) for i in range(0, layers, step)), limits=(-0.6, layers - 0.4))


def said(number: float, digits: int = 3) -> str:
    """A number, or a dash for what is absent."""
    return "–" if np.isnan(number) else f"{number:.{digits}g}"
