"""The text that a run reads: where it comes from and how much of it is used."""

from pathlib import Path

from PySide6.QtCore import Signal, Slot
from PySide6.QtWidgets import QFileDialog, QGroupBox, QHBoxLayout, QVBoxLayout, QWidget

from engine.request import TEXT_SUFFIXES, DataSpec
from gui.look.widgets import tool_button
from gui.panes.form import Form


class TextPane(QGroupBox):
    """Edits the `DataSpec` of a request; hidden while nothing reads a text."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Text", parent)
        self.form = Form(DataSpec)
        self.form.changed.connect(self.changed)
        file = tool_button("File…", "Choose a text, a table with a column of text, or token ids")
        folder = tool_button("Folder…", "Choose the folder of a data set saved to disk")
        file.clicked.connect(self.choose_file)
        folder.clicked.connect(self.choose_folder)
        buttons = QHBoxLayout()
        buttons.addStretch(1)
        buttons.addWidget(file)
        buttons.addWidget(folder)
        box = QVBoxLayout(self)
        box.addLayout(buttons)
        box.addWidget(self.form)
        self.hide()

    def set_needed(self, needed: bool) -> None:
        """Show the fields if something reads the text."""
        self.setVisible(needed)

    def spec(self) -> DataSpec | None:
        """Return the text, None where nothing reads one."""
        return None if self.isHidden() else self.form.value()

    @Slot()
    def choose_file(self) -> None:
        """Ask for a file and put its name into the form."""
        kinds = " ".join(f"*{kind} *{kind.upper()}" for kind in TEXT_SUFFIXES)
        name, _ = QFileDialog.getOpenFileName(
            self, "Text", self._start(), f"Texts and token ids ({kinds});;All files (*)"
        )
        self._put(name)

    @Slot()
    def choose_folder(self) -> None:
        """Ask for the folder of a saved data set and put its name into the form."""
        self._put(QFileDialog.getExistingDirectory(self, "Data set", self._start()))

    def _start(self) -> str:
        folder = Path(str(self.form.editors["source"].read())).parent
        return str(folder if folder.is_absolute() and folder.is_dir() else Path.home())

    def _put(self, name: str) -> None:
        if name:
            self.form.editors["source"].write(name)
