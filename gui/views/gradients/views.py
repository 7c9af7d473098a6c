"""The views of the `gradients` analysis, in the order of their tabs."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from engine.studies import cited
from gui.plots.figure import Figure
from gui.plots.selection import Selection
from gui.views import claims
from gui.views.base import Options, View
from gui.views.gradients import samples
from gui.views.power_laws import depth, inspection, loss, spectrum

if TYPE_CHECKING:
    import xarray as xr

NAME = "gradients"
LABELS: dict[str, Any] = {"labels": depth.STATISTICS}
SPREADS: dict[str, Any] = {"labels": depth.SPREADS}
OF_SIGMA = cited("α is that of λ = σ²; S1 §2.1.2 fits σ itself, so its exponents are half of these")


class LayersOptions(Options):
    statistic: Literal["alpha_rank", "pr", "r2"] = Field("alpha_rank", title="Show", json_schema_extra=LABELS)
    noise: bool = Field(True, title="Noise", description="α of iid Gaussian noise of the same shape and trace")
    points: bool = Field(True, title="Seeds", description="Each seed's own value")
    spread: depth.Spread = Field("interval", title="Bands", description="Over seeds", json_schema_extra=SPREADS)


class TrendOptions(Options):
    noise: bool = Field(False, title="Noise", description="α of iid Gaussian noise of the same shape and trace")


def layers(dataset: "xr.Dataset", selection: Selection, options: LayersOptions) -> Figure:
    figure = depth.by_layer(dataset, selection, options.statistic, options.noise, options.points, options.spread)
    return replace(figure, note=f"{OF_SIGMA}  ·  {figure.note}")


def trends(dataset: "xr.Dataset", selection: Selection, options: TrendOptions) -> Figure:
    return depth.trends(dataset, selection, options.noise)


def navigator(dataset: "xr.Dataset", selection: Selection, options: Options) -> Figure:
    return inspection.navigator(dataset, selection)


INSPECT = inspection.inspect
NAVIGATOR = View("navigator", "Navigator", NAME, NAME, Options, navigator)
VIEWS: tuple[View, ...] = (
    View("layers", "By layer", NAME, NAME, LayersOptions, layers),
    View("spectrum", "Spectrum", NAME, NAME, spectrum.SpectrumOptions, spectrum.spectrum),
    View("residuals", "Residuals", NAME, NAME, spectrum.ResidualOptions, spectrum.residuals),
    View("loss", "α and loss", NAME, NAME, loss.LossOptions, loss.against_loss),
    View("samples", "Sequences", NAME, NAME, samples.SampleOptions, samples.losses),
    View("trends", "Trends", NAME, NAME, TrendOptions, trends),
    View("claims", "Claims", NAME, NAME, claims.ClaimOptions, claims.claims),
)
