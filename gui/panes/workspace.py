"""The centre of the window: one tab for each analysis, with one or two panels of linked views."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QSize, Qt, QTimer, Signal, Slot
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QSizePolicy, QSplitter, QStackedLayout, QTabBar, QTabWidget, QVBoxLayout, QWidget

from engine.analyses.header import Header
from engine.analyses.registry import ANALYSES
from gui.panes.form import Form
from gui.plots.figure import Figure, OptionChange
from gui.plots.selection import Pick, Selection
from gui.state.selection import SelectionModel
from gui.views.base import Options, View
from gui.views.lookup import declared_views, views_of

if TYPE_CHECKING:
    import xarray as xr

    from gui.plots.figure_widget import FigureWidget


BUTTONS_WIDTH = 150
"""Width of the figure's own buttons and a short readout, in pixels."""
DRAG_MS = 40
"""Interval between redraws while a window on the plot is dragged."""


def navigators() -> tuple[View, ...]:
    """Return the navigator of every analysis, named after its analysis."""
    return tuple(replace(declared_views(name).NAVIGATOR, name=name) for name in ANALYSES)


class FigureArea(QWidget):
    """Place of a figure, empty until the plotting library is loaded right after the first paint.

    `tools` sit above it, in one row with the figure's own buttons where both fit.
    """

    picked = Signal(object)
    dragged = Signal(object)
    help_requested = Signal()

    def __init__(self, tools: QWidget, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.plot: FigureWidget | None = None
        self._figure: Figure | None = None
        self._tools = tools
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(0)
        self._layout.addWidget(tools, 0, Qt.AlignmentFlag.AlignTop)

    def load(self) -> None:
        """Create the plot widget (imports the plotting library)."""
        if self.plot is None:
            from gui.plots.figure_widget import FigureWidget

            self.plot = FigureWidget(self)
            self.plot.picked.connect(self.picked)
            self.plot.dragged.connect(self.dragged)
            self.plot.help_requested.connect(self.help_requested)
            self._layout.addWidget(self.plot)
            self.place_tools()
            if self._figure is not None:
                self.plot.show_figure(self._figure)

    def place_tools(self) -> None:
        """Put the tools beside the figure's buttons, or above them in a narrow panel."""
        if self.plot is not None:
            beside = self.width() >= self._tools.sizeHint().width() + BUTTONS_WIDTH
            (self.plot.bar if beside else self._layout).insertWidget(0, self._tools)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.place_tools()

    @property
    def figure(self) -> Figure | None:
        return self._figure

    def show_figure(self, figure: Figure) -> None:
        self._figure = figure
        if self.plot is not None:
            self.plot.show_figure(figure)


def _shared_names(form: Form[Any]) -> list[str]:
    """Return the options that mean the same in several views of the panel."""
    fields = form.model.model_fields.items()
    return [name for name, field in fields if isinstance(e := field.json_schema_extra, dict) and e.get("shared")]


class ViewPanel(QWidget):
    """One figure, the tab bar that chooses its view, and the options of that view. Draws only while visible."""

    changed = Signal()
    help_requested = Signal(str)

    def __init__(self, views: tuple[View, ...], selection: SelectionModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.views = {view.name: view for view in views}
        self.selection = selection
        self.dataset: xr.Dataset | None = None
        self.empty = ""
        self._stale = True
        self.tabs = QTabBar(expanding=False, drawBase=False, usesScrollButtons=True)
        self.tabs.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.tabs.setObjectName("viewTabs")
        for view in views:
            index = self.tabs.addTab(view.title)
            self.tabs.setTabData(index, view.name)
            self.tabs.setTabVisible(index, view.offered is None)
        self.tabs.currentChanged.connect(self._view_chosen)
        self.forms: dict[str, Form[Any]] = {}
        self._pending_options: dict[str, dict[str, Any]] = {}  # restored options not yet applied to a form
        self._shared_options: dict[str, Any] = {}  # latest values of the options shared between views
        tools = QWidget()
        tools.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
        tools.setMinimumWidth(1)  # a panel may become narrower than its tools, which then get their own row
        self._options = QStackedLayout(tools)
        self._options.setContentsMargins(4, 2, 4, 2)
        self.figure_area = FigureArea(tools)
        self.figure_area.picked.connect(self._picked)
        self.figure_area.dragged.connect(self._dragged)
        self._option_change = OptionChange(())
        self._throttle = QTimer(self, singleShot=True, interval=DRAG_MS)
        self._throttle.timeout.connect(self._set_options)
        self.figure_area.help_requested.connect(self._ask_help)
        selection.changed.connect(self._moved)

        self.tabs.setVisible(len(views) > 1)
        self.box = QVBoxLayout(self)
        self.box.setContentsMargins(0, 0, 0, 0)
        self.box.setSpacing(0)
        self.box.addWidget(self.tabs)
        self.box.addWidget(self.figure_area, 1)
        self._view_chosen()

    @property
    def view(self) -> View:
        return self.views[self.tabs.tabData(self.tabs.currentIndex())]

    def set_view(self, name: str) -> None:
        for index in range(self.tabs.count()):
            if self.tabs.tabData(index) == name:
                self.tabs.setTabVisible(index, True)
                self.tabs.setCurrentIndex(index)

    def step(self, by: int) -> None:
        """Move by this many views, wrapping around."""
        visible = [index for index in range(self.tabs.count()) if self.tabs.isTabVisible(index)]
        self.tabs.setCurrentIndex(visible[(visible.index(self.tabs.currentIndex()) + by) % len(visible)])

    def options(self) -> Options:
        return self._form(self.view).value()

    def show_dataset(self, dataset: "xr.Dataset | None", empty: str = "") -> None:
        self.dataset, self.empty = dataset, empty
        if dataset is not None and Header.of(dataset).analysis == self.view.analysis:
            self._update_views(dataset)
        self.refresh()

    def _update_views(self, dataset: "xr.Dataset") -> None:
        """Show the tabs of the views that apply to this dataset, with the options it offers."""
        for index, view in enumerate(self.views.values()):
            if view.offered is not None:
                self.tabs.setTabVisible(index, view.offered(dataset))
            if view.options_of is not None and (form := self.forms.get(view.name)) is not None:
                if form.model is view.options_of(dataset):
                    continue
                self.forms.pop(view.name)
                if form.valid:
                    pending = self._pending_options.setdefault(view.name, {})
                    self._pending_options[view.name] = pending | form.value().model_dump(mode="json")
                self._options.removeWidget(form)
                form.deleteLater()
        self._options.setCurrentWidget(self._form(self.view))

    @Slot()
    def refresh(self) -> None:
        """Draw now if visible, else when next shown."""
        self._stale = not self.isVisible()
        if self._stale:
            return
        if self.dataset is None or Header.of(self.dataset).analysis != self.view.analysis:
            self.figure_area.show_figure(Figure(empty=self.empty))
        elif (form := self._form(self.view)).valid:
            try:
                figure = self.view.draw(self.dataset, self.selection.current, form.value())
            except Exception:  # else the figure of another selection would stay
                self.figure_area.show_figure(Figure(empty="This view cannot be drawn."))
                raise
            self.figure_area.show_figure(figure)

    def state(self) -> dict[str, Any]:
        """Return the state that a session saves: the view, and the options of every view opened."""
        options = dict(self._pending_options)
        for name, form in self.forms.items():
            if form.valid:
                options[name] = options.get(name, {}) | form.value().model_dump(mode="json")
        return {"view": self.view.name, "options": options}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore `state`, skipping views and options that no longer exist."""
        self._shared_options.clear()
        for name, values in state.get("options", {}).items():
            if view := self.views.get(name):
                self._pending_options[name] = values
                self._apply_pending(view, self._form(view))
        self.set_view(state.get("view", self.view.name))

    def _form(self, view: View) -> Form[Any]:
        if view.name not in self.forms:
            options = view.options
            if view.options_of is not None and self.dataset is not None:
                options = view.options_of(self.dataset)
            form = Form(options, compact=True)
            self._apply_pending(view, form)
            form.changed.connect(self._options_changed)
            self.forms[view.name] = form
            self._options.addWidget(form)
        return self.forms[view.name]

    def _apply_pending(self, view: View, form: Form[Any]) -> None:
        """Apply the pending options of this view that its form has."""
        if view.name not in self._pending_options:
            return
        values = {k: v for k, v in self._pending_options[view.name].items() if k in form.model.model_fields}
        try:
            form.set_value(form.model(**values))
        except ValueError:
            return
        if len(values) == len(self._pending_options[view.name]):
            self._pending_options.pop(view.name)

    @Slot()
    def _view_chosen(self) -> None:
        form = self._form(self.view)
        shared = {name: self._shared_options[name] for name in _shared_names(form) if name in self._shared_options}
        if shared and form.valid:
            form.set_value(form.value().model_copy(update=shared))
        self._options.setCurrentWidget(form)
        self.figure_area.place_tools()
        self._options_changed()

    @Slot()
    def _options_changed(self) -> None:
        if (form := self._form(self.view)).valid:
            value = form.value()
            self._shared_options |= {name: getattr(value, name) for name in _shared_names(form)}
        self.refresh()
        self.changed.emit()

    @Slot(object)
    def _moved(self, _selection: Selection) -> None:
        self.refresh()

    @Slot(object)
    def _picked(self, pick: Pick) -> None:
        self.selection.pick(pick)
        if pick.view is not None:
            self.set_view(pick.view)

    @Slot(object)
    def _dragged(self, change: OptionChange) -> None:
        """Draw the latest change of a drag, at a limited rate."""
        self._option_change = change
        if not self._throttle.isActive():
            self._throttle.start()

    @Slot()
    def _set_options(self) -> None:
        form = self._form(self.view)
        values = {name: value for name, value in self._option_change.options if name in form.editors}
        if values and form.valid:
            form.set_value(form.value().model_copy(update=values))

    @Slot()
    def _ask_help(self) -> None:
        self.help_requested.emit(self.view.help)

    def showEvent(self, event: Any) -> None:
        super().showEvent(event)
        if self._stale:
            self.refresh()


class AnalysisPage(QSplitter):
    """The panels of one analysis: one, or two side by side."""

    def __init__(self, analysis: str, selection: SelectionModel, parent: QWidget | None = None) -> None:
        super().__init__(Qt.Orientation.Horizontal, parent)
        self.analysis = analysis
        views = views_of(analysis)
        self.panels = (ViewPanel(views, selection), ViewPanel(views, selection))
        for panel in self.panels:
            self.addWidget(panel)
        self.setChildrenCollapsible(False)
        self.panels[1].step(1)
        self.panels[1].hide()

    def put_above(self, widget: QWidget) -> None:
        """Put `widget` above the first panel."""
        self.panels[0].box.insertWidget(0, widget)

    @property
    def split(self) -> bool:
        return not self.panels[1].isHidden()

    def set_split(self, on: bool) -> None:
        self.panels[1].setVisible(on)

    def sizeHint(self) -> QSize:
        return QSize(900, 560)


class Workspace(QTabWidget):
    """One tab for each registered analysis."""

    changed = Signal()
    analysis_changed = Signal()
    help_requested = Signal(str)

    def __init__(self, selection: SelectionModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setDocumentMode(True)
        self.pages: dict[str, AnalysisPage] = {}
        for name in ANALYSES:
            page = self.pages[name] = AnalysisPage(name, selection)
            self.addTab(page, name.capitalize())
            for panel in page.panels:
                panel.changed.connect(self.changed)
                panel.help_requested.connect(self.help_requested)
        self.currentChanged.connect(self.changed)
        self.currentChanged.connect(self.analysis_changed)

    @property
    def page(self) -> AnalysisPage:
        return self.pages[self.analysis]

    @property
    def analysis(self) -> str:
        return list(self.pages)[self.currentIndex()]

    @property
    def panel(self) -> ViewPanel:
        """The panel that menu actions apply to: the focused one, otherwise the first."""
        second = self.page.panels[1]
        return second if second.isVisible() and second.isAncestorOf(self.focusWidget() or self) else self.page.panels[0]

    def load(self) -> None:
        """Create the plot widgets of every panel."""
        for page in self.pages.values():
            for panel in page.panels:
                panel.figure_area.load()

    def show_analysis(self, analysis: str) -> None:
        """Bring the tab of `analysis` to the front."""
        self.setCurrentWidget(self.pages[analysis])

    def show_dataset(self, analysis: str, dataset: "xr.Dataset | None", empty: str = "") -> None:
        for panel in self.pages[analysis].panels:
            panel.show_dataset(dataset, empty)

    def state(self) -> dict[str, Any]:
        return {
            "analysis": self.analysis,
            "pages": {
                name: {"split": page.split, "panels": [panel.state() for panel in page.panels]}
                for name, page in self.pages.items()
            },
        }

    def restore(self, state: dict[str, Any]) -> None:
        for name, page_state in state.get("pages", {}).items():
            if page := self.pages.get(name):
                for panel, panel_state in zip(page.panels, page_state.get("panels", ()), strict=False):
                    panel.restore(panel_state)
                page.set_split(bool(page_state.get("split")))
        if state.get("analysis") in self.pages:
            self.show_analysis(state["analysis"])
