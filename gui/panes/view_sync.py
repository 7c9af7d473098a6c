"""Passes the dataset on display and the selection to everything that shows them."""

from PySide6.QtCore import QObject, Slot

from engine.analyses.header import Header
from gui.panes.inspector import Inspector
from gui.panes.workspace import ViewPanel, Workspace
from gui.state.results import Results
from gui.state.selection import SelectionModel
from gui.views.lookup import declared_views


class ViewSync(QObject):
    """Updates the views, the navigator and the inspector from one dataset and one selection."""

    def __init__(
        self,
        results: Results,
        selection: SelectionModel,
        panes: tuple[Workspace, ViewPanel, Inspector],
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._results, self._selection = results, selection
        self._workspace, self._navigator, self._inspector = panes
        results.shown.connect(self.refresh)
        selection.changed.connect(self.update_inspector)

    @Slot()
    def refresh(self) -> None:
        """Draw the dataset on display, or say why there is none."""
        row = self._results.row
        dataset, empty = self._results.dataset, self._results.empty
        if dataset is not None:
            analysis = Header.of(dataset).analysis
        else:
            analysis = row.request.analysis if row else self._workspace.analysis
        self._selection.clamp(dataset)
        self._workspace.show_analysis(analysis)
        self._workspace.show_dataset(analysis, dataset, empty)
        self._navigator.set_view(analysis)
        self._navigator.show_dataset(dataset)
        self.update_inspector()

    @Slot()
    def update_inspector(self) -> None:
        """Show the selection in the inspector."""
        if (dataset := self._results.dataset) is None:
            self._inspector.show_inspection(None)
            return
        views = declared_views(Header.of(dataset).analysis)
        self._inspector.show_inspection(views.INSPECT(dataset, self._selection.current))
