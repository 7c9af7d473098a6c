"""The fine-tuning dialog: the settings, the loss curve, and the checkpoints it hands to the Model pane."""

import math
import os
from itertools import count
from pathlib import Path

import numpy as np
from PySide6.QtCore import QObject, Signal, Slot
from PySide6.QtWidgets import (
    QCheckBox,
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QProgressBar,
    QVBoxLayout,
    QWidget,
)

from engine.errors import UserError
from engine.files import read_file
from engine.gate import parse
from engine.request import ModelSpec, Request, Tuning
from engine.runs.jobs.job import Reply, State
from engine.runs.jobs.tune import Tune, TuneProgress
from gui.look.widgets import set_role, tool_button
from gui.panes.form import Form, make_editor
from gui.panes.model import ModelPane
from gui.plots.figure import Axis, Figure, Line, Panel, Points
from gui.plots.plain import PlainLabel
from gui.state.compute_host import ComputeHost
from gui.state.settings import Settings

MOST_RECORD_BYTES = 64 * 2**20


class LossCurve:
    """The losses so far, by step: of training, and of the held-out text where evaluated; in nats per token."""

    def __init__(self) -> None:
        self.training: dict[int, float] = {}
        self.held_out: dict[int, float] = {}

    @classmethod
    def of(cls, folder: Path) -> "LossCurve":
        """Return the losses recorded by an unfinished fine-tuning in `folder`; empty if there is none."""
        curve = cls()
        try:
            record = parse(read_file(folder / "training.json", MOST_RECORD_BYTES))
            curve.training = {int(step): float(loss) for step, loss in record["train_loss"]}
            curve.held_out = {int(c["step"]): float(c["held_out_loss"]) for c in record["checkpoints"]}
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            return cls()
        return curve

    def add(self, progress: TuneProgress) -> None:
        if not math.isnan(progress.loss):
            self.training[progress.step] = progress.loss
        if progress.held_out is not None:
            self.held_out[progress.step] = progress.held_out

    def figure(self) -> Figure:
        """Return the figure of loss against step."""
        if not self.training and not self.held_out:
            return Figure(empty="The loss curve appears here during training.")
        steps, losses, evaluated_steps, held_out_losses = (
            np.array(values, float)
            for curve in (self.training, self.held_out)
            for values in (list(curve), list(curve.values()))
        )
        marks = (
            Line(steps, losses, "training text"),
            Line(evaluated_steps, held_out_losses, "held-out text", color="accent"),
            Points(evaluated_steps, held_out_losses, color="accent"),
        )
        return Figure(rows=((Panel(Axis("step"), Axis("loss (nats per token)"), marks),),))


class TuningDialog(QDialog):
    """Settings and progress of one fine-tuning. Closing hides the dialog; a fine-tuning in progress continues.

    `start` carries a `Tune`, `cancel` the id of the one to stop, `use_requested` a folder and the checkpoints of it to
    put into the Model pane, `failed` an error that has more to say than the dialog shows.
    """

    start = Signal(object)
    failed = Signal(object)
    cancel = Signal(int)
    use_requested = Signal(str, str)

    def __init__(self, model_pane: ModelPane, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        from gui.plots.figure_widget import FigureWidget

        self.setWindowTitle("Fine-tune")
        self._model_pane = model_pane
        self.curve = LossCurve()
        self._job: Tune | None = None  # running or queued
        self.subject = PlainLabel(wordWrap=True)
        self.form: Form[Tuning] = Form(Tuning)
        self.form.set_value(model_pane.tuning)
        self.folder = QLineEdit()
        self.folder.setToolTip("Receives a checkpoint before training and after each epoch, in Hugging Face format")
        browse = tool_button("…", "Choose a folder")
        browse.clicked.connect(self._browse)
        line = QHBoxLayout()
        line.addWidget(self.folder, 1)
        line.addWidget(browse)
        self.use_checkpoints = QCheckBox("Use the checkpoints in the Model pane when done")
        self.use_checkpoints.setChecked(True)
        self.progress_bar = QProgressBar()
        self.status = PlainLabel(wordWrap=True)
        self.plot = FigureWidget(self)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        self.start_button = buttons.addButton("Start", QDialogButtonBox.ButtonRole.ActionRole)
        self.stop_button = buttons.addButton("Stop", QDialogButtonBox.ButtonRole.ActionRole)
        self.start_button.clicked.connect(self._start)
        self.stop_button.clicked.connect(self._stop)
        buttons.rejected.connect(self.close)
        self.seed = make_editor(Request.model_fields["seed"])
        self.seed.widget.setToolTip("Seed of the order of training windows, and of dropout if the model has any")
        form = QFormLayout()
        form.addRow("Seed", self.seed.widget)
        form.addRow("Folder", line)
        left = QVBoxLayout()
        for widget in (self.subject, self.form):
            left.addWidget(widget)
        left.addLayout(form)
        left.addWidget(self.use_checkpoints)
        left.addStretch(1)
        right = QVBoxLayout()
        right.addWidget(self.plot, 1)
        right.addWidget(self.progress_bar)
        columns = QHBoxLayout()
        columns.addLayout(left)
        columns.addLayout(right, 1)
        box = QVBoxLayout(self)
        box.addLayout(columns, 1)
        box.addWidget(self.status)
        box.addWidget(buttons)
        self.resize(900, 520)
        self.form.changed.connect(self._enable)
        self.folder.textChanged.connect(self._enable)
        model_pane.changed.connect(self.show_subject)
        self.show_subject()
        self._draw()
        self._enable()

    @Slot()
    def show_subject(self) -> None:
        """Name the model and the text of the Model pane; once started, those in use stay named."""
        if self.running:
            return
        try:
            spec, source = self._checkpoint(), self._model_pane.text.form.value().source
            self.subject.setText(f"{spec.condition}, on the training part of the text “{source}”.")
        except UserError as error:
            self.subject.setText(error.message)

    def _checkpoint(self) -> ModelSpec:
        """Return the checkpoint to start from: the last of several, as in a run."""
        checkpoints = [spec for spec in self._model_pane.specs() if not spec.twin and not spec.tuning]
        return checkpoints[-1].model_copy(update={"seed": None})

    @property
    def running(self) -> bool:
        """Whether a fine-tuning is running or queued."""
        return self._job is not None

    @Slot(object)
    def handle_reply(self, reply: Reply) -> None:
        """Show the progress and the end of the fine-tuning; pass its checkpoints to the Model pane."""
        if self._job is None or reply.id != self._job.id:
            return
        if reply.told is not None:
            self._show_progress(reply.told)
        elif reply.state.ended:
            out, self._job = self._job.out, None
            self._show_end(reply, out)

    def _show_progress(self, progress: TuneProgress) -> None:
        self.curve.add(progress)
        self.progress_bar.setMaximum(progress.steps)
        self.progress_bar.setValue(progress.step)
        loss = "" if math.isnan(progress.loss) else f", loss {progress.loss:.4f}"
        self.status.setText(f"Step {progress.step} of {progress.steps}{loss}")
        self._draw()

    def _show_end(self, reply: Reply, out: Path) -> None:
        checkpoints: tuple[str, ...] = reply.answer or ()
        set_role(self.status, "" if checkpoints else "problem")
        if reply.error is not None:
            self.status.setText(reply.error.message)
            if reply.error.detail:
                self.failed.emit(reply.error)
        elif reply.state is State.STOPPED:
            self.status.setText("Fine-tuning stopped. Start it again in the same folder to resume.")
        else:
            self.status.setText(f"Done: {', '.join(checkpoints)} saved in {out}.{self._loss_change()}")
        self._enable()
        if checkpoints and self.use_checkpoints.isChecked():
            self.use_requested.emit(str(out), f"{checkpoints[0]}, {checkpoints[-1]}")

    def _loss_change(self) -> str:
        losses = list(self.curve.held_out.values())
        if not losses:
            return ""
        before, after = losses[0], losses[-1]
        return (
            f" Loss on held-out text: from {before:.4f} to {after:.4f} "
            f"(perplexity {math.exp(before):.4g} to {math.exp(after):.4g})."
        )

    @Slot()
    def _start(self) -> None:
        folder = Path(self.folder.text().strip()).expanduser()
        try:
            spec = self._checkpoint().model_copy(update={"tuning": self.form.value()})
            text, device = self._model_pane.text.form.value(), self._model_pane.device_name()
            job = Tune(spec, text, device, self.seed.read(), folder)
        except UserError as error:
            set_role(self.status, "problem")
            self.status.setText(error.message)
            return
        self._job = job
        self.curve = LossCurve.of(folder)
        self.progress_bar.setMaximum(0)
        set_role(self.status, "")
        self.status.setText("Loading the model and the text, after any run in progress …")
        self._draw()
        self._enable()
        self.start.emit(job)

    @Slot()
    def _stop(self) -> None:
        self.status.setText("Stopping after this step …")
        self.stop_button.setEnabled(False)
        assert self._job is not None  # the button is enabled only while a job is open
        self.cancel.emit(self._job.id)

    @Slot()
    def _enable(self) -> None:
        self.start_button.setEnabled(not self.running and self.form.valid and bool(self.folder.text().strip()))
        self.stop_button.setEnabled(self.running)
        for widget in (self.form, self.folder, self.seed.widget):
            widget.setEnabled(not self.running)
        if not self.running:
            self.progress_bar.setMaximum(max(1, self.progress_bar.maximum()))

    def _draw(self) -> None:
        self.plot.show_figure(self.curve.figure())

    @Slot()
    def _browse(self) -> None:
        if folder := QFileDialog.getExistingDirectory(self, "Folder for the checkpoints", self.folder.text()):
            self.folder.setText(folder)


class Tuner(QObject):
    """Connects the dialog of one window to the compute process and the Model pane."""

    help_requested = Signal(str)
    failed = Signal(object)

    def __init__(
        self, host: ComputeHost, model_pane: ModelPane, settings: Settings, home: Path, window: QWidget
    ) -> None:
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
            self.dialog.failed.connect(self.failed)
            self._host.replied.connect(self.dialog.handle_reply)
            self.dialog.use_requested.connect(self._use)
            self.dialog.plot.help_requested.connect(self._ask_help)
        if not self.dialog.running and _finished(self.dialog.folder.text()):
            names = (f"fine-tuned-{n}" for n in count(1))
            self.dialog.folder.setText(
                next(str(self._home / name) for name in names if not _finished(self._home / name))
            )
        self.dialog.show_subject()
        self.dialog.show()
        self.dialog.raise_()

    @property
    def running(self) -> bool:
        """Whether a fine-tuning is running or queued."""
        return self.dialog is not None and self.dialog.running

    @Slot()
    def _ask_help(self) -> None:
        self.help_requested.emit("models")

    @Slot(str, str)
    def _use(self, folder: str, checkpoints: str) -> None:
        self._settings.remember_model(folder)
        self._model_pane.set_recent_models(self._settings.models)
        self._model_pane.set_model(folder, checkpoints)


def _finished(folder: str | Path) -> bool:
    """Whether `folder` is unnamed or holds a finished fine-tuning, so that none can start or resume there."""
    return not str(folder) or (
        os.path.exists(os.path.join(folder, "training.json")) and not os.path.exists(os.path.join(folder, "state.pt"))
    )
