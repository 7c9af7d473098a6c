"""The command palette: type a few letters of what you want to do."""

from collections.abc import Sequence

from PySide6.QtCore import QEvent, QObject, Qt, Slot
from PySide6.QtGui import QAction, QKeyEvent, QKeySequence
from PySide6.QtWidgets import QDialog, QLineEdit, QListWidget, QListWidgetItem, QVBoxLayout, QWidget

ACTION = Qt.ItemDataRole.UserRole


def matches(query: str, text: str) -> bool:
    """Whether every word of `query` stands somewhere in `text`."""
    text = text.casefold()
    return all(word in text for word in query.casefold().split())


class Palette(QDialog):
    """Lists the enabled actions with their shortcuts; Enter does the one that is marked."""

    def __init__(self, actions: Sequence[tuple[str, QAction]], parent: QWidget | None = None) -> None:
        super().__init__(parent, Qt.WindowType.Popup)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._actions = [(menu, action) for menu, action in actions if action.isEnabled() and action.text()]
        self.query = QLineEdit(placeholderText="Type a command", clearButtonEnabled=True)
        self.query.textChanged.connect(self._filter)
        self.query.returnPressed.connect(self._do)
        self.query.installEventFilter(self)
        self.listing = QListWidget()
        self.listing.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.listing.itemClicked.connect(self._do)
        box = QVBoxLayout(self)
        box.setContentsMargins(8, 8, 8, 8)
        box.addWidget(self.query)
        box.addWidget(self.listing)
        self.resize(520, 380)
        self._filter("")

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Up and down in the line move through the list."""
        if event.type() == QEvent.Type.KeyPress and isinstance(event, QKeyEvent):
            step = {Qt.Key.Key_Down: 1, Qt.Key.Key_Up: -1}.get(Qt.Key(event.key()), 0)
            if step and self.listing.count():
                self.listing.setCurrentRow((self.listing.currentRow() + step) % self.listing.count())
                return True
        return super().eventFilter(watched, event)

    @Slot(str)
    def _filter(self, query: str) -> None:
        self.listing.clear()
        for menu, action in self._actions:
            text = action.text().replace("&", "")
            if matches(query, f"{menu} {text}"):
                keys = action.shortcut().toString(QKeySequence.SequenceFormat.NativeText)
                item = QListWidgetItem(action.icon(), f"{text}    {keys}" if keys else text, self.listing)
                item.setData(ACTION, action)
                item.setToolTip(menu)
        self.listing.setCurrentRow(0)

    @Slot()
    def _do(self) -> None:
        item = self.listing.currentItem()
        self.close()
        if item is not None:
            item.data(ACTION).trigger()
