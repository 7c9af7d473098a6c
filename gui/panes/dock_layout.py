"""Layout of the window: the centre, the docks around it, and the arrangement the user last chose."""

from collections.abc import Callable, Mapping

from PySide6.QtCore import QObject, Qt, Slot
from PySide6.QtWidgets import QDockWidget, QMainWindow, QSplitter, QVBoxLayout, QWidget

from gui.state.settings import Settings

LEFT, RIGHT, BOTTOM = (
    Qt.DockWidgetArea.LeftDockWidgetArea,
    Qt.DockWidgetArea.RightDockWidgetArea,
    Qt.DockWidgetArea.BottomDockWidgetArea,
)
DOCKS = {
    "model": ("Model", LEFT),
    "inspector": ("Inspector", RIGHT),
    "parameters": ("Parameters", RIGHT),
    "runs": ("Runs", BOTTOM),
}
SPLIT = [620, 210]


class DockLayout(QObject):
    """Lays out one window: messages on top, views above the navigator, the timeline below, and the docks by name."""

    def __init__(
        self,
        window: QMainWindow,
        middle: tuple[QWidget, QWidget, QWidget, QWidget],
        sides: Mapping[str, QWidget],
        settings: Settings,
    ) -> None:
        super().__init__(window)
        self._window, self._settings = window, settings
        messages, views, navigator, timeline = middle
        window.setObjectName("eigenscope")
        window.setDockNestingEnabled(True)
        window.setCorner(Qt.Corner.BottomLeftCorner, BOTTOM)
        window.setCorner(Qt.Corner.BottomRightCorner, BOTTOM)
        self.middle = QSplitter(Qt.Orientation.Vertical, childrenCollapsible=False)
        self.middle.addWidget(views)
        self.middle.addWidget(navigator)
        self.middle.setSizes(SPLIT)
        self.middle.setStretchFactor(0, 1)
        centre = QWidget()
        box = QVBoxLayout(centre)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(0)
        box.addWidget(messages)
        box.addWidget(self.middle, 1)
        box.addWidget(timeline)
        window.setCentralWidget(centre)
        self.docks = {name: self._dock(name, widget) for name, widget in sides.items()}
        self._arrange()

    def _dock(self, name: str, widget: QWidget) -> QDockWidget:
        title, area = DOCKS[name]
        dock = QDockWidget(title, self._window)
        dock.setObjectName(name)
        dock.setWidget(widget)
        self._window.addDockWidget(area, dock)
        return dock

    def _arrange(self) -> None:
        for name, dock in self.docks.items():
            dock.setFloating(False)
            self._window.addDockWidget(DOCKS[name][1], dock)
            dock.show()
        right = [self.docks["inspector"], self.docks["parameters"]]
        self._window.resizeDocks([self.docks["model"], right[0]], [300, 310], Qt.Orientation.Horizontal)
        self._window.resizeDocks(right, [330, 420], Qt.Orientation.Vertical)
        self._window.resizeDocks([self.docks["runs"]], [130], Qt.Orientation.Vertical)
        self._window.resize(1500, 940)

    @Slot()
    def reset(self) -> None:
        """Restore the layout of a new window."""
        self._settings.forget_layout()
        self._arrange()
        self.middle.setSizes(SPLIT)

    def save(self) -> None:
        """Save the layout in the settings."""
        window = self._window
        for name, state in (
            ("geometry", window.saveGeometry()),
            ("docks", window.saveState()),
            ("middle", self.middle.saveState()),
        ):
            self._settings.save_layout(name, state)

    def restore(self) -> None:
        """Restore the layout saved in the settings."""
        restorers: dict[str, Callable[..., object]] = {
            "geometry": self._window.restoreGeometry,
            "docks": self._window.restoreState,
            "middle": self.middle.restoreState,
        }
        for name, restore in restorers.items():
            if (state := self._settings.layout(name)) is not None:
                restore(state)
