"""The views of the `weights` analysis, in the order of their tabs."""

from gui.views.base import View
from gui.views.claims import claims_view
from gui.views.weights import head, model
from gui.views.weights.inspection import inspect_head

INSPECT = inspect_head
NAVIGATOR = View("navigator", "Navigator", "weights", "weights", model.NavigatorOptions, model.navigator)

VIEWS: tuple[View, ...] = (
    View("spectrum", "Spectrum", "weights", "weights", head.SpectrumOptions, head.spectrum),
    View("density", "Density", "weights", "weights", head.DensityOptions, head.density),
    View("grid", "Heads of a layer", "weights", "weights", head.GridOptions, head.grid),
    View("heatmap", "All heads", "weights", "weights", model.HeatmapOptions, model.heatmap),
    View("layers", "By layer", "weights", "weights", model.LayersOptions, model.by_layer),
    View("entropy_npr", "Entropy · NPR", "weights", "weights", model.ScatterOptions, model.entropy_npr),
    View("sigma", "Against σ", "weights", "weights", model.SigmaOptions, model.against_sigma),
    View("cloud", "Complex", "weights", "weights", head.CloudOptions, head.cloud),
    View("qq", "Q-Q", "weights", "weights", head.QQOptions, head.gaussian_qq),
    View("compare", "Compare", "weights", "weights", model.CompareOptions, model.compare),
    claims_view("weights"),
)
