"""The one selection that every view follows."""

from PySide6.QtCore import QObject, Signal

from gui.plots.selection import Pick, Selection


class SelectionModel(QObject):
    """Holds the Selection; clicks set it, views listen to it."""

    changed = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.current = Selection()

    def pick(self, pick: Pick) -> None:
        self.set(pick.applied_to(self.current))

    def set(self, selection: Selection) -> None:
        if selection != self.current:
            self.current = selection
            self.changed.emit(selection)
