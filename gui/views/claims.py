"""The published statements that a run can test, with their numbers and verdicts, as a table for any analysis."""

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from engine.analyses.header import Header
from engine.studies import STUDIES, cited
from gui.plots.figure import Figure, Table
from gui.plots.selection import Pick, Selection
from gui.views.base import Options, View
from gui.views.lookup import views_of

if TYPE_CHECKING:
    import xarray as xr


THEOREM = " (by mathematics)"
SEE = "see"


class ClaimOptions(Options):
    study: Literal[
        "all",
        "Vo and Tong 2025",
        "Liu, Paquette and Sous 2025",
        "Adkine 2025",
        "Fernando and Guitchounts 2026",
        "Angerami 2026",
    ] = Field("all", title="Study")
    verdict: Literal["all", "holds", "fails", "cannot say"] = Field("all", title="Verdict")


def claims_view(analysis: str) -> View:
    """The table of claims among the views of `analysis`."""
    return View("claims", "Claims", analysis, analysis, ClaimOptions, partial(_claims, analysis))


def _claims(analysis: str, dataset: "xr.Dataset", selection: Selection, options: ClaimOptions) -> Figure:
    """Every statement, its verdict on the loaded models, the numbers that it rests on, and the views that show them."""
    judged = Header.of(dataset).claims
    if not judged:
        return Figure(empty="The claims are tested when the run is complete; let it finish, or resume it.")
    judged = tuple(c for c in judged if options.study in ("all", STUDIES[c.source[:2]].short))
    shown = [c for c in judged if options.verdict in ("all", c.verdict)]
    counts = Counter(c.verdict for c in judged if not c.theorem)
    verdicts = f"{counts['holds']} hold, {counts['fails']} fail, {counts['cannot say']} cannot be said from this run"
    views = views_of(analysis)
    # Older results name views by their titles.
    names = {view.title: view.name for view in views} | {view.name: view.name for view in views}
    titles = {view.name: view.title for view in views}
    evidence = [[names.get(part, part) for part in c.evidence.split(", ")] for c in shown]
    rows = tuple(
        (
            cited(c.source),
            cited(c.statement),
            f"{c.verdict}{THEOREM * c.theorem}",
            cited(c.measurement),
            ", ".join(titles.get(name, name) for name in seen),
        )
        for c, seen in zip(shown, evidence, strict=True)
    )
    picks = tuple(Pick(view=seen[0] if seen[0] in titles else None) for seen in evidence)
    return Figure(
        title=f"Published statements on these models: {verdicts}",
        table=Table(("source", "statement", "verdict", "measured", SEE), rows, picks=picks, clickable=SEE),
    )
