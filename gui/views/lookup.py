"""The views of an analysis, found by its name."""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from gui.plots.selection import Selection
from gui.views.base import View
from gui.views.inspection import Inspection
from gui.views.trajectories.views import trajectory_views

if TYPE_CHECKING:
    import xarray as xr


class AnalysisViews(Protocol):
    """What ``gui/views/NAME/views.py`` defines.

    Attributes
    ----------
    VIEWS : tuple of View
        In the order of their tabs.
    NAVIGATOR : View
        The small view below them.
    INSPECT : callable
        Describes what is selected, for the inspector.
    """

    VIEWS: tuple[View, ...]
    NAVIGATOR: View
    INSPECT: "Callable[[xr.Dataset, Selection], Inspection]"


def declared_views(analysis: str) -> AnalysisViews:
    """Import what the window shows of an analysis.

    Raises
    ------
    ModuleNotFoundError
        If the analysis has no views.
    """
    module = f"gui.views.{analysis}.views"
    try:
        return cast(AnalysisViews, import_module(module))
    except ModuleNotFoundError as missing:
        if missing.name is None or not module.startswith(missing.name):
            raise
        raise ModuleNotFoundError(
            f"The analysis “{analysis}” is in the registry and has no views: the window needs VIEWS, NAVIGATOR and "
            f"INSPECT in gui/views/{analysis}/views.py (CONTRIBUTING, “Add a view”).",
            name=missing.name,
        ) from missing


def views_of(analysis: str) -> tuple[View, ...]:
    """Return the views of `analysis` in the order of their tabs; those over training come last."""
    return declared_views(analysis).VIEWS + trajectory_views(analysis)
