"""Small widgets and dialogs that several panes share."""

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QDialog, QDialogButtonBox, QMessageBox, QScrollArea, QToolButton, QWidget

from gui.plots.plain import message_box

SIDE_WIDTH = 280
"""Minimum width of a side pane, in pixels; any narrower and its content is cut off."""
Button = QMessageBox.StandardButton


def tool_button(text: str, tip: str = "") -> QToolButton:
    """Return a flat button."""
    button = QToolButton()
    button.setText(text)
    button.setToolTip(tip)
    button.setAutoRaise(True)
    return button


def set_role(widget: QWidget, role: str) -> None:
    """Style `widget` as the style sheet says for `role`."""
    widget.setProperty("role", role)
    widget.style().polish(widget)


def scrolled(widget: QWidget) -> QScrollArea:
    """Wrap the content of a pane in a vertical scroll area."""
    area = QScrollArea(widgetResizable=True)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setWidget(widget)
    area.setMinimumWidth(SIDE_WIDTH)
    return area


def ok_cancel(dialog: QDialog) -> QDialogButtonBox:
    """Return OK and Cancel buttons that accept and reject `dialog`."""
    buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel)
    buttons.accepted.connect(dialog.accept)
    buttons.rejected.connect(dialog.reject)
    return buttons


def confirm(
    parent: QWidget, title: str, text: str, button: Button, accept: str, reject: str, *, default: bool = False
) -> bool:
    """Ask whether to go ahead; `accept` and `reject` are the texts on `button` and on Cancel.

    Enter gives the answer `default`.
    """
    box = message_box(parent, QMessageBox.Icon.Question, title, text, button | Button.Cancel)
    box.button(button).setText(accept)
    box.button(Button.Cancel).setText(reject)
    box.setDefaultButton(button if default else Button.Cancel)
    answer = box.exec()
    box.deleteLater()
    return answer == button
