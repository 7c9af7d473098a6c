"""Commands that act on the figure in front."""

from PySide6.QtCore import QObject, QPoint, Signal, Slot

from gui.panes.workspace import Workspace


class FigureCommands(QObject):
    """Steps through the views, and passes the figure in front to the export commands of its plot."""

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
        """Open the menu of export formats for the figure in front."""
        if (plot := self._workspace.panel.figure_area.plot) is not None:
            plot.menu.popup(plot.mapToGlobal(plot.rect().topRight() - QPoint(plot.menu.sizeHint().width(), 0)))

    @Slot()
    def copy(self) -> None:
        from gui.plots.export import pictures

        if (plot := self._workspace.panel.figure_area.plot) is not None:
            pictures.copy_image(plot)
