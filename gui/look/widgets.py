"""Small things that several panes need."""

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QScrollArea, QToolButton, QWidget

SIDE_WIDTH = 280
"""What the panes at the sides need at least, in pixels, so that nothing in them is cut off."""


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


def scrolled(widget: QWidget) -> QScrollArea:
    """A pane's content, which scrolls up and down where it is higher than the pane."""
    area = QScrollArea(widgetResizable=True)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setWidget(widget)
    area.setMinimumWidth(SIDE_WIDTH)
    return area
