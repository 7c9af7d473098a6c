"""The commands that act on the figure in front."""

from PySide6.QtCore import QObject, QPoint, Signal, Slot

from gui.panes.workspace import Workspace


class FigureCommands(QObject):
    """Walks through the views and hands the figure in front to its plot's own export commands."""

    help_requested = Signal(str)

    def __init__(self, workspace: Workspace, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._workspace = workspace

    @Slot()
    def next_view(self) -> None:
        self._workspace.panel.step(1)

    @Slot()
    def previous_view(self) -> None:
        self._workspace.panel.step(-1)

    @Slot()
    def toggle_split(self) -> None:
        page = self._workspace.page
        page.set_split(not page.split)
        self._workspace.changed.emit()

    @Slot()
    def ask_help(self) -> None:
        self.help_requested.emit(self._workspace.panel.view.help)

    @Slot()
    def save(self) -> None:
        """Offer the formats that the figure in front can be written in."""
        if (plot := self._workspace.panel.figure_area.plot) is not None:
            plot.menu.popup(plot.mapToGlobal(plot.rect().topRight() - QPoint(plot.menu.sizeHint().width(), 0)))

    @Slot()
    def copy(self) -> None:
        from gui.plots.export import pictures

        if (plot := self._workspace.panel.figure_area.plot) is not None:
            pictures.copy_image(plot)
