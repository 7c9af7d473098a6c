"""The dialog that lists the built-in requests."""

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QDialog, QDialogButtonBox, QListWidget, QListWidgetItem, QVBoxLayout, QWidget

from engine import recipes
from engine.request import Request
from gui.plots.plain import PlainLabel


def choose_recipe(parent: QWidget) -> Request | None:
    """Let the user pick a request from a list of titles; return None if they cancel."""
    dialog = QDialog(parent)
    dialog.setWindowTitle("Recipes")
    listing = QListWidget()
    listing.setWordWrap(True)
    listing.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    for name, title in recipes.titles().items():
        item = QListWidgetItem(title)
        item.setData(Qt.ItemDataRole.UserRole, name)
        listing.addItem(item)
    listing.setCurrentRow(0)
    hint = PlainLabel("A recipe is a complete request: it fills the panes and starts at once.", wordWrap=True)
    buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
    buttons.addButton("Run", QDialogButtonBox.ButtonRole.AcceptRole)
    buttons.accepted.connect(dialog.accept)
    buttons.rejected.connect(dialog.reject)
    listing.itemDoubleClicked.connect(dialog.accept)
    box = QVBoxLayout(dialog)
    for widget in (hint, listing, buttons):
        box.addWidget(widget)
    dialog.resize(620, 320)
    accepted = dialog.exec() and listing.currentItem() is not None
    request = recipes.recipe(listing.currentItem().data(Qt.ItemDataRole.UserRole)) if accepted else None
    dialog.deleteLater()
    return request
