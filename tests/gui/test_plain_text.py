"""A session whose every name, note and token is made to deceive is shown as it is written, wherever it is shown."""

import ast
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from jacobians_parts import INFOS, jacobians_dataset
from PySide6.QtCore import Qt
from PySide6.QtGui import QAction, QTextDocument
from PySide6.QtGui import Qt as GuiQt
from PySide6.QtWidgets import QLabel, QMessageBox, QTableView, QTreeWidget, QWidget
from window_parts import request_for, save_model, window_in

from engine.analyses.registry import get_analysis
from engine.errors import UserError
from engine.models.info import ModelInfo
from engine.printable import printable
from engine.request import DataSpec, ModelSpec, Request
from engine.runs.loop import execute, start
from engine.sessions.store import Session
from gui.panes.log import LogDialog
from gui.plots.plain import PlainLabel, in_menu, in_title, message_box, tip
from gui.state.results import _read as read_result
from tests.citations import texts

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = '<s>s</s> <img src="x"> \x1b[31m \u202e $y_1$ & \x07'
READ_MS = 20_000


def deceiving(ds):
    """The dataset with HOSTILE in every label, note and text."""
    infos = [ModelInfo.model_validate(info) for info in json.loads(ds.attrs["models"])]
    infos = [info.model_copy(update={"label": f"{HOSTILE}{i}"}) for i, info in enumerate(infos)]
    named = {
        name: (variable.dims, [[f"{text} {HOSTILE}" for text in row] for row in variable.values.tolist()])
        for name, variable in ds.data_vars.items()
        if variable.dtype.kind in "UOT"
    }
    attrs = {
        "models": json.dumps([info.model_dump(mode="json") for info in infos]),
        "notes": json.dumps([HOSTILE, *json.loads(ds.attrs["notes"])]),
    }
    ds = ds.assign(named).assign_coords(model=[info.label for info in infos]).assign_attrs(attrs)
    return ds, tuple(infos)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of weights and one of Jacobians, as a stranger may have written them."""
    folder = tmp_path_factory.mktemp("stranger")
    model = save_model(folder / "model")
    with Session.create(folder / "honest.eigenscope") as session:
        run = start(session, request_for(model))
        execute(session, run, lambda _: None, lambda: False)
        weights = run.result()
    path = folder / "<b>study & [*].eigenscope"
    with Session.create(path) as session:
        for ds, request in (
            (weights, run.request),
            (
                jacobians_dataset(),
                Request(
                    analysis="jacobians",
                    params=get_analysis("jacobians").params().model_dump(mode="json"),
                    models=tuple(ModelSpec(source=HOSTILE, revision=r) for r in ("a", "b", "c")),
                    data=DataSpec(),
                ),
            ),
        ):
            made_up, infos = deceiving(ds.assign_attrs(analysis=request.analysis))
            request = request.model_copy(
                update={"models": tuple(m.model_copy(update={"source": HOSTILE}) for m in request.models)}
            )
            stored = session.new_run(request, infos, ["a"], {"left_out": [HOSTILE]})
            stored.commit_result(made_up)
    return path


def problems(widget: QWidget) -> Iterator[str]:
    """What in a window would show other than what is written, or is not what can be seen."""

    def seen(where: str, text: str) -> Iterator[str]:
        if printable(text, 10**6, lines=True) != text:
            yield f"{where}: {text!r}"

    def a_tip(where: str, text: str) -> Iterator[str]:
        yield from seen(where, text)
        if GuiQt.mightBeRichText(text):
            page = QTextDocument()
            page.setHtml(text)
            if "\ufffc" in page.toPlainText() or ("s>s<" in text.replace("&lt;", "<").replace("&gt;", ">")) != (
                "<s>s</s>" in page.toPlainText()
            ):
                yield f"{where} is HTML: {text!r}"

    for part in (widget, *widget.findChildren(QWidget)):
        where = f"{type(part).__name__} {part.objectName()}"
        yield from a_tip(f"tip of {where}", part.toolTip())
        if isinstance(part, QLabel):
            yield from seen(where, part.text())
            if part.textFormat() is not Qt.TextFormat.PlainText and GuiQt.mightBeRichText(part.text()):
                yield f"{where} shows {part.text()!r} as HTML"
        if part.isWindow():
            yield from seen(where, part.windowTitle())
        if isinstance(part, QTreeWidget | QTableView):
            model = part.model()
            for row in range(model.rowCount()):
                for column in range(model.columnCount()):
                    at = model.index(row, column)
                    yield from seen(where, str(at.data() or ""))
                    yield from a_tip(where, str(at.data(Qt.ItemDataRole.ToolTipRole) or ""))
    for action in widget.findChildren(QAction):
        yield from seen("action", action.text())
        yield from a_tip("tip of an action", action.toolTip())


def test_a_window_shows_what_is_written(study: Path, qtbot, tmp_path: Path) -> None:
    with window_in(tmp_path) as window:
        qtbot.waitSignal(window.ready, timeout=READ_MS).wait()
        window.file_commands.open_path(study)
        qtbot.waitUntil(lambda: len(window.runs.rows) == 2, timeout=READ_MS)
        assert not list(problems(window))
        drawn = 0
        for analysis in ("weights", "jacobians"):
            window.workspace.show_analysis(analysis)
            row = next(row for row in window.runs.rows if row.request.analysis == analysis)
            window.runs_pane.choose(row)
            qtbot.waitUntil(
                lambda row=row: window.results.row is row and window.results.dataset is not None, timeout=READ_MS
            )
            for name in window.workspace.panel.views:
                window.workspace.panel.set_view(name)
                canvas = window.workspace.panel.figure_area.plot.canvas
                for text in texts(canvas.figure):
                    assert printable(text) == text
                drawn += any("<s>s</s>" in text for text in texts(canvas.figure))
                canvas.grab()
            assert not list(problems(window))
            assert "<s>s</s>" in "".join(label.text() for label in window.inspector.findChildren(QLabel))
        assert drawn >= 3, "the names reach the figures"
        assert window.timeline.label.text()
        assert "<s>s</s>" in window.runs_pane.tree.topLevelItem(0).text(0)
        assert window.windowTitle().startswith("<b>study & [*][*] ")
        window.messages.show_error(UserError(HOSTILE, HOSTILE))
        with_log = LogDialog(replace(window.runs.rows[0], message=HOSTILE), {"by": HOSTILE}, window)
        for shown in (window, with_log):
            assert not list(problems(shown))
        assert "\x1b" not in with_log.text.toPlainText() + window.messages.details.toPlainText()
        assert "<s>s</s>" in window.messages.text.text()
        with_log.close()


@pytest.mark.parametrize("attrs", [{}, {"analysis": "jacobians"}, {"analysis": "weights", "models": "[3]"}])
def test_a_result_that_says_something_else_of_itself_is_a_sentence(attrs: dict[str, str], tmp_path: Path) -> None:
    request = Request(analysis="weights", models=(ModelSpec(),))
    with Session.create(tmp_path / "a.eigenscope") as session:
        run = session.new_run(request, INFOS, ["a"], {})
        run.commit_result(jacobians_dataset().drop_attrs(deep=False).assign_attrs(attrs))
        with pytest.raises(UserError, match="cannot be read"):
            read_result(session, run.id)


def test_a_box_asks_in_plain_text(qtbot) -> None:
    box = message_box(None, QMessageBox.Icon.Question, HOSTILE, HOSTILE, QMessageBox.StandardButton.Ok)
    qtbot.addWidget(box)
    assert not list(problems(box))
    assert box.textFormat() is Qt.TextFormat.PlainText
    assert "<s>s</s>" in box.text()


def test_long_names_are_cut_and_force_no_width(qtbot) -> None:
    label = PlainLabel("m" * 10**6)
    qtbot.addWidget(label)
    assert len(label.text()) <= 4000
    assert label.minimumSizeHint().width() <= 240
    assert len(tip("m" * 10**6)) <= 4000
    assert in_menu("R&D") == "R&&D"
    assert in_title("a[*]b") == "a[*][*]b"


def dynamic(node: ast.expr) -> bool:
    """Whether an expression may hold a text of a stranger: it is no literal, and nothing has looked at it."""
    seen_to = {"tip", "in_menu", "in_title", "printable"}
    if isinstance(node, ast.Constant):
        return False
    if isinstance(node, ast.IfExp):
        return dynamic(node.body) or dynamic(node.orelse)
    if isinstance(node, ast.BoolOp):
        return any(map(dynamic, node.values))
    return not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in seen_to)


DECLARED = {"tip", "field.description or ''", "fields['dtype'].description or ''", "command.tip"}
"""Texts of the program itself: the parameter of `tool_button`, what fields and commands declare."""


BY_HAND = {"QLabel", "QMessageBox", "setHtml", "setMarkdown", "insertHtml", "TextItem", "LabelItem"}
BOXES = {"about", "warning", "critical", "information", "question"}
GUESSING = {"setToolTip", "setWindowTitle", "setStatusTip", "showText"}


def test_there_is_no_other_way_to_show_a_text() -> None:
    elsewhere = []
    for path in sorted((ROOT / "gui").rglob("*.py")):
        if path.name == "plain.py":
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            last = node.args[-1] if node.args else None
            wrong = (
                name in BY_HAND
                or (name in BOXES and "QMessageBox" in ast.unparse(node))
                or (name in GUESSING and last is not None and dynamic(last) and ast.unparse(last) not in DECLARED)
            )
            if wrong:
                elsewhere.append(f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)[:80]}")
    assert not elsewhere
