"""Keyboard navigation through models, layers and heads."""

from PySide6.QtCore import QEvent, QObject, Qt, Slot
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QAbstractItemView, QAbstractSlider, QAbstractSpinBox, QComboBox, QLineEdit, QTextEdit

from gui.state.results import Results
from gui.state.selection import SelectionModel

ARROWS = (Qt.Key.Key_Left, Qt.Key.Key_Right, Qt.Key.Key_Up, Qt.Key.Key_Down)
EDITORS = (QLineEdit, QTextEdit, QComboBox, QAbstractSpinBox, QAbstractItemView, QAbstractSlider)


class Navigation(QObject):
    """Moves the selection by one within the dataset on display."""

    def __init__(self, selection: SelectionModel, results: Results, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._selection, self._results = selection, results

    @Slot()
    def next_layer(self) -> None:
        self._step(layer=1)

    @Slot()
    def previous_layer(self) -> None:
        self._step(layer=-1)

    @Slot()
    def next_head(self) -> None:
        self._step(head=1)

    @Slot()
    def previous_head(self) -> None:
        self._step(head=-1)

    @Slot()
    def next_model(self) -> None:
        self._step(model=1)

    @Slot()
    def previous_model(self) -> None:
        self._step(model=-1)

    def _step(self, model: int = 0, layer: int = 0, head: int = 0) -> None:
        self._selection.step(self._results.dataset, model, layer, head)


class ArrowGuard(QObject):
    """Gives the arrow keys to a field or list that has the focus; elsewhere they move the selection."""

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.ShortcutOverride and isinstance(watched, EDITORS):
            assert isinstance(event, QKeyEvent)
            if event.key() in ARROWS and not event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier:
                event.accept()
                return True
        return False
