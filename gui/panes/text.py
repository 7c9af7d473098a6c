"""The text that a run reads: where it comes from and how much of it is used."""

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QGroupBox, QVBoxLayout, QWidget

from engine.request import DataSpec
from gui.panes.form import Form


class TextPane(QGroupBox):
    """Edits the `DataSpec` of a request; hidden while nothing reads a text."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Text", parent)
        self.form = Form(DataSpec)
        self.form.changed.connect(self.changed)
        QVBoxLayout(self).addWidget(self.form)
        self.hide()

    def set_needed(self, needed: bool) -> None:
        """Show the fields if something reads the text."""
        self.setVisible(needed)

    def spec(self) -> DataSpec | None:
        """Return the text, None where nothing reads one."""
        return None if self.isHidden() else self.form.value()
