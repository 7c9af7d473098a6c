"""The middle of the window: one tab for each analysis, in it one or two panels of linked views."""

from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QSize, Qt, QTimer, Signal, Slot
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QSizePolicy, QSplitter, QStackedLayout, QTabBar, QTabWidget, QVBoxLayout, QWidget

from engine.analyses.header import Header
from engine.analyses.registry import ANALYSES
from gui.panes.form import Form
from gui.plots.figure import Figure, Setting
from gui.plots.selection import Pick, Selection
from gui.state.selection import SelectionModel
from gui.views.base import Options, View
from gui.views.trajectories.views import trajectory_views

if TYPE_CHECKING:
    import xarray as xr

    from gui.plots.figure_widget import FigureWidget


BUTTONS_WIDTH = 150
"""What the figure's own buttons take, in pixels, with a little room for what is under the mouse."""
DRAG_MS = 40
"""Between two drawings while a window is dragged."""


def navigators() -> tuple[View, ...]:
    """The navigator of every analysis, called like its analysis."""
    return tuple(replace(import_module(f"gui.views.{name}.views").NAVIGATOR, name=name) for name in ANALYSES)


def views_of(analysis: str) -> tuple[View, ...]:
    """The views that draw `analysis`, in the order of their tabs; those over training come last."""
    own: tuple[View, ...] = import_module(f"gui.views.{analysis}.views").VIEWS
    return own + trajectory_views(analysis)


class FigureArea(QWidget):
    """Where a figure will be: empty until the plotting library is loaded, right after the window is on screen.

    `tools` stand above it, in one row with the figure's own buttons where there is room for both.
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
        """Make the plot widget (imports the plotting library)."""
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


def _shared(form: Form[Any]) -> list[str]:
    """The options of a view that other views of the panel have too, and mean the same by them."""
    fields = form.model.model_fields.items()
    return [name for name, field in fields if isinstance(e := field.json_schema_extra, dict) and e.get("shared")]


class ViewPanel(QWidget):
    """One figure, the tab bar that chooses its view, and the chosen view's options. Draws only while visible."""

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
        self._kept: dict[str, dict[str, Any]] = {}  # options that no form has taken up yet
        self._shared: dict[str, Any] = {}  # options that go along from view to view, as they were last
        tools = QWidget()
        tools.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
        tools.setMinimumWidth(1)  # a panel may become narrower than this: then the tools get a row of their own
        self._options = QStackedLayout(tools)
        self._options.setContentsMargins(4, 2, 4, 2)
        self.figure_area = FigureArea(tools)
        self.figure_area.picked.connect(self._picked)
        self.figure_area.dragged.connect(self._dragged)
        self._setting = Setting(())
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
        """Go to the next or the previous view, round and round."""
        there = [index for index in range(self.tabs.count()) if self.tabs.isTabVisible(index)]
        self.tabs.setCurrentIndex(there[(there.index(self.tabs.currentIndex()) + by) % len(there)])

    def options(self) -> Options:
        return self._form(self.view).value()

    def show_dataset(self, dataset: "xr.Dataset | None", empty: str = "") -> None:
        self.dataset, self.empty = dataset, empty
        if dataset is not None and Header.of(dataset).analysis == self.view.analysis:
            self._offer(dataset)
        self.refresh()

    def _offer(self, dataset: "xr.Dataset") -> None:
        """Show the tabs of the views that are for this dataset, with what there is to choose in it."""
        for index, view in enumerate(self.views.values()):
            if view.offered is not None:
                self.tabs.setTabVisible(index, view.offered(dataset))
            if view.options_of is not None and (form := self.forms.get(view.name)) is not None:
                if form.model is view.options_of(dataset):
                    continue
                self.forms.pop(view.name)
                if form.valid:
                    self._kept[view.name] = self._kept.get(view.name, {}) | form.value().model_dump(mode="json")
                self._options.removeWidget(form)
                form.deleteLater()
        self._options.setCurrentWidget(self._form(self.view))

    @Slot()
    def refresh(self) -> None:
        """Draw now if anybody can see it, else when it is next shown."""
        self._stale = not self.isVisible()
        if self._stale:
            return
        if self.dataset is None or Header.of(self.dataset).analysis != self.view.analysis:
            self.figure_area.show_figure(Figure(empty=self.empty))
        elif (form := self._form(self.view)).valid:
            self.figure_area.show_figure(self.view.draw(self.dataset, self.selection.current, form.value()))

    def state(self) -> dict[str, Any]:
        """What a session keeps of this panel: the view, and the options of every view that was opened."""
        options = dict(self._kept)
        for name, form in self.forms.items():
            if form.valid:
                options[name] = options.get(name, {}) | form.value().model_dump(mode="json")
        return {"view": self.view.name, "options": options}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up `state`; a view or an option that no longer exists is passed over."""
        self._shared.clear()
        for name, values in state.get("options", {}).items():
            if view := self.views.get(name):
                self._kept[name] = values
                self._take_up(view, self._form(view))
        self.set_view(state.get("view", self.view.name))

    def _form(self, view: View) -> Form[Any]:
        if view.name not in self.forms:
            options = view.options
            if view.options_of is not None and self.dataset is not None:
                options = view.options_of(self.dataset)
            form = Form(options, compact=True)
            self._take_up(view, form)
            form.changed.connect(self._options_changed)
            self.forms[view.name] = form
            self._options.addWidget(form)
        return self.forms[view.name]

    def _take_up(self, view: View, form: Form[Any]) -> None:
        """Set what was kept of this view's options, as far as there is such a choice here."""
        if view.name not in self._kept:
            return
        known = {k: v for k, v in self._kept[view.name].items() if k in form.model.model_fields}
        try:
            form.set_value(form.model(**known))
        except ValueError:
            return
        if len(known) == len(self._kept[view.name]):
            self._kept.pop(view.name)

    @Slot()
    def _view_chosen(self) -> None:
        form = self._form(self.view)
        if form.valid and (along := {name: self._shared[name] for name in _shared(form) if name in self._shared}):
            form.set_value(form.value().model_copy(update=along))
        self._options.setCurrentWidget(form)
        self.figure_area.place_tools()
        self._options_changed()

    @Slot()
    def _options_changed(self) -> None:
        if (form := self._form(self.view)).valid:
            value = form.value()
            self._shared |= {name: getattr(value, name) for name in _shared(form)}
        self.refresh()
        self.changed.emit()

    @Slot(object)
    def _moved(self, _selection: Selection) -> None:
        self.refresh()

    @Slot(object)
    def _picked(self, pick: Pick) -> None:
        self.selection.pick(pick)

    @Slot(object)
    def _dragged(self, setting: Setting) -> None:
        """Draw the latest of what the mouse says, no more often than the eye can see."""
        self._setting = setting
        if not self._throttle.isActive():
            self._throttle.start()

    @Slot()
    def _set_options(self) -> None:
        form = self._form(self.view)
        known = {name: value for name, value in self._setting.options if name in form.editors}
        if known and form.valid:
            form.set_value(form.value().model_copy(update=known))

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
    """One tab for each analysis there is."""

    changed = Signal()
    turned = Signal()
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
        self.currentChanged.connect(self.turned)

    @property
    def page(self) -> AnalysisPage:
        return self.pages[self.analysis]

    @property
    def analysis(self) -> str:
        return list(self.pages)[self.currentIndex()]

    @property
    def panel(self) -> ViewPanel:
        """The panel that menu actions act on: the one with the focus, else the first."""
        second = self.page.panels[1]
        return second if second.isVisible() and second.isAncestorOf(self.focusWidget() or self) else self.page.panels[0]

    def load(self) -> None:
        """Make the plots of every panel."""
        for page in self.pages.values():
            for panel in page.panels:
                panel.figure_area.load()

    def turn_to(self, analysis: str) -> None:
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
        for name, kept in state.get("pages", {}).items():
            if page := self.pages.get(name):
                for panel, panel_state in zip(page.panels, kept.get("panels", ()), strict=False):
                    panel.restore(panel_state)
                page.set_split(bool(kept.get("split")))
        if state.get("analysis") in self.pages:
            self.turn_to(state["analysis"])
