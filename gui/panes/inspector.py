"""The statistics of the selection beside their null, with a verdict and a link to the definitions."""

import math

from PySide6.QtCore import Qt, Signal, Slot
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QGridLayout, QVBoxLayout, QWidget

from gui.look.widgets import set_role, tool_button
from gui.plots.plain import PlainLabel, tip
from gui.views.inspection import Inspection, Row


def number(value: float) -> str:
    """Format a value with three or four significant digits; an en dash for NaN."""
    if math.isnan(value):
        return "–"
    return f"{value:.3g}" if abs(value) < 1e-3 or abs(value) >= 1e5 else f"{value:.4g}"


def probability(value: float) -> str:
    return "–" if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


class Inspector(QWidget):
    """Shows one `Inspection`."""

    help_requested = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.inspection: Inspection | None = None
        self.title = PlainLabel()
        self.title.setProperty("role", "heading")
        self.subtitle = PlainLabel(wordWrap=True)
        self.subtitle.setProperty("role", "muted")
        self.verdict = PlainLabel(wordWrap=True)
        self.verdict.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.help = tool_button("What is this?")
        self.help.clicked.connect(self._ask_help)
        self._table = QWidget()
        self._grid = QGridLayout(self._table)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(10)
        self._cells: list[list[PlainLabel]] = []
        self.help.setObjectName("link")
        box = QVBoxLayout(self)
        box.setSpacing(10)
        for widget in (self.title, self.subtitle, self._table, self.verdict):
            box.addWidget(widget)
        box.addWidget(self.help, 0, Qt.AlignmentFlag.AlignLeft)
        box.addStretch(1)
        self.show_inspection(None)

    def show_inspection(self, inspection: Inspection | None) -> None:
        self.inspection = inspection
        content = inspection or Inspection(
            "Nothing selected", "Run an analysis, then click a head or use the arrow keys."
        )
        self.title.setText(content.title)
        self.subtitle.setText(content.subtitle)
        self.verdict.setText(content.verdict)
        set_role(self.verdict, {None: "", True: "outside", False: "inside"}[content.outside])
        self.verdict.setVisible(bool(content.verdict))
        self.help.setVisible(inspection is not None)
        self._table.setVisible(bool(content.rows))
        self._fill([row[: len(content.columns)] for row in (content.columns, *map(self._texts, content.rows))])
        for cells, row in zip(self._cells[1:], content.rows, strict=False):
            for cell in cells:
                cell.setToolTip(tip(row.meaning))

    def text(self) -> str:
        """Return the inspection as tab-separated lines, for a spreadsheet."""
        if self.inspection is None:
            return ""
        width = len(self.inspection.columns)
        rows = ["\t".join((r.symbol, *map(repr, (r.value, r.null, r.p, r.q)))[:width]) for r in self.inspection.rows]
        heading = f"{self.inspection.subtitle}\t{self.inspection.title}"
        return "\n".join([heading, "\t".join(self.inspection.columns), *rows, self.inspection.verdict])

    @Slot()
    def copy(self) -> None:
        QGuiApplication.clipboard().setText(self.text())

    @Slot()
    def _ask_help(self) -> None:
        self.help_requested.emit(self.inspection.help if self.inspection else "index")

    @staticmethod
    def _texts(row: Row) -> tuple[str, ...]:
        return row.symbol, number(row.value), number(row.null), probability(row.p), probability(row.q)

    def _fill(self, rows: list[tuple[str, ...]]) -> None:
        while len(self._cells) < len(rows):
            index = len(self._cells)
            self._cells.append([PlainLabel() for _ in Inspection.columns])
            for column, cell in enumerate(self._cells[-1]):
                side = Qt.AlignmentFlag.AlignRight if column else Qt.AlignmentFlag.AlignLeft
                cell.setProperty("role", "muted" if index == 0 else "number" if column else "")
                self._grid.addWidget(cell, index, column, side)
        for index, cells in enumerate(self._cells):
            for column, cell in enumerate(cells):
                used = index < len(rows) and column < len(rows[index])
                cell.setText(rows[index][column] if used else "")
                cell.setVisible(used)
