"""Every action, declared once: menus, shortcuts and the command palette are made from this table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter

from PySide6.QtCore import QObject, Qt
from PySide6.QtGui import QAction, QKeySequence
from PySide6.QtWidgets import QMenu, QMenuBar, QWidget

from gui.look.icons import icon


@dataclass(frozen=True)
class WindowState:
    """What decides which actions make sense now."""

    running: bool = False
    session: bool = False
    result: bool = False
    resumable: bool = False
    cancellable: bool = False
    row: bool = False


def always(_: WindowState) -> bool:
    return True


@dataclass(frozen=True)
class Command:
    """One action. `slot` is ``part.method``, where `part` is one of the window's parts; `menu` nests with ``>``."""

    id: str
    text: str
    menu: str
    slot: str
    shortcut: str = ""
    icon: str = ""
    enabled: Callable[[WindowState], bool] = always
    separator: bool = False
    tip: str = ""


def _idle(state: WindowState) -> bool:
    return not state.running


def _kept(state: WindowState) -> bool:
    return state.session and not state.running


COMMANDS = (
    Command("new", "New session", "File", "file_commands.new", "Ctrl+N", "new", _idle),
    Command("open", "Open session…", "File", "file_commands.open", "Ctrl+O", "open", _idle),
    Command("open_zip", "Open a zip read-only…", "File", "file_commands.open_zip", "", "", _idle),
    Command("save_as", "Save session as…", "File", "file_commands.save_as", "Ctrl+Shift+S", "save", _kept,
            separator=True),
    Command("pack", "Zip for a colleague…", "File", "file_commands.pack", "", "zip", _kept),
    Command("unpack", "Import a zip…", "File", "file_commands.unpack", "", "", _idle),
    Command("verify", "Verify every file", "File", "file_commands.verify", "", "verify", _kept),
    Command(
        "export", "Save figure…", "File", "figure_commands.save", "Ctrl+E", "export", lambda s: s.result,
        separator=True,
        tip="PDF, SVG, PNG, CSV, NPZ or a matplotlib script of exactly what is drawn",
    ),
    Command("quit", "Quit", "File", "window.close", "Ctrl+Q", separator=True),
    Command("copy_figure", "Copy figure", "Edit", "figure_commands.copy", "Ctrl+Shift+C", "copy", lambda s: s.result),
    Command("copy_numbers", "Copy the selected head’s numbers", "Edit", "inspector.copy", "Ctrl+Alt+C", "",
            lambda s: s.result),
    Command("palette", "Find a command…", "Edit", "window.show_palette", "Ctrl+K", "search", separator=True),
    Command("run", "Run", "Run", "run_commands.run", "Ctrl+R", "run"),
    Command("cancel", "Cancel", "Run", "run_commands.cancel", "Ctrl+.", "cancel", lambda s: s.cancellable),
    Command("cancel_all", "Cancel all", "Run", "run_commands.cancel_all", "", "", lambda s: s.cancellable,
            tip="Cancel the run in progress and every run that waits"),
    Command("resume", "Resume", "Run", "run_commands.resume", "Ctrl+Shift+R", "resume", lambda s: s.resumable),
    Command("recipe", "Run a recipe…", "Run", "run_commands.run_recipe", tip="Studies that come with the program"),
    Command("again", "Take up this run’s settings", "Run", "run_commands.recall", "", "", lambda s: s.row,
            separator=True,
            tip="Put the model and the parameters of the chosen run into the panes, to run it again or change it"),
    Command("verify_closed", "Verify closed forms…", "Run", "run_commands.verify", "", "verify", _idle, separator=True,
            tip="Compare the Jacobians of the model on the left with automatic differentiation, on one short sample"),
    Command("tune", "Fine-tune…", "Run", "run_commands.tune",
            tip="Train the model on the left on the text; its checkpoints become models to measure"),
    Command("log", "Show the log", "Run", "run_commands.show_log", "Ctrl+L", "", lambda s: s.row),
    Command("next_view", "Next view", "View", "figure_commands.next_view", "Ctrl+PgDown"),
    Command("previous_view", "Previous view", "View", "figure_commands.previous_view", "Ctrl+PgUp"),
    Command("split", "Two views side by side", "View", "figure_commands.toggle_split", "Ctrl+\\", "split"),
    Command("next_layer", "Next layer", "View > Walk", "navigation.next_layer", "Right", "", lambda s: s.result),
    Command("previous_layer", "Previous layer", "View > Walk", "navigation.previous_layer", "Left", "",
            lambda s: s.result),
    Command("next_head", "Next head", "View > Walk", "navigation.next_head", "Down", "", lambda s: s.result),
    Command("previous_head", "Previous head", "View > Walk", "navigation.previous_head", "Up", "", lambda s: s.result),
    Command("next_model", "Next model", "View > Walk", "navigation.next_model", "]", "", lambda s: s.result),
    Command("previous_model", "Previous model", "View > Walk", "navigation.previous_model", "[", "",
            lambda s: s.result),
    Command("play", "Play or pause the checkpoints", "View > Walk", "timeline.play", "Alt+P", "", lambda s: s.result,
            tip="Go through the models of a run in the order of training"),
    Command("first_model", "First checkpoint", "View > Walk", "timeline.first", "Ctrl+[", "", lambda s: s.result),
    Command("last_model", "Last checkpoint", "View > Walk", "timeline.last", "Ctrl+]", "", lambda s: s.result),
    Command("theme_system", "As the system", "View > Theme", "window.theme_system", separator=True),
    Command("theme_light", "Light", "View > Theme", "window.theme_light"),
    Command("theme_dark", "Dark", "View > Theme", "window.theme_dark"),
    Command("reset_layout", "Put the panes back", "View", "dock_layout.reset"),
    Command("contents", "Help pages", "Help", "window.show_help", "F1", "help"),
    Command("what", "What is this view?", "Help", "figure_commands.ask_help", "?"),
    Command("keys", "Keys", "Help", "window.show_keys"),
    Command("about", "About Eigenscope", "Help", "window.show_about", separator=True),
)  # fmt: skip


class Actions(QObject):
    """The QActions of the table, by id, in the menus of one window."""

    def __init__(self, window: QWidget, bar: QMenuBar, parts: Mapping[str, QObject]) -> None:
        super().__init__(window)
        self.menus: dict[str, QMenu] = {}
        self.by_id: dict[str, QAction] = {}
        self.listed: list[tuple[str, QAction]] = []
        self._bar = bar
        for command in COMMANDS:
            part, method = command.slot.split(".")
            action = QAction(command.text, window)
            action.setObjectName(command.id)
            action.setStatusTip(command.tip)
            if command.icon:
                action.setIcon(icon(command.icon))
            if command.shortcut:
                action.setShortcut(QKeySequence(command.shortcut))
                action.setShortcutContext(Qt.ShortcutContext.WindowShortcut)
            action.triggered.connect(attrgetter(method)(parts[part]))
            if command.separator:
                self.menu(command.menu).addSeparator()
            self.add(command.menu, action)
            window.addAction(action)
            self.by_id[command.id] = action

    def add(self, path: str, action: QAction) -> None:
        """Put an action into the menu at `path`, and so into the palette."""
        self.menu(path).addAction(action)
        self.listed.append((path, action))

    def menu(self, path: str) -> QMenu:
        """The menu at `path`, made if it is not there."""
        if path not in self.menus:
            above, _, title = path.rpartition(" > ")
            self.menus[path] = self.menu(above).addMenu(title) if above else self._bar.addMenu(title)
        return self.menus[path]

    def update(self, state: WindowState) -> None:
        for command in COMMANDS:
            self.by_id[command.id].setEnabled(command.enabled(state))
