"""Walking through models, layers and heads with the keyboard."""

import json
from dataclasses import replace

from PySide6.QtCore import QEvent, QObject, Qt, Slot
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QAbstractItemView, QAbstractSlider, QAbstractSpinBox, QComboBox, QLineEdit, QTextEdit

from gui.plots.selection import Selection
from gui.state.results import Results
from gui.state.selection import SelectionModel

ARROWS = (Qt.Key.Key_Left, Qt.Key.Key_Right, Qt.Key.Key_Up, Qt.Key.Key_Down)
EDITORS = (QLineEdit, QTextEdit, QComboBox, QAbstractSpinBox, QAbstractItemView, QAbstractSlider)


class Navigation(QObject):
    """Moves the selection by one, inside the dataset that is shown."""

    def __init__(self, selection: SelectionModel, results: Results, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._selection, self._results = selection, results

    @Slot()
    def next_layer(self) -> None:
        self._step(layer=1)

    @Slot()
    def previous_layer(self) -> None:
        self._step(layer=-1)

    @Slot()
    def next_head(self) -> None:
        self._step(head=1)

    @Slot()
    def previous_head(self) -> None:
        self._step(head=-1)

    @Slot()
    def next_model(self) -> None:
        self._step(model=1)

    @Slot()
    def previous_model(self) -> None:
        self._step(model=-1)

    @Slot()
    def clamp(self) -> None:
        """Bring the selection inside the dataset that is shown now."""
        self._step()

    def _step(self, model: int = 0, layer: int = 0, head: int = 0) -> None:
        if (dataset := self._results.dataset) is None:
            return
        infos = json.loads(dataset.attrs["models"])
        now = self._selection.current
        at = min(max(now.model + model, 0), len(infos) - 1)
        sites = [str(name) for name in dataset["site"].values] if "site" in dataset.dims else []
        self._selection.set(
            replace(
                now,
                model=at,
                layer=min(max(now.layer + layer, 0), infos[at]["n_layers"] - 1),
                head=now.head if sites else min(max(now.head + head, 0), infos[at]["n_heads"] - 1),
                site=_site(sites, now.site, head),
            )
        )

    def restore(self, state: dict[str, int]) -> None:
        """Select what was selected when the session was last open."""
        known = Selection.__dataclass_fields__
        self._selection.set(Selection(**{k: int(v) for k, v in state.items() if k in known}))


def _site(sites: list[str], now: int, by: int) -> int:
    """Where a result has sites, they are walked in the place of heads; −1 stays the one that is shown first."""
    if not by or not sites:
        return now if now < len(sites) else -1
    first = sites.index("block") if "block" in sites else 0
    return min(max((now if now >= 0 else first) + by, 0), len(sites) - 1)


class ArrowGuard(QObject):
    """Leaves the arrow keys to fields and lists while they have the focus; anywhere else they walk."""

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.ShortcutOverride and isinstance(watched, EDITORS):
            assert isinstance(event, QKeyEvent)
            if event.key() in ARROWS and not event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier:
                event.accept()
                return True
        return False
