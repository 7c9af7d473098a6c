"""Fine-tune a model into a folder: what to do, the loss curve while it goes on, and its checkpoints as conditions."""

import json
import math
from itertools import count
from pathlib import Path

import numpy as np
from PySide6.QtCore import QObject, Qt, Signal, Slot
from PySide6.QtWidgets import (
    QCheckBox,
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QVBoxLayout,
    QWidget,
)

from engine.errors import UserError
from engine.request import ModelSpec, Request, Tuning
from engine.runs.jobs.job import Reply, State
from engine.runs.jobs.tune import Tune, TuneProgress
from gui.look.widgets import set_role, tool_button
from gui.panes.form import Form, make_editor
from gui.panes.model import ModelPane
from gui.plots.figure import Axis, Figure, Line, Panel, Points
from gui.state.compute_host import Host
from gui.state.settings import Settings


class Curve:
    """The losses so far, by step: of training, and of the held-out text where it was measured."""

    def __init__(self) -> None:
        self.training: dict[int, float] = {}
        self.held_out: dict[int, float] = {}

    @classmethod
    def of(cls, folder: Path) -> "Curve":
        """What an unfinished fine-tuning in `folder` has written down; empty if there is none."""
        curve = cls()
        try:
            record = json.loads((folder / "training.json").read_text("utf-8"))
            curve.training = {int(step): float(loss) for step, loss in record["train_loss"]}
            curve.held_out = {int(c["step"]): float(c["held_out_loss"]) for c in record["checkpoints"]}
        except (OSError, ValueError, KeyError, TypeError):
            return cls()
        return curve

    def add(self, progress: TuneProgress) -> None:
        if not math.isnan(progress.loss):
            self.training[progress.step] = progress.loss
        if progress.held_out is not None:
            self.held_out[progress.step] = progress.held_out

    def figure(self) -> Figure:
        """Loss against step."""
        if not self.training and not self.held_out:
            return Figure(empty="The loss will be drawn here, step by step.")
        x, y, at, held = (
            np.array(values, float)
            for curve in (self.training, self.held_out)
            for values in (list(curve), list(curve.values()))
        )
        marks = (
            Line(x, y, "training, step by step"),
            Line(at, held, "held-out text", color="accent"),
            Points(at, held, color="accent"),
        )
        return Figure(rows=((Panel(Axis("step"), Axis("loss (nats a token)"), marks),),))


class TuningDialog(QDialog):
    """Closing it hides it: what goes on goes on, and the same command shows it again.

    `start` carries a Tune, `cancel` the id of the one to stop, `use` a folder and the checkpoints to put into the Model
    pane.
    """

    start = Signal(object)
    cancel = Signal(int)
    use = Signal(str, str)

    def __init__(self, model_pane: ModelPane, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        from gui.plots.figure_widget import FigureWidget

        self.setWindowTitle("Fine-tune")
        self._model_pane = model_pane
        self.curve = Curve()
        self._job: Tune | None = None  # what is going on, or waits
        self.what = QLabel(wordWrap=True)
        self.form: Form[Tuning] = Form(Tuning)
        self.form.set_value(model_pane.tuning)
        self.folder = QLineEdit()
        self.folder.setToolTip("Gets a checkpoint of the start and of each epoch, as ordinary Hugging Face folders")
        browse = tool_button("…", "Choose a folder")
        browse.clicked.connect(self._browse)
        line = QHBoxLayout()
        line.addWidget(self.folder, 1)
        line.addWidget(browse)
        self.take = QCheckBox("Put its checkpoints into the model pane when it is done")
        self.take.setChecked(True)
        self.bar = QProgressBar()
        self.said = QLabel(wordWrap=True, textFormat=Qt.TextFormat.PlainText)
        self.plot = FigureWidget(self)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        self.go = buttons.addButton("Start", QDialogButtonBox.ButtonRole.ActionRole)
        self.stop = buttons.addButton("Stop", QDialogButtonBox.ButtonRole.ActionRole)
        self.go.clicked.connect(self._start)
        self.stop.clicked.connect(self._stop)
        buttons.rejected.connect(self.close)
        self.seed = make_editor(Request.model_fields["seed"])
        self.seed.widget.setToolTip("The order of the windows, and dropout where the model has any")
        form = QFormLayout()
        form.addRow("Seed", self.seed.widget)
        form.addRow("Folder", line)
        left = QVBoxLayout()
        for widget in (self.what, self.form):
            left.addWidget(widget)
        left.addLayout(form)
        left.addWidget(self.take)
        left.addStretch(1)
        right = QVBoxLayout()
        right.addWidget(self.plot, 1)
        right.addWidget(self.bar)
        both = QHBoxLayout()
        both.addLayout(left)
        both.addLayout(right, 1)
        box = QVBoxLayout(self)
        box.addLayout(both, 1)
        box.addWidget(self.said)
        box.addWidget(buttons)
        self.resize(900, 520)
        self.form.changed.connect(self._enable)
        self.folder.textChanged.connect(self._enable)
        model_pane.changed.connect(self.tell)
        self.tell()
        self._draw()
        self._enable()

    @Slot()
    def tell(self) -> None:
        """Say which model and which text it is about: those of the model pane, until it has started."""
        if self.running:
            return
        try:
            spec, text = self._checkpoint(), self._model_pane.data.value().source
            self.what.setText(f"{spec.condition}, on the training part of the text “{text}”.")
        except UserError as error:
            self.what.setText(error.message)

    def _checkpoint(self) -> ModelSpec:
        """What it starts from: of several checkpoints the last, as for a condition of a run."""
        trained = [spec for spec in self._model_pane.specs() if not spec.twin and not spec.tuning]
        return trained[-1].model_copy(update={"seed": None})

    @property
    def running(self) -> bool:
        """Whether a fine-tuning is going on, or waits."""
        return self._job is not None

    @Slot(object)
    def follow(self, reply: Reply) -> None:
        """Show how far it is, and how it ended; its checkpoints go into the model pane."""
        if self._job is None or reply.id != self._job.id:
            return
        if reply.told is not None:
            self._show_progress(reply.told)
        elif reply.state.ended:
            out, self._job = self._job.out, None
            self._show_end(reply, out)

    def _show_progress(self, progress: TuneProgress) -> None:
        self.curve.add(progress)
        self.bar.setMaximum(progress.steps)
        self.bar.setValue(progress.step)
        loss = "" if math.isnan(progress.loss) else f", loss {progress.loss:.4f}"
        self.said.setText(f"Step {progress.step} of {progress.steps}{loss}")
        self._draw()

    def _show_end(self, reply: Reply, out: Path) -> None:
        checkpoints: tuple[str, ...] = reply.answer or ()
        set_role(self.said, "" if checkpoints else "problem")
        if reply.error is not None:
            self.said.setText(reply.error.message)
        elif reply.state is State.STOPPED:
            self.said.setText("Fine-tuning was stopped; starting it again in the same folder goes on from there.")
        else:
            self.said.setText(f"Done: {out} holds {', '.join(checkpoints)}.{self._change_of_loss()}")
        self._enable()
        if checkpoints and self.take.isChecked():
            self.use.emit(str(out), f"{checkpoints[0]}, {checkpoints[-1]}")

    def _change_of_loss(self) -> str:
        losses = list(self.curve.held_out.values())
        if not losses:
            return ""
        before, after = losses[0], losses[-1]
        return (
            f" On the held-out text the loss went from {before:.4f} to {after:.4f} "
            f"(perplexity {math.exp(before):.4g} to {math.exp(after):.4g})."
        )

    @Slot()
    def _start(self) -> None:
        folder = Path(self.folder.text().strip()).expanduser()
        try:
            spec = self._checkpoint().model_copy(update={"tuning": self.form.value()})
            job = Tune(spec, self._model_pane.data.value(), self._model_pane.device_name(), self.seed.read(), folder)
        except UserError as error:
            set_role(self.said, "problem")
            self.said.setText(error.message)
            return
        self._job = job
        self.curve = Curve.of(folder)
        self.bar.setMaximum(0)
        set_role(self.said, "")
        self.said.setText("Opening the model and reading the text; a run in progress is finished first …")
        self._draw()
        self._enable()
        self.start.emit(job)

    @Slot()
    def _stop(self) -> None:
        self.said.setText("Stopping after this step …")
        self.stop.setEnabled(False)
        assert self._job is not None  # the button is enabled while one goes on
        self.cancel.emit(self._job.id)

    @Slot()
    def _enable(self) -> None:
        self.go.setEnabled(not self.running and self.form.valid and bool(self.folder.text().strip()))
        self.stop.setEnabled(self.running)
        for widget in (self.form, self.folder, self.seed.widget):
            widget.setEnabled(not self.running)
        if not self.running:
            self.bar.setMaximum(max(1, self.bar.maximum()))

    def _draw(self) -> None:
        self.plot.show_figure(self.curve.figure())

    @Slot()
    def _browse(self) -> None:
        if folder := QFileDialog.getExistingDirectory(self, "Folder for the checkpoints", self.folder.text()):
            self.folder.setText(folder)


class Tuner(QObject):
    """One dialog for a window, between the compute process and the model pane."""

    help_requested = Signal(str)

    def __init__(self, host: Host, model_pane: ModelPane, settings: Settings, home: Path, window: QWidget) -> None:
        super().__init__(window)
        self._host, self._settings, self._home = host, settings, home
        self._model_pane, self._window = model_pane, window
        self.dialog: TuningDialog | None = None

    @Slot()
    def show(self) -> None:
        """Open the dialog, or bring it to the front."""
        if self.dialog is None:
            self.dialog = TuningDialog(self._model_pane, self._window)
            self.dialog.start.connect(self._host.ask)
            self.dialog.cancel.connect(self._host.cancel)
            self._host.replied.connect(self.dialog.follow)
            self.dialog.use.connect(self._use)
            self.dialog.plot.help_requested.connect(self._ask_help)
        if not self.dialog.running and _finished(self.dialog.folder.text()):
            names = (f"fine-tuned-{n}" for n in count(1))
            self.dialog.folder.setText(
                next(str(self._home / name) for name in names if not _finished(self._home / name))
            )
        self.dialog.tell()
        self.dialog.show()
        self.dialog.raise_()

    @property
    def running(self) -> bool:
        """Whether a fine-tuning is going on, or waits."""
        return self.dialog is not None and self.dialog.running

    @Slot()
    def _ask_help(self) -> None:
        self.help_requested.emit("models")

    @Slot(str, str)
    def _use(self, folder: str, checkpoints: str) -> None:
        self._settings.remember_model(folder)
        self._model_pane.set_known(self._settings.models)
        self._model_pane.offer(folder, checkpoints)


def _finished(folder: str | Path) -> bool:
    """Whether `folder` is no place to begin or to go on: none is named, or what is in it came to its end."""
    return not str(folder) or (Path(folder, "training.json").exists() and not Path(folder, "state.pt").exists())
