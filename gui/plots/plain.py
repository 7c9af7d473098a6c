"""Labels, tooltips and boxes that show a text as it is written, where Qt by itself guesses whether it is HTML."""

from html import escape

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import Qt as GuiQt
from PySide6.QtWidgets import QLabel, QMessageBox, QWidget

from engine.printable import printable

MOST = 4000
"""Characters that a label, a tooltip or a box shows."""
MOST_FORCED = 240
"""Pixels that the longest word may force a label to be wide, and a window with it."""


class PlainLabel(QLabel):
    """A label that interprets nothing in its text."""

    def __init__(self, text: str = "", parent: QWidget | None = None, *, wordWrap: bool = False) -> None:
        super().__init__(parent)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setWordWrap(wordWrap)
        self.setText(text)

    def setText(self, text: str) -> None:
        super().setText(printable(text, MOST, lines=True))

    def minimumSizeHint(self) -> QSize:
        return super().minimumSizeHint().boundedTo(QSize(MOST_FORCED, 1 << 24))


def tip(text: str) -> str:
    """Return what shows `text` as it is where Qt guesses whether a text is HTML: in every tooltip."""
    text = printable(text, MOST, lines=True)
    if GuiQt.mightBeRichText(text):
        return f'<p style="white-space: pre-wrap">{escape(text)}</p>'
    return text


def in_menu(text: str) -> str:
    """Return what shows `text` as it is in a menu, where an ampersand marks the key of an entry."""
    return printable(text).replace("&", "&&")


def in_title(text: str) -> str:
    """Return what shows `text` as it is in the title of a window, where ``[*]`` marks what is not saved."""
    return printable(text).replace("[*]", "[*][*]")


def message_box(
    parent: QWidget | None, icon: QMessageBox.Icon, title: str, text: str, buttons: QMessageBox.StandardButton
) -> QMessageBox:
    """Return a box, not shown yet, with a plain text."""
    box = QMessageBox(icon, in_title(title), "", buttons, parent)
    box.setTextFormat(Qt.TextFormat.PlainText)
    box.setText(printable(text, MOST, lines=True))
    return box
