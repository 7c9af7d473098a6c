"""What is cited exists, and what a person reads names its studies."""

import json
from pathlib import Path

import numpy as np
import pytest

from engine.analyses.registry import ANALYSES, get_analysis
from engine.recipes import titles
from engine.studies import STUDIES, cited
from gui.plots.figure import Axis, Figure, Panel, Points, Table
from tests.citations import KEY, Documentation, bare_keys, spoken, texts
from tests.test_architecture import ROOT, tracked

SELF = Path(__file__)
# What the program says to people, and where a result keeps keys on disk, which views turn into names.
SPOKEN = ("engine", "gui", "benchmarks")
KEPT = "engine/**/*claims*.py"


@pytest.fixture(scope="module")
def documentation() -> Documentation:
    return Documentation.read(
        *(((ROOT / "docs" / name).read_text("utf-8")) for name in ("methods.md", "references.md"))
    )


def test_the_documentation_is_read(documentation):
    assert [str(i) for i in range(14)] == [number for number in documentation.sections if "." not in number]
    assert {"1.1", "6.4", "12.1"} <= documentation.equations
    assert documentation.places.keys() == STUDIES.keys()
    counts = {
        key: sum(p.startswith(("fig. ", "table ")) for p in places) for key, places in documentation.places.items()
    }
    assert counts == {"S0": 3, "S1": 8, "S2": 5, "S3": 21, "S4": 16}
    assert ("Clauset", 2009) in documentation.works


def test_a_wrong_citation_is_found(documentation):
    right = (
        "methods §6, §7", "Methods §7.1–7.2 (S3, A.4)", "methods §6, “Schur surgery”", "(methods eq. 6.3)",
        "S3 figs 2, 3, S2–S6", "S1 figs 1a, 2b and 3", "S2’s figures 4 and 5", "S0 eq. 7", "S1 §3.3, 4", "S3 table 1",
        f"{STUDIES['S2'].short}, fig. 5", "cited('S0 §4.2')", "S3 §2.2, A.3, fig. 4", "Lind and Mehlum (2010)",
        "methods §3\n    and what follows",
    )  # fmt: skip
    assert [text for text in right if documentation.missing(text)] == []
    wrong = (
        "methods §14", "methods §7.1–7.9", "methods §6, “Shur surgery”", "(methods eq. 6.99)", "S3 figs 6–9",
        "S1 figs 1a, 4", "S2’s figures 4 and 6", "S0 eq. 9", "S1 §3.3, 5", "S3, Table 5", "S3, A.7",
        f"{STUDIES['S2'].short}, fig. 6", 'cited("S0 §4.9")', "S3 §2.2, A.3, fig. 44", "Lind and Mehlum (2011)",
        "see S4\n    # fig. 17",
    )  # fmt: skip
    assert [text for text in wrong if not documentation.missing(text)] == []


def test_every_citation_exists(documentation):
    files = [
        path for path in tracked(".py", ".md") if path != SELF and "models" not in path.relative_to(ROOT).parts[:2]
    ]
    found = {str(path.relative_to(ROOT)): documentation.missing(path.read_text("utf-8")) for path in files}
    assert {name: missing for name, missing in found.items() if missing} == {}


def test_the_names_of_the_studies_are_those_of_the_references():
    methods, references = ((ROOT / "docs" / name).read_text("utf-8") for name in ("methods.md", "references.md"))
    for key, study in STUDIES.items():
        assert f"\n### {key}: {study.short}\n" in references
        assert study.title in references.replace("\n", " ")
        assert f"| {key} | {study.short} |" in methods


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("S1 §3.3, 1", "Liu, Paquette and Sous 2025, §3.3, 1"),
        ("S2", "Adkine 2025"),
        ("‖A‖₂ < 2 (S2’s criterion)", "‖A‖₂ < 2 (Adkine’s criterion)"),
        ("rank ≈ exp(entropy) (S2 eq. 5).", "rank ≈ exp(entropy) (Adkine 2025, eq. 5)."),
        ("S3 A.5", "Fernando and Guitchounts 2026, A.5"),
        ("the WikiS2 corpus", "the WikiS2 corpus"),
    ],
)
def test_keys_become_names(text, shown):
    assert cited(text) == shown


def test_literals_without_docstrings_are_spoken():
    source = """"S0 here."
def f():
    "S2 here."
    return f"S3 {x}" + cited("S0 {x}" + f"S1 {x}") + "S4"
"""
    assert [text for _, text in spoken(source)] == ["S3 ", "S4"]


def test_every_text_of_a_figure_is_seen():
    """The tests of the window look through every figure that they draw (tests/gui/conftest.py)."""
    points = Points(np.zeros(1), np.zeros(1), "label", hover=("hover",))
    panel = Panel(Axis("x"), Axis("y", ticks=((0.0, "tick"),)), (points,), title="panel")
    figure = Figure(((panel,),), "title", "note", "empty", table=Table(("column",), (("cell", 1.0),), "table"))
    wanted = {"label", "hover", "x", "y", "tick", "panel", "title", "note", "empty", "column", "cell", "table"}
    assert wanted <= set(texts(figure))


def test_nothing_that_people_read_says_a_key_alone():
    kept = set(ROOT.glob(KEPT)) | {ROOT / "engine" / "studies.py"}
    code = [path for path in tracked(".py") if path.relative_to(ROOT).parts[0] in SPOKEN and path not in kept]
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "resources" / "help").glob("*.md")]
    assert [place for path in [*code, *pages] for place in bare_keys(path)] == []


def test_forms_and_recipes_name_their_studies():
    schemas = [json.dumps(get_analysis(name).params.model_json_schema(), ensure_ascii=False) for name in ANALYSES]
    assert [text for text in [*schemas, *titles().values()] if KEY.search(text)] == []
