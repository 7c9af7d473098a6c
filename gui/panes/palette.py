"""The command palette: find a command by typing part of its name."""

from collections.abc import Sequence

from PySide6.QtCore import QEvent, QObject, Qt, Slot
from PySide6.QtGui import QAction, QKeyEvent, QKeySequence
from PySide6.QtWidgets import QDialog, QHeaderView, QLineEdit, QTreeWidget, QTreeWidgetItem, QVBoxLayout, QWidget

ACTION = Qt.ItemDataRole.UserRole


def matches(query: str, text: str) -> bool:
    """Whether every word of `query` occurs in `text`."""
    text = text.casefold()
    return all(word in text for word in query.casefold().split())


class Palette(QDialog):
    """Lists the enabled actions with their menus and shortcuts; Enter triggers the highlighted one."""

    def __init__(self, actions: Sequence[tuple[str, QAction]], parent: QWidget | None = None) -> None:
        super().__init__(parent, Qt.WindowType.Popup)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._actions = [(menu.replace(" > ", " › "), action) for menu, action in actions if action.isEnabled()]
        self.query = QLineEdit(placeholderText="Type a command", clearButtonEnabled=True)
        self.query.textChanged.connect(self._filter)
        self.query.returnPressed.connect(self._do)
        self.query.installEventFilter(self)
        self.listing = QTreeWidget()
        self.listing.setColumnCount(3)
        self.listing.setHeaderHidden(True)
        self.listing.setRootIsDecorated(False)
        self.listing.setUniformRowHeights(True)
        self.listing.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.listing.header().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.listing.header().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.listing.header().setStretchLastSection(False)
        self.listing.itemClicked.connect(self._do)
        box = QVBoxLayout(self)
        box.setContentsMargins(8, 8, 8, 8)
        box.addWidget(self.query)
        box.addWidget(self.listing)
        self.resize(600, 420)
        self._items: list[QTreeWidgetItem] = []
        self._filter("")

    def texts(self) -> list[str]:
        """Return the texts of the actions listed."""
        return [item.text(0) for item in self._items]

    @property
    def row(self) -> int:
        return self.listing.indexOfTopLevelItem(self.listing.currentItem())

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Let the up and down keys in the line edit move through the list."""
        if event.type() == QEvent.Type.KeyPress and isinstance(event, QKeyEvent):
            step = {Qt.Key.Key_Down: 1, Qt.Key.Key_Up: -1}.get(Qt.Key(event.key()), 0)
            if step and self._items:
                self.listing.setCurrentItem(self._items[(self.row + step) % len(self._items)])
                return True
        return super().eventFilter(watched, event)

    @Slot(str)
    def _filter(self, query: str) -> None:
        self.listing.clear()
        self._items = []
        for menu, action in self._actions:
            if matches(query, f"{menu} {action.text()}"):
                keys = action.shortcut().toString(QKeySequence.SequenceFormat.NativeText)
                item = QTreeWidgetItem([action.text(), menu, keys])
                item.setForeground(1, self.palette().placeholderText())
                item.setData(0, ACTION, action)
                self._items.append(item)
        self.listing.addTopLevelItems(self._items)
        if self._items:
            self.listing.setCurrentItem(self._items[0])

    @Slot()
    def _do(self) -> None:
        item = self.listing.currentItem()
        self.close()
        if item is not None:
            item.data(0, ACTION).trigger()
