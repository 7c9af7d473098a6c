"""The views of the `communities` analysis, in the order of their tabs."""

from gui.views.base import View
from gui.views.claims import claims_view
from gui.views.communities import graph, layers
from gui.views.communities.data import NAME
from gui.views.communities.inspection import inspect_unit

INSPECT = inspect_unit
NAVIGATOR = View("navigator", "Navigator", NAME, NAME, layers.NavigatorOptions, layers.navigator)
VIEWS: tuple[View, ...] = (
    View("graph", "Graph", NAME, NAME, graph.GraphOptions, graph.graph),
    View("effect", "Effect by layer", NAME, NAME, layers.EffectOptions, layers.effect),
    View("units", "Boundary units", NAME, NAME, graph.UnitOptions, graph.units),
    View("matrix", "Correlations", NAME, NAME, graph.MatrixOptions, graph.matrix),
    View("coupling", "Coupling", NAME, NAME, layers.PairOptions, layers.coupling),
    View("flow", "Flow", NAME, NAME, layers.FlowOptions, layers.flow),
    View("stability", "Resolution", NAME, NAME, layers.StabilityOptions, layers.stability),
    View("detectors", "Detectors", NAME, NAME, layers.DetectorOptions, layers.detectors),
    claims_view(NAME),
)
