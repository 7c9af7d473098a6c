"""The main window: creates the panes, lays them out and connects them. Behaviour lives in the panes and commands."""

from functools import partial
from pathlib import Path

from PySide6.QtCore import QObject, Qt, QTimer, Signal, Slot
from PySide6.QtGui import QAction, QCloseEvent, QPaintEvent
from PySide6.QtWidgets import (
    QApplication,
    QMainWindow,
    QMessageBox,
    QToolButton,
)

from engine.runs.jobs.job import State
from gui.commands.actions import Actions, WindowState
from gui.commands.figures import FigureCommands
from gui.commands.files import FileCommands
from gui.commands.navigation import ArrowGuard, Navigation
from gui.commands.runs import RunCommands
from gui.look.style import sheet
from gui.look.widgets import Button, confirm, scrolled
from gui.panes.dock_layout import DockLayout
from gui.panes.help import HelpPane
from gui.panes.inspector import Inspector
from gui.panes.messages import MessageBar
from gui.panes.model import ModelPane
from gui.panes.palette import Palette
from gui.panes.parameters import ParametersPane
from gui.panes.runs import RunsPane
from gui.panes.sentence import SentenceBar
from gui.panes.timeline import Timeline
from gui.panes.view_state import ViewState
from gui.panes.view_sync import ViewSync
from gui.panes.workspace import ViewPanel, Workspace, navigators
from gui.plots.plain import PlainLabel, in_menu, in_title, message_box
from gui.plots.theme import Mode, Theme
from gui.state.background_tasks import BackgroundTasks
from gui.state.compute_host import ComputeHost
from gui.state.document import Document
from gui.state.garbage import Collector
from gui.state.results import Results
from gui.state.runs import RunRow, Runs
from gui.state.selection import SelectionModel
from gui.state.settings import Settings


class MainWindow(QMainWindow):
    """One session in one window. `ready` is emitted once the window is painted and its plots are loaded."""

    painted = Signal()
    ready = Signal()

    def __init__(self, app: QApplication, settings: Settings, home: Path, theme: Theme) -> None:
        super().__init__()
        self._app, self.settings, self.theme = app, settings, theme
        self.selection = SelectionModel(self)
        self.garbage = Collector(self)
        self.host, self.tasks = ComputeHost(self), BackgroundTasks(self)
        self.document = Document(home, self)
        self.runs = Runs(self.host, self)
        self.results = Results(self.document, self.runs, self.tasks, self)
        self.navigation = Navigation(self.selection, self.results, self)

        self.messages = MessageBar()
        self.workspace = Workspace(self.selection)
        self.navigator = ViewPanel(navigators(), self.selection)
        self.navigator.tabs.hide()  # it follows the analysis in front
        self.model_pane, self.parameters, self.inspector = ModelPane(), ParametersPane(), Inspector()
        self.runs_pane, self.help = RunsPane(self.runs), HelpPane(self)
        self.timeline = Timeline(self.selection, self.results)
        self.busy_label = PlainLabel()
        self.statusBar().addPermanentWidget(self.busy_label)
        side_panes = {
            "model": scrolled(self.model_pane),
            "inspector": scrolled(self.inspector),
            "parameters": self.parameters,
            "runs": self.runs_pane,
        }
        self.dock_layout = DockLayout(
            self, (self.messages, self.workspace, self.navigator, self.timeline), side_panes, settings
        )

        self.file_commands = FileCommands(self.document, self.runs, self.tasks, settings, self)
        self.figure_commands = FigureCommands(self.workspace, self)
        panes = (self.model_pane, self.parameters, self.runs_pane)
        self.run_commands = RunCommands(self.host, self.document, self.runs, panes, settings, self)
        self.sentence = SentenceBar(self.host, self.runs, self.results, self.run_commands.attention_job)
        self.workspace.pages["attention"].put_above(self.sentence)
        displays = (self.workspace, self.navigator, self.inspector)
        self.view_sync = ViewSync(self.results, self.selection, displays, self)
        models, panels = (self.results, self.runs), (self.workspace, self.navigator)
        self.view_state = ViewState(self.document, self.tasks, models, self.selection, panels, self)

        commands = ("file_commands", "figure_commands", "run_commands", "navigation")
        panes_with_commands = ("inspector", "timeline", "dock_layout")
        parts: dict[str, QObject] = {name: getattr(self, name) for name in (*commands, *panes_with_commands)}
        self.actions_ = Actions(self, self.menuBar(), {**parts, "window": self})
        self._menus()
        self._connect()
        self.model_pane.set_recent_models(settings.models)
        self._restyle()
        self.dock_layout.restore()
        self._document_changed()
        self._first_paint = True

    def _menus(self) -> None:
        self._recent = self.actions_.menu("File").addMenu("Open recent")
        self.actions_.menu("File").insertMenu(self.actions_.by_id["open_zip"], self._recent)
        self.actions_.menu("File").aboutToShow.connect(self._list_recent)
        for number, view in enumerate(self.workspace.panel.views.values(), 1):
            action = QAction(view.title, self)
            if number < 10:
                action.setShortcut(f"Ctrl+{number}")
            action.triggered.connect(partial(self.workspace.panel.set_view, view.name))
            self.actions_.add("View > Views", action)
        for dock in self.dock_layout.docks.values():
            self.actions_.add("View > Panes", dock.toggleViewAction())
        palette_button = QToolButton(self, autoRaise=True)
        palette_button.setDefaultAction(self.actions_.by_id["palette"])
        palette_button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.menuBar().setCornerWidget(palette_button)

    # -- connections ----------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        self.document.changed.connect(self._document_changed)
        self.host.replied.connect(self.model_pane.handle_reply)
        self.runs.changed.connect(self._update_actions)
        self.runs.ended.connect(self._ended)
        self.results.shown.connect(self._update_actions)
        self.runs_pane.chosen.connect(self.results.show_run)
        self.workspace.analysis_changed.connect(self._analysis_changed)
        self.workspace.analysis_changed.connect(self.sentence.return_to_run)
        for source in (self.file_commands, self.run_commands, self.results, self.sentence):
            source.failed.connect(self.messages.show_error)
        self.file_commands.notice.connect(self._show_notice)
        self.run_commands.message.connect(self.messages.show_message)
        self.model_pane.inspect.connect(self.host.ask)
        self.model_pane.dropped.connect(self.host.cancel)
        self.model_pane.explain.connect(self.messages.explain)
        self.model_pane.changed.connect(self.run_commands.update_memory)
        self.model_pane.list_checkpoints.connect(self._list_checkpoints)
        self.parameters.changed.connect(self.run_commands.update_memory)
        for topic in (self.workspace, self.navigator, self.inspector, self.figure_commands, self.run_commands.tuner):
            topic.help_requested.connect(self._help_page)
        self.tasks.running_changed.connect(self.busy_label.setText)
        self.theme.changed.connect(self._restyle)
        self._guard = ArrowGuard(self)
        self._app.installEventFilter(self._guard)

    @Slot()
    def _document_changed(self) -> None:
        """Show the runs of the newly opened session and restore its views."""
        self.results.clear()
        self.runs.load(self.document.content.runs if self.document.content is not None else ())
        self.view_state.restore()
        if self.results.row is not None:
            self.runs_pane.choose(self.results.row)
        self.setWindowTitle(in_title(f"{self.document.title} – Eigenscope"))
        self._update_actions()

    @Slot()
    def _analysis_changed(self) -> None:
        """Show the form, the memory estimate and the newest run of the analysis now in front."""
        analysis = self.workspace.analysis
        self._show_form(analysis)
        if self.results.row is None or self.results.row.request.analysis != analysis:
            rows = [row for row in self.runs.rows if row.request.analysis == analysis]
            if rows:
                self.runs_pane.choose(rows[-1])
            else:
                self.results.show_run(None)

    def _show_form(self, analysis: str) -> None:
        self.parameters.show_analysis(analysis)
        self.model_pane.set_reads_text(self.parameters.analysis is not None and self.parameters.analysis.needs_data)
        self.run_commands.update_memory()

    @Slot(object)
    def _ended(self, row: RunRow) -> None:
        if row.state is State.FAILED or row.missing:
            self.messages.show_message(row.message, row.detail)

    @Slot()
    def _update_actions(self) -> None:
        row = self.runs_pane.current
        self.actions_.update(
            WindowState(
                running=self.runs.busy,
                session=self.document.session is not None,
                result=self.results.dataset is not None,
                resumable=row is not None and row.resumable,
                cancellable=self.runs.busy,
                row=row is not None,
            )
        )

    @Slot(str)
    def _show_notice(self, text: str) -> None:
        self.messages.show_message(text, kind="notice")

    @Slot(str)
    def _list_checkpoints(self, source: str) -> None:
        def find() -> tuple[str, ...]:
            from engine.models.source import checkpoints

            return checkpoints(source)

        self.tasks.submit("Listing checkpoints", find, self.model_pane.choose_checkpoints, self.messages.show_error)

    @Slot()
    def _list_recent(self) -> None:
        self._recent.clear()
        for path in self.settings.recent:
            self._recent.addAction(in_menu(str(path))).triggered.connect(partial(self.file_commands.open_path, path))
        self._recent.setEnabled(not self._recent.isEmpty())

    # -- commands of the window itself ----------------------------------------------------------------------------

    @Slot()
    def show_palette(self) -> None:
        palette = Palette(self.actions_.entries, self)
        palette.move(self.geometry().center().x() - palette.width() // 2, self.geometry().top() + 60)
        palette.show()
        palette.query.setFocus()

    @Slot()
    def show_help(self) -> None:
        self._help_page("index")

    @Slot()
    def show_keys(self) -> None:
        self._help_page("keys")

    @Slot(str)
    def _help_page(self, page: str) -> None:
        self.help.show_page(page)
        self.help.show()
        self.help.raise_()

    @Slot()
    def show_about(self) -> None:
        text = "Eigenscope\n\nA desktop instrument for the spectra of transformers.\n\nBSD-3-Clause licence."
        box = message_box(self, QMessageBox.Icon.NoIcon, "About Eigenscope", text, Button.Ok)
        box.exec()
        box.deleteLater()

    @Slot()
    def theme_system(self) -> None:
        self._set_theme("system")

    @Slot()
    def theme_light(self) -> None:
        self._set_theme("light")

    @Slot()
    def theme_dark(self) -> None:
        self._set_theme("dark")

    def _set_theme(self, mode: Mode) -> None:
        self.settings.theme = mode
        self.theme.set_mode(mode)

    @Slot()
    def _restyle(self) -> None:
        self.setStyleSheet(sheet(self.theme.dark))

    # -- opening and closing --------------------------------------------------------------------------------------

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        if self._first_paint:
            self._first_paint = False
            QTimer.singleShot(0, self._get_ready)

    @Slot()
    def _get_ready(self) -> None:
        """Load what the first paint does not need: plots, the form of the analysis, the compute process."""
        self.painted.emit()
        self.workspace.load()
        self.navigator.figure_area.load()
        self._show_form(self.workspace.analysis)
        self.host.start()
        self.tasks.submit("", _warm_up, _ignore, _ignore)
        self.model_pane.ask_facts()
        self.view_sync.refresh()
        self.ready.emit()

    def closeEvent(self, event: QCloseEvent) -> None:
        if (self.runs.busy or self.run_commands.tuner.running or self.busy_label.text()) and not self._confirm_close():
            event.ignore()
            return
        self.dock_layout.save()
        self._app.removeEventFilter(self._guard)
        self.view_state.flush()
        self.tasks.close()
        self.host.close()
        self.document.close()
        self.garbage.close()
        event.accept()

    def _confirm_close(self) -> bool:
        if self.runs.busy:
            question = "A run is in progress. Its committed units are kept, and it can be resumed next time."
        elif self.run_commands.tuner.running:
            question = "Fine-tuning is in progress. Restarted in the same folder, it can be resumed."
        else:
            question = f"Not finished: {self.busy_label.text()}. Closing now abandons it."
        return confirm(self, "Close Eigenscope?", question, Button.Close, "Close", "Keep running")


def _warm_up() -> None:
    """Import in the background what the first run or the first session opened will need."""
    import xarray  # noqa: F401

    import engine.sessions.store  # noqa: F401


def _ignore(_: object) -> None:
    """Discard the outcome of a task that nothing waits for."""
