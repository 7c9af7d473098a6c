"""The style sheet of the window, in the theme's colours."""

from string import Template

from engine.resources import RESOURCES
from gui.plots.theme import resolve

SHEET = Template("""
QLabel[role="heading"] { font-size: 13pt; font-weight: 600; }
QLabel[role="muted"] { color: $axis; }
QLabel[role="problem"] { color: $accent; }
QLabel[role="outside"] { color: $accent; font-weight: 600; }
QLabel[role="inside"] { color: $law; font-weight: 600; }
QFrame#messageBar { border: 0; border-left: 4px solid $accent; background: $base; }
QFrame#messageBar[kind="notice"] { border-left-color: $data; }
QDockWidget::title { padding: 6px 10px; background: $button; }
QDockWidget { font-weight: 600; }
QTabBar#viewTabs::tab { padding: 6px 12px; border: 0; color: $axis; border-bottom: 2px solid transparent; }
QTabBar#viewTabs::tab:selected { color: $ink; border-bottom: 2px solid $data; }
QTabBar#viewTabs::tab:hover { color: $ink; }
QTreeWidget { border: 1px solid $line; border-radius: 4px; }
QTreeWidget::item { padding: 3px 4px; }
QPushButton { padding: 5px 12px; }
QPushButton#run { background: $data; color: white; border: 0; border-radius: 4px; padding: 7px 16px; font-weight: 600; }
QPushButton#run:hover { background: $hover; }
QPushButton#run:disabled { background: $muted; }
QPushButton#run:focus { outline: 0; border: 2px solid $ink; padding: 5px 14px; }
QMainWindow::separator { background: $line; width: 1px; height: 1px; }
QMainWindow::separator:hover { background: $data; }
QSplitter::handle { background: $line; }
QScrollArea { border: 0; }
QCheckBox { spacing: 7px; }
QCheckBox::indicator { width: 14px; height: 14px; border: 1px solid $axis; border-radius: 3px; background: $base; }
QCheckBox::indicator:hover { border-color: $data; }
QCheckBox::indicator:checked { border-color: $data; background: $data; image: url("$check"); }
QToolButton#link { color: $data; border: 0; padding: 2px 0; }
QToolButton#link:hover { text-decoration: underline; }
""")


def sheet(dark: bool) -> str:
    """Return the style sheet of the light or the dark theme."""
    names = ("accent", "axis", "data", "law", "muted", "ink")
    colors = {name: resolve(name, dark) for name in names}
    return SHEET.substitute(
        colors,
        base="#1b1d21" if dark else "#ffffff",
        button="#2d3137" if dark else "#eceef1",
        line="#3a3f46" if dark else "#d3d7dc",
        hover="#6bb5e6" if dark else "#0a85cc",
        check=(RESOURCES / "icons" / "check.svg").as_posix(),
    )
