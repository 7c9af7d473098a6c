"""The table of claims: filtered by study and verdict, with the views that show the evidence, which a click opens."""

from typing import get_args

import pytest
import xarray as xr
from jacobians_parts import jacobians_dataset
from PySide6.QtCore import Qt

from engine.analyses.claims import Claim, to_json
from engine.analyses.registry import ANALYSES
from engine.studies import STUDIES
from gui.panes.workspace import ViewPanel
from gui.plots.figure import Figure
from gui.plots.selection import Pick, Selection
from gui.state.selection import SelectionModel
from gui.views.claims import ClaimOptions, claims_view
from gui.views.lookup import declared_views, views_of

CLAIMS = (
    Claim("S3 §2", "Most eigenvalues are complex", "98 %", "holds", "clouds, depth"),
    Claim("S0 §5.3", "A higher δ is more concentrated", "δ = 0 for rank 1", "fails", "boxes", theorem=True),
    Claim("S0 §5.2", "σ₁ is U-shaped", "p = 0.3", "cannot say", "By layer"),
)
DATASET = xr.Dataset(attrs={"analysis": "jacobians", "claims": to_json(CLAIMS)})
VIEW = claims_view("jacobians")


def draw(**options: str) -> Figure:
    return VIEW.draw(DATASET, Selection(), ClaimOptions(**options))


def test_views_are_called_by_their_titles_in_older_results_too() -> None:
    table = draw().table
    assert [row[-1] for row in table.rows] == ["All layers, Depth", "By layer", "By layer"]
    assert table.picks == (Pick(view="clouds"), Pick(view="boxes"), Pick(view="boxes"))
    assert table.rows[1][2] == "fails (by mathematics)"


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({"study": "Vo and Tong 2025"}, 2),
        ({"verdict": "holds"}, 1),
        ({"study": "Vo and Tong 2025", "verdict": "cannot say"}, 1),
        ({}, 3),
        ({"study": "Angerami 2026"}, 0),
    ],
)
def test_claims_are_filtered(options: dict[str, str], shown: int) -> None:
    assert len(draw(**options).table.rows) == shown


def test_the_headline_counts_what_models_decide() -> None:
    assert "0 hold, 0 fail, 1 cannot be said" in draw(study="Vo and Tong 2025").title
    assert "1 hold, 0 fail, 1 cannot be said" in draw(verdict="fails").title


def test_every_study_can_be_chosen() -> None:
    choices = get_args(ClaimOptions.model_fields["study"].annotation)
    assert choices == ("all", *(study.short for study in STUDIES.values()))


@pytest.mark.parametrize("analysis", ANALYSES)
def test_every_analysis_has_them(analysis: str) -> None:
    assert "claims" in [view.name for view in declared_views(analysis).VIEWS]


def test_a_click_on_the_evidence_opens_it_and_no_other_does(qtbot) -> None:
    panel = ViewPanel(views_of("jacobians"), SelectionModel())
    qtbot.addWidget(panel)
    panel.figure_area.load()
    panel.resize(900, 600)
    panel.show()
    panel.set_view("claims")
    panel.show_dataset(jacobians_dataset().assign_attrs(DATASET.attrs))
    table = panel.figure_area.plot.table
    for column, view in ((0, "claims"), (4, "clouds")):
        where = table.visualRect(table.model().index(0, column)).center()
        qtbot.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=where)
        assert panel.view.name == view
