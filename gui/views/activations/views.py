"""The views of the `activations` analysis, in the order of their tabs."""

from gui.views.activations import density, sites
from gui.views.base import View
from gui.views.claims import claims_view
from gui.views.power_laws.inspection import inspect
from gui.views.power_laws.views import navigator, power_law_views

NAME = "activations"
LAYERS, SPECTRUM, RESIDUALS, LOSS, TRENDS = power_law_views(NAME)
INSPECT = inspect
NAVIGATOR = navigator(NAME)
VIEWS: tuple[View, ...] = (
    LAYERS,
    SPECTRUM,
    RESIDUALS,
    View("grid", "All sublayers", NAME, NAME, sites.GridOptions, sites.grid),
    View("path", "Through sublayers", NAME, NAME, sites.PathOptions, sites.along_path),
    LOSS,
    TRENDS,
    View("density", "Density fit", NAME, NAME, density.DensityOptions, density.density),
    claims_view(NAME),
)
