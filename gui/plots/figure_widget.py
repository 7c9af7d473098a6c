"""The plot widget: a canvas that draws a `Figure`, a readout of the mark under the mouse, and a small tool bar."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import QEvent, QPoint, QSize, Qt, Signal
from PySide6.QtGui import QAction, QIcon, QKeySequence, QPainter, QPalette, QPixmap, QResizeEvent, QShortcut
from PySide6.QtSvg import QSvgRenderer
from PySide6.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QMenu,
    QMessageBox,
    QSizePolicy,
    QSplitter,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from engine.errors import UserError
from gui.plots import theme
from gui.plots.drawing.canvas import Canvas
from gui.plots.drawing.drawn import Look
from gui.plots.figure import Figure
from gui.plots.legible import legible
from gui.plots.plain import PlainLabel, message_box
from gui.plots.table import TableView

QWIDGETSIZE_MAX = (1 << 24) - 1
_ICONS = {
    "reset": '<path d="M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5"/><circle cx="12" cy="12" r="2.5"/>',
    "copy": '<rect x="8.5" y="8.5" width="11.5" height="11.5" rx="1.5"/><path d="M15.5 8.5V4H4v11.5h4.5"/>',
    "export": '<path d="M12 3.5v11M7.5 10l4.5 4.5 4.5-4.5M4 16v4.5h16V16"/>',
    "help": '<circle cx="12" cy="12" r="8.5"/><path d="M9.6 9.6a2.5 2.5 0 1 1 3.6 2.3c-.9.5-1.2 1-1.2 2"/>'
    '<path d="M12 16.6v.2"/>',
}


def _icon(name: str, color: str) -> QIcon:
    """Return a line icon of the tool bar in one colour."""
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke-width="1.7" '
        f'stroke-linecap="round" stroke-linejoin="round" stroke="{color}">{_ICONS[name]}</svg>'
    )
    pixmap = QPixmap(48, 48)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    QSvgRenderer(svg.encode()).render(painter)
    painter.end()
    return QIcon(pixmap)


class FigureWidget(QWidget):
    """Shows figures. Colours follow the widget's palette, so that every plot follows the application's theme."""

    picked = Signal(object)
    """A mark was clicked; carries its `Pick`."""
    dragged = Signal(object)
    """A window on the plot is being dragged; carries an `OptionChange`."""
    hovered = Signal(str)
    help_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.canvas = Canvas(self)
        self.canvas.picked.connect(self.picked)
        self.canvas.dragged.connect(self.dragged)
        self.canvas.hovered.connect(self._hovered)
        self.canvas.menu_requested.connect(self._popup)
        self.readout = PlainLabel(parent=self)
        self.readout.setTextInteractionFlags(Qt.TextInteractionFlag.NoTextInteraction)
        self.readout.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.menu = self._export_menu()
        self.bar = bar = QHBoxLayout()
        bar.setContentsMargins(8, 2, 4, 2)
        bar.setSpacing(2)
        bar.addWidget(self.readout, 1)
        self._buttons: dict[str, QToolButton] = {}
        for name, tip, action in (
            ("reset", "Reset zoom (A, or double-click)", self.canvas.reset),
            ("copy", "Copy image", self._copy),
            ("export", "Export…", None),
            ("help", "What is this?", self.help_requested.emit),
        ):
            button = self._buttons[name] = self._button(tip, action)
            bar.addWidget(button)
        self._buttons["export"].setMenu(self.menu)
        self._buttons["export"].setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(0)
        box.addLayout(bar)
        self.table = TableView(self)
        self.table.picked.connect(self.picked)
        self.table.hide()
        self.splitter = QSplitter(Qt.Orientation.Vertical, self)
        self.splitter.setChildrenCollapsible(False)
        self.splitter.addWidget(self.canvas)
        self.splitter.addWidget(self.table)
        self._shape: tuple[object, ...] = ()
        box.addWidget(self.splitter, 1)
        shortcut = QShortcut(QKeySequence("A"), self, context=Qt.ShortcutContext.WidgetWithChildrenShortcut)
        shortcut.activated.connect(self.canvas.reset)
        self.setAutoFillBackground(True)
        self.setBackgroundRole(QPalette.ColorRole.Base)
        self.set_theme(theme.is_dark(self.palette()))

    def show_figure(self, figure: Figure) -> None:
        """Draw `figure`, reusing what it shares with the previous one."""
        figure = legible(figure)
        self.canvas.show_figure(figure)
        self.table.setVisible(figure.table is not None and not figure.empty)
        if figure.table is not None:
            self.table.show_table(figure.table)
        self._share_height()
        self._hovered("")

    def _share_height(self) -> None:
        """Give the table the height of its rows, up to two fifths; without panels, give it all but the heading."""
        table, figure = not self.table.isHidden(), self.canvas.figure
        alone = table and not figure.rows
        heading = self.canvas.heading_height() if alone else QWIDGETSIZE_MAX
        self.canvas.setMaximumHeight(heading)
        shape = (table, alone, len(figure.table.rows) if figure.table else 0, self.splitter.height())
        if shape != self._shape or alone:  # else keep the split that the user chose
            self._shape = shape
            total = self.splitter.height()
            low = total - heading if alone else min(self.table.natural_height(), round(0.4 * total)) if table else 0
            self.splitter.setSizes([total - low, low])

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._share_height()

    def shown_figure(self) -> Figure:
        """Return the figure as an export writes it: without the marks hidden in the legend."""
        figure, hidden = self.canvas.figure, self.canvas.hidden
        if figure.table is not None:
            figure = replace(figure, table=self.table.table)
        if not (figure.legend and hidden):
            return figure
        rows = tuple(
            tuple(replace(p, marks=tuple(m for m in p.marks if m.label not in hidden or not m.label)) for p in row)
            for row in figure.rows
        )
        return replace(figure, rows=rows)

    def set_theme(self, dark: bool) -> None:
        self.canvas.set_look(Look(dark))
        color = theme.resolve("axis", dark)
        for name, button in self._buttons.items():
            button.setIcon(_icon(name, color))

    def reset(self) -> None:
        """Undo pan and zoom."""
        self.canvas.reset()

    def sizeHint(self) -> QSize:
        return QSize(900, 600)

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self.set_theme(theme.is_dark(self.palette()))

    def _button(self, tip: str, action: Callable[[], object] | None) -> QToolButton:
        button = QToolButton(self)
        button.setToolTip(tip)
        button.setAccessibleName(tip)
        button.setAutoRaise(True)
        button.setIconSize(QSize(18, 18))
        button.setStyleSheet("QToolButton::menu-indicator { image: none; }")
        if action is not None:
            button.clicked.connect(action)
        return button

    def _export_menu(self) -> QMenu:
        menu = QMenu(self)
        for text, suffix, scale in (
            ("PDF…", "pdf", 1),
            ("SVG…", "svg", 1),
            ("PNG, screen size…", "png", 1),
            ("PNG, 2×…", "png", 2),
            ("PNG, 4×…", "png", 4),
            ("CSV…", "csv", 1),
            ("NPZ…", "npz", 1),
            ("matplotlib script…", "py", 1),
        ):
            action = QAction(text, menu)
            action.setData((suffix, scale))
            action.triggered.connect(self._export)
            menu.addAction(action)
        return menu

    def _hovered(self, text: str) -> None:
        self.readout.setText(text)
        self.hovered.emit(text)

    def _popup(self, place: QPoint) -> None:
        self.menu.popup(place)

    def _copy(self) -> None:
        from gui.plots.export import pictures

        pictures.copy_image(self)

    def _export(self) -> None:
        from gui.plots.export import pictures

        action = self.sender()
        assert isinstance(action, QAction)
        suffix, scale = action.data()
        name, _ = QFileDialog.getSaveFileName(self, "Export figure", f"figure.{suffix}", f"*.{suffix}")
        if not name:
            return
        try:
            pictures.save(self, Path(name).with_suffix(f".{suffix}"), scale)
        except UserError as error:
            ok = QMessageBox.StandardButton.Ok
            box = message_box(self, QMessageBox.Icon.Warning, "Export failed", error.message, ok)
            box.exec()
            box.deleteLater()
