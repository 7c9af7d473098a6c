"""Exported scripts run, and draw every text as it is, whatever stands in it."""

import io
import json
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from demo_figures import boxes, grid, mixed
from jacobians_parts import jacobians_dataset
from test_plain_text import HOSTILE, deceiving

from engine.printable import printable
from gui.plots.export.script import write_script
from gui.plots.figure import Figure, Image, Table
from gui.plots.selection import Selection
from gui.views.base import View
from gui.views.jacobians.views import VIEWS

mpl.use("Agg")
BROKEN = r"$\frac{ $ \undefined"
TEXTS = {
    "everything": (
        rf"$ 5 or $x$ $$ {BROKEN} a_b^c & 5 % # ~ \input{{x}} {{0}} %s %(x)s"
        "''''\"\"\" ' \" \\ # x\nimport os; raise SystemExit(3) \x00\x1b[31m\r\u202e\udc80"
    ),
    "escaped": r"\$5 \\$ \x \N{DASH} \u12",
    "hidden": "_m",
}


def with_text(value: Any, text: str, field: str = "") -> Any:
    """A figure, or part of one, with `text` in every place for a text."""
    if isinstance(value, str):
        shown = field in ("title", "note", "label", "values_label", "hover", "ticks", "columns", "rows", "provenance")
        return f"{text}{value}" if shown else value
    if isinstance(value, tuple) and field not in ("picks", "marked", "limits"):
        return tuple(with_text(part, text, field) for part in value)
    if isinstance(value, dict):
        return {with_text(k, text, field): with_text(v, text, field) for k, v in value.items()}
    if is_dataclass(value):
        return replace(value, **{f.name: with_text(getattr(value, f.name), text, f.name) for f in fields(value)})
    return value


def drawn(figure: Figure, path: Path) -> set[str]:
    """Run the script of a figure and return every text that it draws; ticks of logarithms alone are mathematics."""
    import matplotlib.pyplot as plt
    from matplotlib.text import Text

    write_script(figure, path)
    names: dict[str, Any] = {"__name__": "script"}
    exec(compile(path.read_text("utf-8"), path.name, "exec"), names)
    picture = names["draw"](names["load"]())
    try:
        picture.savefig(io.BytesIO(), format="png", dpi=30)
        processed = [text._preprocess_math(text.get_text()) for text in picture.findobj(Text)]
        assert all("mathdefault" in text for text, is_math in processed if is_math)
        return {text.strip() for text, is_math in processed if not is_math}
    finally:
        plt.close(picture)


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_every_text_of_a_script(text: str, tmp_path: Path) -> None:
    figure = mixed() if len(text) > 30 else grid(1, 1)
    figure = with_text(replace(figure, table=Table(("a", "b"), (("x", 1.0),))), text)
    texts = drawn(figure, tmp_path / 'my "figure" \\.py')
    for panel in (panel for row in figure.rows for panel in row):
        labels = [mark.label for mark in panel.marks if mark.label and not isinstance(mark, Image)]
        for label in (panel.x.label, panel.y.label, *labels):
            assert printable(label).strip() in texts


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("figure", [boxes(), Figure(table=Table(("a",), (("x",),)))], ids=["boxes", "table"])
def test_scripts_of_other_figures(figure: Figure, tmp_path: Path) -> None:
    assert drawn(with_text(figure, BROKEN), tmp_path / "figure.py")


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("view", VIEWS[:3], ids=lambda view: view.name)
def test_scripts_of_views_of_a_strangers_result(view: View, tmp_path: Path) -> None:
    ds, _ = deceiving(jacobians_dataset())
    ds = ds.assign_attrs(notes=json.dumps([BROKEN, HOSTILE]))
    figure = view.draw(ds, Selection(), view.options())
    assert figure.rows or figure.table
    assert drawn(figure, tmp_path / "figure.py")
