"""Sessions that older versions wrote open, are drawn, and come out of their units as they were.

``tests/sessions`` has one small session of each kind of past; add one before a change of what is on disk.
"""

import tarfile
from importlib import import_module
from pathlib import Path

import pytest
import xarray as xr

from engine.analyses.header import Header, assemble
from engine.analyses.parameters import validate
from engine.analyses.registry import get_analysis
from engine.cli.report import as_json, as_table
from engine.sessions.export import export
from engine.sessions.store import Run, Session
from engine.sessions.verify import verify
from gui.plots.figure import Figure
from gui.plots.selection import Selection

HELD = {"weights", "jacobians", "activations", "gradients", "attention", "communities"}
"""The analyses when the sessions were made; one that came after has no past to keep."""
OLDER = sorted((Path(__file__).parent / "sessions").glob("*.tar.xz"))


@pytest.fixture(scope="module", params=OLDER, ids=lambda path: path.name.removesuffix(".tar.xz"))
def older(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("older")
    with tarfile.open(request.param) as archive:
        archive.extractall(folder, filter="data")
    (session,) = folder.iterdir()
    return session


@pytest.fixture(scope="module")
def runs(older: Path) -> list[Run]:
    with Session.open(older, readonly=True) as session:
        return session.runs()


# What is inferred is the running program's opinion, not what was measured then.
REJUDGED = {"claims", "coupling_p", "rate_p", "kappa_interval", "notes", "kappa"}


def test_it_is_whole_and_holds_every_analysis_of_its_time(older: Path, runs: list[Run]) -> None:
    assert not verify(older).problems
    assert {run.request.analysis for run in runs} == HELD
    assert all(run.finished for run in runs)


def test_its_units_still_make_the_same_results(runs: list[Run]) -> None:
    for run in runs:
        stored = run.result()
        assert stored is not None
        analysis = get_analysis(run.request.analysis)
        units = {key: run.read_unit(key) for key in run.plan}
        made = assemble(analysis, run.request, validate(analysis, run.request.params), run.models, units)
        measured = sorted(set(stored.variables) - REJUDGED)
        xr.testing.assert_allclose(
            made[measured], stored[measured], rtol=1e-9
        )  # decompositions differ in the last bit between machines
        for name, variable in stored.variables.items():
            assert made[name].dtype == variable.dtype or variable.dtype.kind == "T", name
            assert name in REJUDGED or variable.attrs.items() <= made[name].attrs.items(), name
        changed = {key for key in made.attrs if stored.attrs.get(key) != made.attrs[key]}
        # A field that is new has a default, which says what was meant before there was one.
        before, now = Header.of(stored), Header.of(made)
        assert (before.request, before.models) == (now.request, now.models)
        assert changed - {"request", "models"} <= REJUDGED


def test_its_headers_are_read(runs: list[Run]) -> None:
    for run in runs:
        header = Header.of(run.result())
        assert header.analysis == run.request.analysis
        assert header.request == run.request
        assert header.models == tuple(run.models)
        assert header.definition


def test_it_is_reported_and_exported(older: Path, runs: list[Run], tmp_path: Path) -> None:
    for run in runs:
        result = run.result()
        assert as_table(run, result).row_count == sum(info.n_layers for info in run.models)
        assert as_json(run, result, 0.0)["variables"]
    for kind in ("csv", "npz", "netcdf"):
        assert export(older, kind, tmp_path / kind)


def test_every_view_draws_it(runs: list[Run]) -> None:
    drawn = 0
    for run in runs:
        result = run.result().load()
        for view in import_module(f"gui.views.{run.request.analysis}.views").VIEWS:
            if view.offered is None or view.offered(result):
                options = (view.options_of(result) if view.options_of else view.options)()
                figure = view.draw(result, Selection(), options)
                assert isinstance(figure, Figure)
                drawn += bool(figure.rows or figure.table)
    assert drawn > 30
