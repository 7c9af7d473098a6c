"""The table of a figure: on the screen, where it can be sorted, selected and copied, and in exported pictures."""

from dataclasses import replace
from typing import Any

import numpy as np
from PySide6.QtCore import (
    QAbstractTableModel,
    QModelIndex,
    QPersistentModelIndex,
    QPointF,
    QRectF,
    QSize,
    QSortFilterProxyModel,
    Qt,
    Signal,
    Slot,
)
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QGuiApplication, QKeyEvent, QKeySequence, QPainter
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QTableView,
    QWidget,
)

from gui.plots import theme
from gui.plots.figure import Table, cell_text
from gui.plots.plain import tip

Index = QModelIndex | QPersistentModelIndex
LONG = 40
"""Texts of more characters are wrapped; their columns share the width that the others leave."""
PAD = 6.0
MARGINS = 24  # left and right margins of a cell on the screen together, including the style's own
WRAP = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop | Qt.TextFlag.TextWordWrap
EMPTY = Table((), ())


def numeric(table: Table) -> list[bool]:
    """Return which columns hold only numbers, and are aligned right."""
    return [all(not isinstance(row[i], str) for row in table.rows) for i in range(len(table.columns))]


def wide(table: Table) -> list[bool]:
    """Return which columns hold long texts."""
    return [any(len(cell_text(row[i])) > LONG for row in table.rows) for i in range(len(table.columns))]


class TableModel(QAbstractTableModel):
    """Qt model of a `Table`; it sorts by value, not by text."""

    def __init__(self) -> None:
        super().__init__()
        self.table = EMPTY
        self._numeric: list[bool] = []

    def show_table(self, table: Table) -> None:
        self.beginResetModel()
        self.table, self._numeric = table, numeric(table)
        self.endResetModel()

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008 - Qt's own signature
        return 0 if parent.isValid() else len(self.table.rows)

    def columnCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008 - Qt's own signature
        return 0 if parent.isValid() else len(self.table.columns)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole:
            return self.table.columns[section]
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.TextAlignmentRole:
            side = Qt.AlignmentFlag.AlignRight if self._numeric[section] else Qt.AlignmentFlag.AlignLeft
            return int(side | Qt.AlignmentFlag.AlignVCenter)
        return None

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        cell = self.table.rows[index.row()][index.column()]
        if role == Qt.ItemDataRole.DisplayRole:
            return cell_text(cell)
        if role == Qt.ItemDataRole.ToolTipRole:
            return tip(cell_text(cell))
        if role == Qt.ItemDataRole.UserRole:  # NaN has no order
            return cell if isinstance(cell, str) else float("-inf") if np.isnan(cell) else float(cell)
        if role == Qt.ItemDataRole.TextAlignmentRole:
            side = Qt.AlignmentFlag.AlignRight if self._numeric[index.column()] else Qt.AlignmentFlag.AlignLeft
            return int(side | Qt.AlignmentFlag.AlignTop)
        return None


class FoldedText(QStyledItemDelegate):
    """Gives the height of a cell whose text is wrapped to its column; the default ignores the padding."""

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:
        view = self.parent()
        assert isinstance(view, TableView)
        metrics, text = QFontMetricsF(view.font()), str(index.data())
        if len(text) <= LONG:
            return QSize(round(metrics.horizontalAdvance(text)) + MARGINS, round(metrics.height()) + 6)
        room = max(view.columnWidth(index.column()) - MARGINS, 40)
        return QSize(room, round(metrics.boundingRect(QRectF(0, 0, room, 1e5), int(WRAP), text).height()) + 6)


class TableView(QTableView):
    """The table below the panels of a figure. A click on a row, or its clickable cell, emits its `Pick`."""

    picked = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._model = TableModel()
        self._sorted = QSortFilterProxyModel()
        self._sorted.setSourceModel(self._model)
        self._sorted.setSortRole(Qt.ItemDataRole.UserRole)
        self.setModel(self._sorted)
        self.setSortingEnabled(True)
        self.setWordWrap(True)
        self.setAlternatingRowColors(True)
        self.setShowGrid(False)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.verticalHeader().hide()
        self.setStyleSheet("QTableView::item { padding: 2px 7px; } QHeaderView::section { padding: 2px 7px; }")
        self.horizontalHeader().setHighlightSections(False)
        self.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.setItemDelegate(FoldedText(self))
        self.horizontalHeader().sectionResized.connect(self.resizeRowsToContents)
        self.clicked.connect(self._clicked)

    @property
    def table(self) -> Table:
        """The table with its rows in the order shown."""
        table = self._model.table
        order = [self._sorted.mapToSource(self._sorted.index(i, 0)).row() for i in range(len(table.rows))]
        picks = tuple(table.picks[i] for i in order) if table.picks else ()
        return replace(table, rows=tuple(table.rows[i] for i in order), picks=picks)

    def show_table(self, table: Table) -> None:
        """Show `table`; the user's sort order stays while the columns are the same."""
        fresh = table.columns != self._model.table.columns
        self._model.show_table(table)
        header = self.horizontalHeader()
        if fresh:
            self.sortByColumn(-1, Qt.SortOrder.AscendingOrder)
            for i, long in enumerate(wide(table)):
                mode = QHeaderView.ResizeMode.Stretch if long else QHeaderView.ResizeMode.ResizeToContents
                header.setSectionResizeMode(i, mode)

    def natural_height(self) -> int:
        """Return the height of the header and all rows, in pixels."""
        rows = sum(self.rowHeight(i) for i in range(self._sorted.rowCount()))
        return self.horizontalHeader().sizeHint().height() + rows + 2 * self.frameWidth() + 4

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Copy the selected rows to the clipboard as tab-separated text."""
        if event.matches(QKeySequence.StandardKey.Copy):
            rows = sorted({index.row() for index in self.selectedIndexes()})
            table = self.table
            lines = [table.columns, *(tuple(map(str, table.rows[i])) for i in rows)]
            QGuiApplication.clipboard().setText("\n".join("\t".join(line) for line in lines))
        else:
            super().keyPressEvent(event)

    @Slot(QModelIndex)
    def _clicked(self, index: QModelIndex) -> None:
        table = self.table
        if (picks := table.picks) and table.clickable in ("", table.columns[index.column()]):
            self.picked.emit(picks[index.row()])


class PaperTable:
    """The whole table, wrapped to a width, for an exported picture; always in the light theme."""

    def __init__(self, table: Table, width: float, font: QFont) -> None:
        self.table, self.font = table, font
        self.head = QFont(font)
        self.head.setWeight(QFont.Weight.DemiBold)
        self._metrics, bold = QFontMetricsF(font), QFontMetricsF(self.head)
        texts = [tuple(map(cell_text, row)) for row in table.rows]
        natural = [
            max([bold.horizontalAdvance(name), *(self._metrics.horizontalAdvance(row[i]) for row in texts)]) + 2 * PAD
            for i, name in enumerate(table.columns)
        ]
        long = wide(table)
        fixed = sum(w for w, stretch in zip(natural, long, strict=True) if not stretch)
        share = max(width - fixed, 120.0 * sum(long)) / max(sum(long), 1)
        self._widths = [share if stretch else w for w, stretch in zip(natural, long, strict=True)]
        self._rows = [tuple(table.columns), *texts]
        self._heights = [max(map(self._height, row, self._widths)) for row in self._rows]
        self._title = bold.height() + PAD if table.title else 0.0
        self.height = sum(self._heights) + self._title + PAD if table.columns else 0.0

    def _height(self, text: str, width: float) -> float:
        return self._metrics.boundingRect(QRectF(0, 0, width - 2 * PAD, 1e5), int(WRAP), text).height() + PAD

    def paint(self, painter: QPainter, left: float, top: float) -> None:
        right = [numeric_ and i > 0 for i, numeric_ in enumerate(numeric(self.table))]
        painter.setPen(QColor(theme.resolve("ink", dark=False)))
        painter.setFont(self.head)
        if self.table.title:
            painter.drawText(QRectF(left + PAD, top, 1e4, self._title), WRAP, self.table.title)
        y = top + self._title
        for row, height in zip(self._rows, self._heights, strict=True):
            x = left
            for text, width, numeric_ in zip(row, self._widths, right, strict=True):
                side = WRAP ^ Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignRight if numeric_ else WRAP
                painter.drawText(QRectF(x + PAD, y + PAD / 2, width - 2 * PAD, height), side, text)
                x += width
            y += height
            painter.setPen(QColor(theme.resolve("grid", dark=False)))
            painter.drawLine(QPointF(left, y), QPointF(left + sum(self._widths), y))
            painter.setPen(QColor(theme.resolve("ink", dark=False)))
            painter.setFont(self.font)
