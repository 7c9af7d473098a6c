"""The list of runs at the bottom of the window."""

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, Qt, Signal, Slot
from PySide6.QtGui import QPainter
from PySide6.QtWidgets import (
    QAbstractItemView,
    QApplication,
    QHBoxLayout,
    QHeaderView,
    QPushButton,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionProgressBar,
    QStyleOptionViewItem,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from engine.printable import printable
from engine.runs.jobs.job import State
from gui.plots.plain import tip
from gui.state.runs import RunRow, Runs

COLUMNS = ("Run", "State", "Progress", "Time left", "")
KEY = Qt.ItemDataRole.UserRole
SHARE = Qt.ItemDataRole.UserRole + 1


def clock(seconds: float | None) -> str:
    """Format seconds as ``01:40`` or ``2:03:10``; empty for None."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"


class _ProgressDelegate(QStyledItemDelegate):
    def paint(
        self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> None:
        super().paint(painter, option, index)
        done, total = index.data(SHARE) or (0, 0)
        if not total:
            return
        bar = QStyleOptionProgressBar()
        bar.rect = option.rect.adjusted(4, 4, -4, -4)
        bar.palette = option.palette
        bar.state = QStyle.StateFlag.State_Enabled | QStyle.StateFlag.State_Horizontal
        bar.minimum, bar.maximum, bar.progress = 0, total, done
        bar.text, bar.textVisible = f"{done} / {total}", True
        bar.textAlignment = Qt.AlignmentFlag.AlignCenter
        QApplication.style().drawControl(QStyle.ControlElement.CE_ProgressBar, bar, painter)


class RunsPane(QWidget):
    """Lists the runs, newest on top, with the commands for the selected one."""

    chosen = Signal(object)
    cancel = Signal(object)
    resume = Signal(object)
    log = Signal(object)

    def __init__(self, runs: Runs, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._runs = runs
        self._items: dict[int, QTreeWidgetItem] = {}
        self._shown: dict[int, RunRow] = {}
        self.tree = QTreeWidget(columnCount=len(COLUMNS))
        self.tree.setRootIsDecorated(False)
        self.tree.setHeaderLabels(COLUMNS)
        self.tree.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.tree.setAllColumnsShowFocus(True)
        self.tree.setUniformRowHeights(True)
        self._delegate = _ProgressDelegate(self.tree)
        self.tree.setItemDelegateForColumn(2, self._delegate)
        header = self.tree.header()
        for column, width in enumerate((300, 90, 160, 80)):
            self.tree.setColumnWidth(column, width)
        header.setSectionResizeMode(4, QHeaderView.ResizeMode.Stretch)
        self.tree.currentItemChanged.connect(self._choose)

        self.cancel_button = QPushButton("Cancel")
        self.resume_button = QPushButton("Resume")
        self.log_button = QPushButton("Log…")
        self.cancel_button.clicked.connect(self._cancel)
        self.resume_button.clicked.connect(self._resume)
        self.log_button.clicked.connect(self._log)
        buttons = QVBoxLayout()
        for button in (self.cancel_button, self.resume_button, self.log_button):
            button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
            buttons.addWidget(button)
        buttons.addStretch(1)
        box = QHBoxLayout(self)
        box.setContentsMargins(8, 6, 8, 8)
        box.addWidget(self.tree, 1)
        box.addLayout(buttons)
        runs.changed.connect(self.refresh)
        self.refresh()

    @property
    def current(self) -> RunRow | None:
        item = self.tree.currentItem()
        return self._runs.row(item.data(0, KEY)) if item else None

    def choose(self, row: RunRow) -> None:
        if item := self._items.get(row.key):
            self.tree.setCurrentItem(item)

    @Slot()
    def refresh(self) -> None:
        """Update the list, keeping the selected row."""
        rows = {row.key: row for row in self._runs.rows}
        for key in [k for k in self._items if k not in rows]:
            self.tree.takeTopLevelItem(self.tree.indexOfTopLevelItem(self._items.pop(key)))
        for key, row in rows.items():
            if key not in self._items:
                item = QTreeWidgetItem()
                item.setData(0, KEY, key)
                self._items[key] = item
                self.tree.insertTopLevelItem(0, item)
            if self._shown.get(key) is not row:  # the others are as they were, and may be many
                self._fill(self._items[key], row)
        self._shown = rows
        self._enable()

    def _fill(self, item: QTreeWidgetItem, row: RunRow) -> None:
        status = row.activity if row.active else row.message
        for column, text in enumerate((row.title, str(row.state), "", clock(row.remaining), status)):
            item.setText(column, printable(text))
        item.setData(2, SHARE, (row.done, row.total))
        item.setToolTip(0, tip(f"{row.title}\n{row.run}"))
        item.setToolTip(4, tip(status))

    def _enable(self) -> None:
        row = self.current
        self.cancel_button.setEnabled(row is not None and row.state in (State.RUNNING, State.QUEUED))
        self.resume_button.setEnabled(row is not None and row.resumable)
        self.log_button.setEnabled(row is not None)

    @Slot()
    def _choose(self) -> None:
        self._enable()
        if (row := self.current) is not None:
            self.chosen.emit(row)

    @Slot()
    def _cancel(self) -> None:
        if (row := self.current) is not None:
            self.cancel.emit(row)

    @Slot()
    def _resume(self) -> None:
        if (row := self.current) is not None:
            self.resume.emit(row)

    @Slot()
    def _log(self) -> None:
        if (row := self.current) is not None:
            self.log.emit(row)
