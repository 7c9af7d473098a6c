"""Every analysis of the registry has views; one that has none is named with what to do."""

import pytest

from engine.analyses.registry import ANALYSES
from gui.views.base import View
from gui.views.lookup import declared_views


@pytest.mark.parametrize("name", ANALYSES)
def test_every_analysis_has_views_a_navigator_and_an_inspection(name: str) -> None:
    views = declared_views(name)
    assert {view.analysis for view in (*views.VIEWS, views.NAVIGATOR)} == {name}
    assert all(isinstance(view, View) for view in views.VIEWS)
    assert callable(views.INSPECT)


def test_an_analysis_without_views_is_named_with_the_file_to_write() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"“norms”.*gui/views/norms/views\.py"):
        declared_views("norms")


def test_a_view_that_fails_to_import_something_else_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ModuleNotFoundError("No module named 'nowhere'", name="nowhere")

    monkeypatch.setattr("gui.views.lookup.import_module", fail)
    with pytest.raises(ModuleNotFoundError, match="'nowhere'"):
        declared_views("weights")
