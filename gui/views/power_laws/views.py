"""The views that every analysis with power laws along rank has."""

from typing import Any, Literal

from pydantic import Field, create_model

from engine.analyses.registry import variables_of
from gui.views.base import Options, View
from gui.views.power_laws import depth, inspection, loss, spectrum


def power_law_views(analysis: str) -> tuple[View, View, View, View, View]:
    """By layer, spectrum, residuals, α against loss, and trends."""
    return (
        View("layers", "By layer", analysis, analysis, _layer_options(analysis), depth.by_layer),
        View("spectrum", "Spectrum", analysis, analysis, spectrum.SpectrumOptions, spectrum.spectrum),
        View("residuals", "Residuals", analysis, analysis, spectrum.ResidualOptions, spectrum.residuals),
        View("loss", "α and loss", analysis, analysis, loss.LossOptions, loss.against_loss),
        View("trends", "Trends", analysis, analysis, depth.TrendOptions, depth.trends),
    )


def navigator(analysis: str) -> View:
    """Exponents of every layer."""
    return View("navigator", "Navigator", analysis, analysis, Options, inspection.navigator)


def _layer_options(analysis: str) -> type[Options]:
    """Options of the view by layer, with every statistic that the analysis declares for a layer."""
    statistics = {
        v.name: v.label
        for v in variables_of(analysis).values()
        if v.role == "statistic" and v.dims[:2] == ("model", "split") and v.dims[-1] == "layer"
    }
    labels: Any = {"labels": statistics}
    field: Any = (Literal[tuple(statistics)], Field("alpha_rank", title="Show", json_schema_extra=labels))
    options: type[Options] = create_model("LayerOptions", __base__=depth.LayerOptions, statistic=field)
    return options
