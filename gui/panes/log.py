"""The log of a run: its events, its request and its provenance."""

import json
from typing import Any

from PySide6.QtCore import Qt, Slot
from PySide6.QtGui import QFontDatabase, QGuiApplication
from PySide6.QtWidgets import QDialog, QDialogButtonBox, QPlainTextEdit, QVBoxLayout, QWidget

from engine.printable import printable
from gui.plots.plain import in_title
from gui.state.runs import RunRow

MOST = 2_000_000
"""Characters of a log that are shown."""


def log_text(row: RunRow, provenance: dict[str, Any] | None) -> str:
    """Return everything known about a run as text, to read or to attach to a report."""
    parts = [row.title, f"State: {row.state}, {row.done} of {row.total} units", row.message, *row.log]
    if row.detail:
        parts += ["", "Details", row.detail]
    parts += ["", "Request", row.request.model_dump_json(indent=2)]
    if provenance:
        parts += ["", "Provenance", json.dumps(provenance, indent=2, default=str)]
    return "\n".join(parts)


class LogDialog(QDialog):
    """Shows the log, with a button that copies it."""

    def __init__(self, row: RunRow, provenance: dict[str, Any] | None, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle(in_title(f"Log of {row.run or row.title}"))
        self.text = QPlainTextEdit(printable(log_text(row, provenance), MOST, lines=True), readOnly=True)
        self.text.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        copy = buttons.addButton("Copy", QDialogButtonBox.ButtonRole.ActionRole)
        copy.clicked.connect(self._copy)
        buttons.rejected.connect(self.close)
        box = QVBoxLayout(self)
        box.addWidget(self.text)
        box.addWidget(buttons)
        self.resize(720, 520)

    @Slot()
    def _copy(self) -> None:
        QGuiApplication.clipboard().setText(self.text.toPlainText())
