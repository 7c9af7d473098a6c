"""The views of the `gradients` analysis, in the order of their tabs."""

from gui.views.base import View
from gui.views.claims import claims_view
from gui.views.gradients import samples
from gui.views.power_laws.inspection import inspect
from gui.views.power_laws.views import navigator, power_law_views

NAME = "gradients"
LAYERS, SPECTRUM, RESIDUALS, LOSS, TRENDS = power_law_views(NAME)
INSPECT = inspect
NAVIGATOR = navigator(NAME)
VIEWS: tuple[View, ...] = (
    LAYERS,
    SPECTRUM,
    RESIDUALS,
    LOSS,
    View("samples", "Sequences", NAME, NAME, samples.SampleOptions, samples.losses),
    TRENDS,
    claims_view(NAME),
)
