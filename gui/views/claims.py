"""The published statements that a run can test, with their numbers and verdicts, as a table for any analysis."""

from collections import Counter
from typing import TYPE_CHECKING

from engine.analyses.header import Header
from engine.studies import cited
from gui.plots.figure import Figure, Table
from gui.plots.selection import Selection
from gui.views.base import Options

if TYPE_CHECKING:
    import xarray as xr


THEOREM = " (by mathematics)"


class ClaimOptions(Options):
    """Nothing to choose."""


def claims(dataset: "xr.Dataset", selection: Selection, options: ClaimOptions) -> Figure:
    """Every statement, its verdict on the loaded models, and the numbers that it rests on."""
    claims = Header.of(dataset).claims
    if not claims:
        return Figure(empty="The claims are tested when the run is complete; let it finish, or resume it.")
    counts = Counter(claim.verdict for claim in claims if not claim.theorem)
    verdicts = f"{counts['holds']} hold, {counts['fails']} fail, {counts['cannot say']} cannot be said from this run"
    rows = tuple(
        (cited(c.source), cited(c.statement), f"{c.verdict}{THEOREM * c.theorem}", cited(c.measurement), c.evidence)
        for c in claims
    )
    return Figure(
        title=f"Published statements on these models: {verdicts}",
        table=Table(("source", "statement", "verdict", "measured", "see"), rows),
    )
