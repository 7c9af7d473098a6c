"""Colours of the program, light and dark: a categorical, a sequential and a diverging map, and the widget palette.

Marks name their colours (see `gui.plots.figure`); only this module resolves the names. The first six categorical
colours are close to those of Okabe and Ito, adapted to each background; violet and brown were chosen by a search for
the colours furthest from those six under every type of colour vision. The sequential map is viridis, the diverging one
ColorBrewer's RdBu.
"""

from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from PySide6.QtCore import QObject, Qt, Signal, Slot
from PySide6.QtGui import QColor, QPalette
from PySide6.QtWidgets import QApplication

from gui.plots.figure import Colormap

Mode = Literal["system", "light", "dark"]

# name: (light, dark)
_COLORS: dict[str, tuple[str, str]] = {
    "c0": ("#0072b2", "#4ba3dc"),
    "c1": ("#d55e00", "#f07f35"),
    "c2": ("#009e73", "#24c796"),
    "c3": ("#b8528c", "#e79bc8"),
    "c4": ("#d99000", "#f2b632"),
    "c5": ("#35a4e0", "#9ad6fb"),
    "c6": ("#7b3fd6", "#9966ff"),
    "c7": ("#6b4a20", "#a08060"),
    "data": ("#0072b2", "#4ba3dc"),
    "law": ("#009e73", "#24c796"),
    "naive": ("#d55e00", "#f07f35"),
    "twin": ("#b8528c", "#e79bc8"),
    "shuffled": ("#d99000", "#f2b632"),
    "null": ("#7d848c", "#99a1ab"),
    "accent": ("#d6003c", "#ff5c7c"),
    "muted": ("#a9b0b8", "#666e78"),
    "ink": ("#1d2126", "#e6e9ed"),
    # Parts of a figure, not of its data
    "background": ("#ffffff", "#1b1d21"),
    "axis": ("#5b626b", "#9aa2ac"),
    "grid": ("#eceef1", "#2a2d33"),
    "neutral": ("#c9ced4", "#4a5059"),
}

_MAPS: dict[str, str] = {
    "sequential": "440154 481f70 443983 3b528b 31688e 287c8e 21918c 20a486 35b779 5ec962 90d743 c8e020 fde725",
    "diverging": "053061 1c5c9f 3783bb 6bacd1 a7d0e4 d7e8f1 f7f6f6 fcdfcf f7b799 e48066 c94741 a51429 67001f",
}

# role: (light, dark)
_PALETTE: dict[QPalette.ColorRole, tuple[str, str]] = {
    QPalette.ColorRole.Window: ("#f4f5f7", "#24272c"),
    QPalette.ColorRole.WindowText: ("#1d2126", "#e6e9ed"),
    QPalette.ColorRole.Base: ("#ffffff", "#1b1d21"),
    QPalette.ColorRole.AlternateBase: ("#f0f2f4", "#212429"),
    QPalette.ColorRole.Text: ("#1d2126", "#e6e9ed"),
    QPalette.ColorRole.PlaceholderText: ("#858c95", "#858d97"),
    QPalette.ColorRole.Button: ("#eceef1", "#2d3137"),
    QPalette.ColorRole.ButtonText: ("#1d2126", "#e6e9ed"),
    QPalette.ColorRole.BrightText: ("#d6003c", "#ff5c7c"),
    QPalette.ColorRole.ToolTipBase: ("#ffffff", "#2d3137"),
    QPalette.ColorRole.ToolTipText: ("#1d2126", "#e6e9ed"),
    QPalette.ColorRole.Highlight: ("#0072b2", "#2f7fb5"),
    QPalette.ColorRole.HighlightedText: ("#ffffff", "#ffffff"),
    QPalette.ColorRole.Accent: ("#0072b2", "#4ba3dc"),
    QPalette.ColorRole.Link: ("#0072b2", "#4ba3dc"),
    QPalette.ColorRole.LinkVisited: ("#7b3fd6", "#9966ff"),
    QPalette.ColorRole.Light: ("#ffffff", "#3a3f46"),
    QPalette.ColorRole.Midlight: ("#e3e6ea", "#33373d"),
    QPalette.ColorRole.Mid: ("#c3c8ce", "#17191c"),
    QPalette.ColorRole.Dark: ("#a9b0b8", "#131518"),
    QPalette.ColorRole.Shadow: ("#7d848c", "#0c0d0f"),
}
_DISABLED = {
    QPalette.ColorRole.WindowText: ("#9aa1a9", "#6d747d"),
    QPalette.ColorRole.Text: ("#9aa1a9", "#6d747d"),
    QPalette.ColorRole.ButtonText: ("#9aa1a9", "#6d747d"),
    QPalette.ColorRole.Highlight: ("#c3c8ce", "#3a3f46"),
}


def resolve(name: str, dark: bool) -> str:
    """Return the colour ``#rrggbb`` of `name` (see `gui.plots.figure`) in the light or the dark theme."""
    return _COLORS[name][dark]


def anchors(colormap: Colormap) -> tuple[str, ...]:
    """Return the evenly spaced colours ``#rrggbb`` that `colormap` interpolates linearly."""
    return tuple(f"#{code}" for code in _MAPS[colormap].split())


@cache
def table(colormap: Colormap, size: int) -> npt.NDArray[np.uint8]:
    """Sample `colormap` evenly: (size, 3) red, green, blue."""
    colors = np.array([[int(a[i : i + 2], 16) for i in (1, 3, 5)] for a in anchors(colormap)], float)
    positions = np.linspace(0, len(colors) - 1, size)
    channels = [np.interp(positions, np.arange(len(colors)), channel) for channel in colors.T]
    return np.round(np.stack(channels, axis=1)).astype(np.uint8)


def palette(dark: bool) -> QPalette:
    """Return the palette of the widgets."""
    result = QPalette()
    for role, colors in _PALETTE.items():
        result.setColor(role, QColor(colors[dark]))
    for role, colors in _DISABLED.items():
        result.setColor(QPalette.ColorGroup.Disabled, role, QColor(colors[dark]))
    return result


def is_dark(palette: QPalette) -> bool:
    """Whether a widget with this palette has light text on a dark background."""
    return palette.color(QPalette.ColorRole.Window).lightness() < 128


class Theme(QObject):
    """Keeps the application light or dark, following the system or the user's choice."""

    changed = Signal(bool)

    def __init__(self, app: QApplication, mode: Mode = "system") -> None:
        super().__init__(app)
        self._app = app
        self.mode = mode
        self.dark = False
        app.styleHints().colorSchemeChanged.connect(self._follow)
        self.set_mode(mode)

    def set_mode(self, mode: Mode) -> None:
        self.mode = mode
        scheme = {"light": Qt.ColorScheme.Light, "dark": Qt.ColorScheme.Dark}.get(mode, Qt.ColorScheme.Unknown)
        self._app.styleHints().setColorScheme(scheme)  # where supported, window frames follow too
        self._follow()

    @Slot()
    def _follow(self) -> None:
        system = self._app.styleHints().colorScheme() == Qt.ColorScheme.Dark
        self.dark = self.mode == "dark" or (self.mode == "system" and system)
        self._app.setPalette(palette(self.dark))
        self.changed.emit(self.dark)


def apply(app: QApplication, mode: Mode = "system") -> Theme:
    """Give the application the Fusion style and the program's palette; change it through the Theme returned."""
    app.setStyle("Fusion")
    return Theme(app, mode)
