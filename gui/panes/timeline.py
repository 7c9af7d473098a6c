"""The models of the result on display as a slider, with play, pause, step, speed and loop."""

from typing import TYPE_CHECKING

from PySide6.QtCore import QSignalBlocker, Qt, QTimer, Slot
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QSlider, QWidget

from gui.look.widgets import set_role, tool_button
from gui.plots.plain import PlainLabel, tip
from gui.plots.selection import Pick, Selection
from gui.state.results import Results
from gui.state.selection import SelectionModel
from gui.views.trajectories.checkpoint_series import Models

if TYPE_CHECKING:
    import xarray as xr

SPEEDS_MS = {"slow": 1600, "normal": 800, "fast": 300}


class Timeline(QWidget):
    """Moves the selected model; visible whenever the result on display has several."""

    def __init__(self, selection: SelectionModel, results: Results, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._selection, self._results = selection, results
        self._dataset: xr.Dataset | None = None
        self._models = Models((), ())
        self.frames: list[int] = []
        self.button = tool_button("▶", "Play or pause (Alt+P)")
        self.button.setAccessibleName("Play or pause")
        back, forward = tool_button("◀|", "Previous checkpoint ([)"), tool_button("|▶", "Next checkpoint (])")
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setTickPosition(QSlider.TickPosition.TicksBelow)
        self.slider.setPageStep(1)
        self.slider.setAccessibleName("Checkpoint")
        self.slider.setToolTip("Checkpoints of this result in the order of training; Home and End go to the ends")
        self.label = PlainLabel()
        self.label.setMinimumWidth(190)
        set_role(self.label, "muted")
        self.speed = QComboBox()
        self.speed.addItems(list(SPEEDS_MS))
        self.speed.setCurrentText("normal")
        self.speed.setToolTip("Playback speed")
        self.loop = tool_button("↻", "Loop")
        self.loop.setCheckable(True)
        self.loop.setChecked(True)
        line = QHBoxLayout(self)
        line.setContentsMargins(8, 3, 8, 3)
        for button in (self.button, back, forward):
            line.addWidget(button)
        line.addWidget(self.slider, 1)
        for widget in (self.label, self.speed, self.loop):
            line.addWidget(widget)

        self._player = QTimer(self, interval=SPEEDS_MS["normal"])
        self._player.timeout.connect(self._advance)
        # Draws at most once per turn of the event loop, however fast the slider is dragged.
        self._drag_timer = QTimer(self, singleShot=True, interval=0)
        self._drag_timer.timeout.connect(self._select)
        self.button.clicked.connect(self.play)
        back.clicked.connect(self.previous)
        forward.clicked.connect(self.next)
        self.slider.valueChanged.connect(self._dragged)
        self.speed.currentTextChanged.connect(self._set_speed)
        selection.changed.connect(self._follow)
        results.shown.connect(self.refresh)
        self.refresh()

    @property
    def playing(self) -> bool:
        return self._player.isActive()

    @Slot()
    def refresh(self) -> None:
        """Follow the dataset now on display."""
        dataset = self._results.dataset
        if dataset is not self._dataset:
            self._dataset = dataset
            self._models = Models((), ()) if dataset is None else Models.of(dataset)
        self._follow(self._selection.current)
        self.setVisible(len(self.frames) > 1)
        if self.isHidden():
            self._stop()

    @Slot()
    def play(self) -> None:
        """Play through the checkpoints, from the start if at the end; pause if playing."""
        if self.playing or len(self.frames) < 2:
            self._stop()
            return
        if self.slider.value() == len(self.frames) - 1:
            self._show(0)
        self._player.start()
        self.button.setText("❚❚")

    @Slot()
    def next(self) -> None:
        self._show(min(self.slider.value() + 1, len(self.frames) - 1))

    @Slot()
    def previous(self) -> None:
        self._show(max(self.slider.value() - 1, 0))

    @Slot()
    def first(self) -> None:
        self._show(0)

    @Slot()
    def last(self) -> None:
        self._show(len(self.frames) - 1)

    def _stop(self) -> None:
        self._player.stop()
        self.button.setText("▶")

    @Slot()
    def _advance(self) -> None:
        frame = self.slider.value() + 1
        if frame < len(self.frames):
            self._show(frame)
        elif self.loop.isChecked():
            self._show(0)
        else:
            self._stop()

    def _show(self, frame: int) -> None:
        if self.frames:
            with QSignalBlocker(self.slider):
                self.slider.setValue(frame)
            self._select()

    @Slot()
    def _dragged(self) -> None:
        self._drag_timer.start()

    @Slot()
    def _select(self) -> None:
        if self.slider.value() < len(self.frames):
            self._selection.pick(Pick(model=self.frames[self.slider.value()]))

    @Slot(object)
    def _follow(self, selection: Selection) -> None:
        """Move the slider to the selected model; the label shows its training step or its name."""
        infos = self._models.infos
        model = min(selection.model, len(infos) - 1)
        self.frames = self._models.frames(model) if infos else []
        if not self.frames:
            return
        frame = self.frames.index(model) if model in self.frames else -1
        with QSignalBlocker(self.slider):
            self.slider.setRange(0, len(self.frames) - 1)
            if frame >= 0:
                self.slider.setValue(frame)
        step = self._models.step(model)
        position = f"   {frame + 1} of {len(self.frames)}" if frame >= 0 else ""
        self.label.setText((f"step {step:,}" if step is not None else infos[model].label) + position)
        self.label.setToolTip(tip(infos[model].label))

    @Slot(str)
    def _set_speed(self, name: str) -> None:
        self._player.setInterval(SPEEDS_MS[name])
