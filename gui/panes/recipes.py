"""Choose a request that comes with the program."""

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QDialog, QDialogButtonBox, QLabel, QListWidget, QListWidgetItem, QVBoxLayout, QWidget

from engine import recipes
from engine.request import Request


def choose_recipe(parent: QWidget) -> Request | None:
    """The request that the user picks from a list of titles, None if they think better of it."""
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
    hint = QLabel("Each is a whole request; it goes into the panes and starts at once.", wordWrap=True)
    buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
    buttons.addButton("Run", QDialogButtonBox.ButtonRole.AcceptRole)
    buttons.accepted.connect(dialog.accept)
    buttons.rejected.connect(dialog.reject)
    listing.itemDoubleClicked.connect(dialog.accept)
    box = QVBoxLayout(dialog)
    for widget in (hint, listing, buttons):
        box.addWidget(widget)
    dialog.resize(620, 320)
    chosen = dialog.exec() and listing.currentItem()
    request = recipes.recipe(chosen.data(Qt.ItemDataRole.UserRole)) if chosen else None
    dialog.deleteLater()
    return request
