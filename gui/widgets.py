"""Two small things that several panes need."""

from PySide6.QtWidgets import QToolButton, QWidget


def tool_button(text: str, tip: str = "") -> QToolButton:
    """A flat button."""
    button = QToolButton()
    button.setText(text)
    button.setToolTip(tip)
    button.setAutoRaise(True)
    return button


def set_role(widget: QWidget, role: str) -> None:
    """Give `widget` the look that the style sheet has for `role`."""
    widget.setProperty("role", role)
    widget.style().polish(widget)
