"""The views of the `activations` analysis, in the order of their tabs."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from gui.figure import Figure
from gui.selection import Selection
from gui.views import activations_density as density
from gui.views import activations_sites as sites
from gui.views import claims, fits_depth, fits_reading, fits_spectrum
from gui.views.base import Options, View

if TYPE_CHECKING:
    import xarray as xr

NAME = "activations"
LABELS: dict[str, Any] = {"labels": fits_depth.STATISTICS}
SPREADS: dict[str, Any] = {"labels": fits_depth.SPREADS}


class LayersOptions(Options):
    statistic: Literal["alpha_rank", "r2", "trace"] = Field("alpha_rank", title="Show", json_schema_extra=LABELS)
    noise: bool = Field(True, title="Noise", description="α of iid Gaussian noise of the same N, d and trace")
    points: bool = Field(True, title="Seeds", description="Each seed's own value")
    spread: fits_depth.Spread = Field("interval", title="Bands", description="Over seeds", json_schema_extra=SPREADS)


class TrendOptions(Options):
    noise: bool = Field(False, title="Noise", description="α of iid Gaussian noise of the same N, d and trace")


def layers(dataset: "xr.Dataset", selection: Selection, options: LayersOptions) -> Figure:
    return fits_depth.by_layer(dataset, selection, options.statistic, options.noise, options.points, options.spread)


def trends(dataset: "xr.Dataset", selection: Selection, options: TrendOptions) -> Figure:
    return fits_depth.trends(dataset, selection, options.noise)


def navigator(dataset: "xr.Dataset", selection: Selection, options: Options) -> Figure:
    return fits_reading.navigator(dataset, selection)


READ = fits_reading.read
NAVIGATOR = View("navigator", "Navigator", NAME, NAME, Options, navigator)
VIEWS: tuple[View, ...] = (
    View("layers", "By layer", NAME, NAME, LayersOptions, layers),
    View("spectrum", "Spectrum", NAME, NAME, fits_spectrum.SpectrumOptions, fits_spectrum.spectrum),
    View("residuals", "Residuals", NAME, NAME, fits_spectrum.ResidualOptions, fits_spectrum.residuals),
    View("grid", "All sublayers", NAME, NAME, sites.GridOptions, sites.grid),
    View("path", "Through sublayers", NAME, NAME, sites.PathOptions, sites.along_path),
    View("loss", "α and loss", NAME, NAME, sites.LossOptions, sites.against_loss),
    View("trends", "Trends", NAME, NAME, TrendOptions, trends),
    View("density", "Density fit", NAME, NAME, density.DensityOptions, density.density),
    View("claims", "Claims", NAME, NAME, claims.ClaimOptions, claims.claims),
)
