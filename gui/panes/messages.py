"""A message across the top of the window, with its details and a copy button one click away."""

from typing import Literal

from PySide6.QtCore import Qt, Slot
from PySide6.QtGui import QFontDatabase, QGuiApplication
from PySide6.QtWidgets import QFrame, QHBoxLayout, QPlainTextEdit, QVBoxLayout, QWidget

from engine.errors import one_sentence
from engine.printable import printable
from gui.look.widgets import tool_button
from gui.plots.plain import PlainLabel

Kind = Literal["error", "notice"]
MOST_DETAILS = 100_000
"""Characters of the details that are shown."""


class MessageBar(QFrame):
    """Shows the latest message until it is closed; it neither takes the focus nor blocks."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("messageBar")
        self.text = PlainLabel(wordWrap=True)
        self.text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.details = QPlainTextEdit(readOnly=True)
        self.details.hide()
        self.details.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        self.details.setMaximumHeight(180)
        self.more = tool_button("Details")
        self.more.setCheckable(True)
        self.more.toggled.connect(self.details.setVisible)
        self.copy = tool_button("Copy")
        self.copy.clicked.connect(self._copy)
        close = tool_button("✕", "Close this message")
        close.clicked.connect(self.hide)

        line = QHBoxLayout()
        line.addWidget(self.text, 1)
        for button in (self.more, self.copy, close):
            button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
            line.addWidget(button, 0, Qt.AlignmentFlag.AlignTop)
        box = QVBoxLayout(self)
        box.setContentsMargins(12, 6, 6, 6)
        box.addLayout(line)
        box.addWidget(self.details)
        self.hide()

    def show_message(self, text: str, detail: str = "", kind: Kind = "error") -> None:
        self.setProperty("kind", kind)
        self.style().polish(self)
        self.text.setText(text)
        self.details.setPlainText(printable(detail, MOST_DETAILS, lines=True))
        self.more.setChecked(False)
        self.more.setVisible(bool(detail))
        self.show()

    @Slot(object)
    def show_error(self, error: BaseException) -> None:
        """Show a UserError as it is, and whatever else escaped as an internal error with its traceback."""
        failure, remedy = "Internal error in Eigenscope; committed units are safe", "Please report it with the details."
        shown = one_sentence(error, failure, remedy)
        self.show_message(shown.message, shown.detail)

    @Slot(object)
    def explain(self, error: BaseException) -> None:
        """Show an error with its details open."""
        self.show_error(error)
        self.more.setChecked(True)

    @Slot()
    def _copy(self) -> None:
        parts = (self.text.text(), self.details.toPlainText())
        QGuiApplication.clipboard().setText("\n\n".join(p for p in parts if p))
