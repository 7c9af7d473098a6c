"""The table of actions: unique, complete, reachable from menus and palette, enabled when they make sense."""

from collections import Counter
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QKeySequence
from window_parts import request_for, window_in

from engine.resources import RESOURCES
from engine.runs.jobs.job import Reply, State
from gui.commands.actions import COMMANDS, WindowState
from gui.panes.palette import Palette, matches


@pytest.fixture
def window(qtbot, tmp_path):
    with window_in(tmp_path) as made:
        yield made


def test_ids_and_shortcuts_are_unique(window):
    assert max(Counter(c.id for c in COMMANDS).values()) == 1
    # Of all actions of the window, the views' number keys included, not only of the table.
    keys = Counter(action.shortcut().toString() for _, action in window.actions_.entries)
    del keys[""]
    assert max(keys.values()) == 1, keys.most_common(2)


def test_every_shortcut_is_understood():
    for command in COMMANDS:
        if command.shortcut:
            assert not QKeySequence(command.shortcut).isEmpty(), command.id
            assert QKeySequence(command.shortcut)[0].key() != Qt.Key.Key_unknown, command.id


def test_every_action_stands_in_its_menu_and_has_its_icon(window):
    for command in COMMANDS:
        assert window.actions_.by_id[command.id] in window.actions_.menus[command.menu].actions()
        assert not command.icon or (RESOURCES / "icons" / f"{command.icon}.svg").exists()


def test_the_menus_are_those_of_the_design(window):
    titles = [action.text() for action in window.menuBar().actions()]
    assert titles == ["File", "Edit", "Run", "View", "Help"]


def test_actions_are_enabled_when_they_make_sense(window):
    by_id = window.actions_.by_id
    window.actions_.update(WindowState())
    assert not any(by_id[i].isEnabled() for i in ("cancel", "resume", "export", "save_as", "next_layer"))
    assert all(by_id[i].isEnabled() for i in ("run", "open", "new", "palette", "quit"))
    window.actions_.update(WindowState(running=True, session=True, cancellable=True, result=True))
    assert all(by_id[i].isEnabled() for i in ("cancel", "export", "next_layer"))
    assert not any(by_id[i].isEnabled() for i in ("save_as", "new", "open", "pack"))


def test_cancel_all_stops_the_run_in_progress_and_clears_the_queue(window, tmp_path):
    cancel_all = window.actions_.by_id["cancel_all"]
    assert not cancel_all.isEnabled()
    first, *_ = [window.runs.add(tmp_path, request_for(tmp_path)) for _ in range(3)]
    assert [row.state for row in window.runs.rows] == ["running", "queued", "queued"]
    cancel_all.trigger()
    assert [(row.key, row.state) for row in window.runs.rows] == [(first.key, "cancelling")]
    window.host.replied.emit(Reply(window.runs.active.job, State.STOPPED))
    assert [row.state for row in window.runs.rows] == ["stopped"]
    assert not cancel_all.isEnabled()


@pytest.mark.parametrize(
    ("query", "text", "found"),
    [("zip exp", "File Export session as ZIP…", True), ("", "x", True), ("zap", "Zip", False)],
)
def test_matching(query, text, found):
    assert matches(query, text) is found


def test_the_palette_finds_and_does_an_action(qtbot, window):
    window.show_palette()
    palette = window.findChild(Palette)
    everything = len(palette.texts())
    qtbot.keyClicks(palette.query, "dark")
    assert palette.texts() == ["Dark"]
    assert everything > 1
    qtbot.keyClick(palette.query, Qt.Key.Key_Return)
    assert window.theme.dark
    assert window.settings.theme == "dark"
    window.theme_light()


def test_the_palette_is_walked_with_the_arrows(qtbot, window):
    window.show_palette()
    palette = window.findChild(Palette)
    qtbot.keyClicks(palette.query, "view")
    assert palette.row == 0
    qtbot.keyClick(palette.query, Qt.Key.Key_Down)
    assert palette.row == 1
    qtbot.keyClick(palette.query, Qt.Key.Key_Up)
    qtbot.keyClick(palette.query, Qt.Key.Key_Up)
    assert palette.row == len(palette.texts()) - 1
    palette.close()


def test_every_view_has_a_help_page_and_every_link_leads_somewhere(window):
    pages = Path(RESOURCES / "help")
    for panel in (window.workspace.panel, window.navigator):
        for view in panel.views.values():
            assert (pages / f"{view.help}.md").exists(), view.name
    for page in pages.glob("*.md"):
        for target in _links(page.read_text("utf-8")):
            assert (pages / target).exists(), f"{page.name} links to {target}"


def _links(text: str) -> list[str]:
    import re

    return [t for t in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text) if not t.startswith("http")]


def test_help_opens_the_page_of_the_view(qtbot, window):
    window.figure_commands.ask_help()
    assert window.help.isVisible()
    assert window.help.browser.source().toString() == f"{window.workspace.panel.view.help}.md"
    assert "participation" in window.help.browser.toPlainText()
