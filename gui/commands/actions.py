"""Every action, declared once; menus, shortcuts and the command palette are built from this table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter

from PySide6.QtCore import QObject, Qt
from PySide6.QtGui import QAction, QKeySequence
from PySide6.QtWidgets import QMenu, QMenuBar, QWidget

from gui.look.icons import icon


@dataclass(frozen=True)
class WindowState:
    """The state that decides which actions are enabled."""

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
    """One action. `slot` is ``part.method``, with `part` a part of the window; ``>`` in `menu` makes a submenu."""

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


def _idle_session(state: WindowState) -> bool:
    return state.session and not state.running


COMMANDS = (
    Command("new", "New session", "File", "file_commands.new", "Ctrl+N", "new", _idle),
    Command("open", "Open session…", "File", "file_commands.open", "Ctrl+O", "open", _idle),
    Command("open_zip", "Open ZIP read-only…", "File", "file_commands.open_zip", "", "", _idle),
    Command("save_as", "Save session as…", "File", "file_commands.save_as", "Ctrl+Shift+S", "save", _idle_session,
            separator=True),
    Command("pack", "Export session as ZIP…", "File", "file_commands.pack", "", "zip", _idle_session),
    Command("unpack", "Import session from ZIP…", "File", "file_commands.unpack", "", "", _idle),
    Command("verify", "Verify session files", "File", "file_commands.verify", "", "verify", _idle_session,
            tip="Compare every file of the session with its checksum"),
    Command(
        "export", "Export figure…", "File", "figure_commands.save", "Ctrl+E", "export", lambda s: s.result,
        separator=True,
        tip="Export the figure as drawn: PDF, SVG, PNG, CSV, NPZ or a matplotlib script",
    ),
    Command("quit", "Quit", "File", "window.close", "Ctrl+Q", separator=True),
    Command("copy_figure", "Copy figure", "Edit", "figure_commands.copy", "Ctrl+Shift+C", "copy", lambda s: s.result),
    Command("copy_numbers", "Copy inspector values", "Edit", "inspector.copy", "Ctrl+Alt+C", "",
            lambda s: s.result, tip="Copy the values of the selection as tab-separated text"),
    Command("palette", "Find a command…", "Edit", "window.show_palette", "Ctrl+K", "search", separator=True),
    Command("run", "Run", "Run", "run_commands.run", "Ctrl+R", "run"),
    Command("cancel", "Cancel", "Run", "run_commands.cancel", "Ctrl+.", "cancel", lambda s: s.cancellable),
    Command("cancel_all", "Cancel all", "Run", "run_commands.cancel_all", "", "", lambda s: s.cancellable,
            tip="Cancel the run in progress and all queued runs"),
    Command("resume", "Resume", "Run", "run_commands.resume", "Ctrl+Shift+R", "resume", lambda s: s.resumable),
    Command("recipe", "Run a recipe…", "Run", "run_commands.run_recipe", tip="Run one of the built-in studies"),
    Command("again", "Use these settings", "Run", "run_commands.use_settings", "", "", lambda s: s.row,
            separator=True,
            tip="Copy the model and parameters of the selected run into the panes, to change them or run them again"),
    Command("verify_closed", "Verify closed forms", "Run", "run_commands.verify", "", "verify", _idle, separator=True,
            tip="Compare the closed-form Jacobians of the chosen model with automatic differentiation on one sample"),
    Command("tune", "Fine-tune…", "Run", "run_commands.tune",
            tip="Fine-tune the chosen model on the text; its checkpoints can then be analysed"),
    Command("log", "Show log", "Run", "run_commands.show_log", "Ctrl+L", "", lambda s: s.row,
            tip="Show the log, request and provenance of the selected run"),
    Command("next_view", "Next view", "View", "figure_commands.next_view", "Ctrl+PgDown"),
    Command("previous_view", "Previous view", "View", "figure_commands.previous_view", "Ctrl+PgUp"),
    Command("split", "Two views side by side", "View", "figure_commands.toggle_split", "Ctrl+\\", "split"),
    Command("next_layer", "Next layer", "View > Go to", "navigation.next_layer", "Right", "", lambda s: s.result),
    Command("previous_layer", "Previous layer", "View > Go to", "navigation.previous_layer", "Left", "",
            lambda s: s.result),
    Command("next_head", "Next head", "View > Go to", "navigation.next_head", "Down", "", lambda s: s.result),
    Command("previous_head", "Previous head", "View > Go to", "navigation.previous_head", "Up", "", lambda s: s.result),
    Command("next_model", "Next model", "View > Go to", "navigation.next_model", "]", "", lambda s: s.result),
    Command("previous_model", "Previous model", "View > Go to", "navigation.previous_model", "[", "",
            lambda s: s.result),
    Command("play", "Play or pause checkpoints", "View > Go to", "timeline.play", "Alt+P", "", lambda s: s.result,
            tip="Step through the checkpoints of a run in the order of training"),
    Command("first_model", "First checkpoint", "View > Go to", "timeline.first", "Ctrl+[", "", lambda s: s.result),
    Command("last_model", "Last checkpoint", "View > Go to", "timeline.last", "Ctrl+]", "", lambda s: s.result),
    Command("theme_system", "System", "View > Theme", "window.theme_system", separator=True),
    Command("theme_light", "Light", "View > Theme", "window.theme_light"),
    Command("theme_dark", "Dark", "View > Theme", "window.theme_dark"),
    Command("reset_layout", "Reset layout", "View", "dock_layout.reset"),
    Command("contents", "Help contents", "Help", "window.show_help", "F1", "help"),
    Command("what", "What is this view?", "Help", "figure_commands.ask_help", "?"),
    Command("keys", "Keyboard shortcuts", "Help", "window.show_keys"),
    Command("about", "About Eigenscope", "Help", "window.show_about", separator=True),
)  # fmt: skip


class Actions(QObject):
    """The QActions of the table, by id, in the menus of one window."""

    def __init__(self, window: QWidget, bar: QMenuBar, parts: Mapping[str, QObject]) -> None:
        super().__init__(window)
        self.menus: dict[str, QMenu] = {}
        self.by_id: dict[str, QAction] = {}
        self.entries: list[tuple[str, QAction]] = []
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
        """Add an action to the menu at `path`, and thereby to the palette."""
        self.menu(path).addAction(action)
        self.entries.append((path, action))

    def menu(self, path: str) -> QMenu:
        """Return the menu at `path`, creating it if need be."""
        if path not in self.menus:
            parent, _, title = path.rpartition(" > ")
            self.menus[path] = self.menu(parent).addMenu(title) if parent else self._bar.addMenu(title)
        return self.menus[path]

    def update(self, state: WindowState) -> None:
        for command in COMMANDS:
            self.by_id[command.id].setEnabled(command.enabled(state))
