"""The pane that chooses what to run on: model, revisions, conditions, seeds, dtype, device, and the text."""

from pathlib import Path

from PySide6.QtCore import Qt, QTimer, Signal, Slot
from PySide6.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QListWidget,
    QSpinBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from engine.analyses.abilities import described
from engine.errors import UserError
from engine.models.info import ModelInfo, summary
from engine.request import Device, ModelSpec, Request, Tuning, conditions
from engine.runs.jobs.inspect import Inspect
from engine.runs.jobs.job import Reply
from gui.look.widgets import ok_cancel, set_role, tool_button
from gui.panes.form import Form, make_editor
from gui.panes.text import TextPane

BUILTIN = ("builtin", "builtin-encoder")
MAX_SEEDS = 10
EDIT_PAUSE_MS = 500
"""Pause in editing after which the facts of the model are read."""


class ModelPane(QWidget):
    """Edits the models and the text of a request, and shows the facts of the model named.

    `inspect` carries an `Inspect` for the compute process, whose reply goes to `handle_reply`; `list_checkpoints` a
    source whose revisions are wanted, which go to `choose_checkpoints`.
    """

    changed = Signal()
    inspect = Signal(object)
    list_checkpoints = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.info: ModelInfo | None = None
        self._inspection_id: int | None = None  # the job that reads the facts of the model now named
        fields = ModelSpec.model_fields
        self.source = QComboBox(editable=True)
        self.source.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.source.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.source.addItems(BUILTIN)
        self.source.setToolTip("builtin, builtin-encoder, a folder with config.json and safetensors, or a hub id")
        browse = tool_button("…", "Choose a folder")
        browse.clicked.connect(self._browse)
        self.revisions = QLineEdit(placeholderText="latest")
        self.revisions.setToolTip("One or more branches, tags or checkpoints, separated by commas")
        list_revisions = tool_button("…", "Choose from the available checkpoints")
        list_revisions.clicked.connect(self._ask_checkpoints)
        self.twin = QCheckBox("Add random twin")
        self.twin.setToolTip("Also run the same config, freshly initialised, as a baseline")
        self.tuned = QCheckBox("Add fine-tuned model")
        self.tuned.setToolTip("Also run the model after fine-tuning on the training part of the text")
        self.tuning = Tuning()
        edit_tuning = tool_button("…", "Fine-tuning settings")
        edit_tuning.clicked.connect(self._edit_tuning)
        self.seeds = QSpinBox(minimum=1, maximum=MAX_SEEDS)
        self.seeds.setToolTip(
            "Number of seeds, from 0, to run each model with: they draw the twin’s weights, the order of fine-tuning "
            "and the samples"
        )
        self.dtype = make_editor(fields["dtype"])
        self.dtype.widget.setToolTip(fields["dtype"].description or "")
        self.device = make_editor(Request.model_fields["device"])
        self.device.widget.setToolTip("auto uses the GPU if one is available")
        self.facts = QLabel(wordWrap=True, textFormat=Qt.TextFormat.PlainText)
        self.facts.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.notices = QLabel(wordWrap=True, textFormat=Qt.TextFormat.PlainText)
        self.memory = QLabel(wordWrap=True)
        self.facts.setContentsMargins(0, 6, 0, 0)
        set_role(self.notices, "muted")

        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Model", _beside(self.source, browse))
        form.addRow("Revisions", _beside(self.revisions, list_revisions))
        form.addRow("", self.twin)
        form.addRow("", _beside(self.tuned, edit_tuning))
        form.addRow("Seeds", self.seeds)
        form.addRow("Dtype", self.dtype.widget)
        form.addRow("Device", self.device.widget)
        self.text = TextPane()
        box = QVBoxLayout(self)
        box.addLayout(form)
        box.addWidget(self.facts)
        box.addWidget(self.memory)
        box.addWidget(self.notices)
        box.addWidget(self.text)
        box.addStretch(1)

        self._reads_text = False
        self.tuned.toggled.connect(self._show_text)
        self._edit_timer = QTimer(self, singleShot=True, interval=EDIT_PAUSE_MS)
        self._edit_timer.timeout.connect(self.ask_facts)
        self.source.currentTextChanged.connect(self._edited)
        self.revisions.textChanged.connect(self._edited)
        for signal in (
            self.twin.toggled,
            self.tuned.toggled,
            self.seeds.valueChanged,
            self.dtype.changed,
            self.device.changed,
            self.text.changed,
        ):
            signal.connect(self.changed)

    def specs(self) -> tuple[ModelSpec, ...]:
        """Return the models chosen: the checkpoints, the last one fine-tuned, its twin, each with every seed.

        Raises
        ------
        UserError
            If no model is named.
        """
        source = self.source.currentText().strip()
        if not source:
            raise UserError("No model is named: enter a folder or a hub id in the Model pane, or choose “builtin”.")
        names: list[str | None] = [r.strip() for r in self.revisions.text().split(",") if r.strip()]
        dtype = self.dtype.read()
        specs = [ModelSpec(source=source, revision=r, dtype=dtype) for r in dict.fromkeys(names or [None])]
        return conditions(
            specs,
            tuning=self.tuning if self.tuned.isChecked() else None,
            twin=self.twin.isChecked(),
            seeds=self.seeds.value(),
            reads_text=self._reads_text,
        )

    def device_name(self) -> Device:
        return self.device.read()

    def set_request(self, request: Request) -> None:
        """Show the models, text and device of `request`."""
        self.source.setCurrentText(request.models[0].source)
        tunings = [spec.tuning for spec in request.models if spec.tuning]
        checkpoints = [spec for spec in request.models if not spec.twin and not spec.tuning]
        self.revisions.setText(", ".join(dict.fromkeys(spec.revision for spec in checkpoints if spec.revision)))
        self.twin.setChecked(any(spec.twin for spec in request.models))
        self.tuning = tunings[0] if tunings else self.tuning
        self.tuned.setChecked(bool(tunings))
        self.seeds.setValue(len({spec.seed for spec in request.models if spec.seed is not None}))
        self.dtype.write(request.models[0].dtype)
        self.device.write(request.device)
        if request.data is not None:
            self.text.form.set_value(request.data)

    def set_recent_models(self, models: list[str]) -> None:
        """List the built-in models and these."""
        text = self.source.currentText()
        blocked = self.source.blockSignals(True)
        self.source.clear()
        self.source.addItems([*BUILTIN, *(m for m in models if m not in BUILTIN)])
        self.source.setCurrentText(text)
        self.source.blockSignals(blocked)

    def set_model(self, source: str, revisions: str) -> None:
        """Fill in a model and some of its checkpoints."""
        self.source.setCurrentText(source)
        self.revisions.setText(revisions)

    def set_reads_text(self, reads_text: bool) -> None:
        """Say whether the analysis in front reads a text."""
        self._reads_text = reads_text
        self._show_text()

    @Slot()
    def _show_text(self) -> None:
        self.text.set_needed(self._reads_text or self.tuned.isChecked())

    @Slot()
    def ask_facts(self) -> None:
        """Ask for the facts of the first model named."""
        self._edit_timer.stop()
        self.memory.clear()
        try:
            spec = self.specs()[0]
        except UserError as error:
            self._show(str(error), problem=True)
            return
        self._show("Reading the model’s config …", problem=False)
        job = Inspect(spec)
        self._inspection_id = job.id
        self.inspect.emit(job)

    @Slot(object)
    def handle_reply(self, reply: Reply) -> None:
        """Show the facts asked for last; drop those of a model no longer named."""
        if reply.id != self._inspection_id or not reply.state.ended:
            return
        self.info = reply.answer
        if self.info is None:
            self._show(str(reply.error), problem=True)
        else:
            self._show(f"{summary(self.info)}\n{described(self.info)}", problem=False)
            self.notices.setText("\n".join(self.info.notices))
            self.notices.setVisible(bool(self.info.notices))
        self.changed.emit()

    def show_memory(self, text: str, enough: bool) -> None:
        """Show the memory that the run needs; `enough` is False if it does not fit."""
        self.memory.setText(text)
        set_role(self.memory, "muted" if enough else "problem")

    def choose_checkpoints(self, names: tuple[str, ...]) -> None:
        """Let the user pick among `names`."""
        dialog = QDialog(self)
        dialog.setWindowTitle("Checkpoints")
        listing = QListWidget()
        listing.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        listing.addItems(names)
        current = {r.strip() for r in self.revisions.text().split(",")}
        for row in range(listing.count()):
            listing.item(row).setSelected(listing.item(row).text() in current)
        hint = QLabel("Hold Ctrl or Shift to select several.")
        buttons = ok_cancel(dialog)
        listing.itemDoubleClicked.connect(dialog.accept)
        box = QVBoxLayout(dialog)
        for widget in (hint, listing, buttons):
            box.addWidget(widget)
        if dialog.exec():
            names = tuple(listing.item(r).text() for r in range(listing.count()) if listing.item(r).isSelected())
            self.revisions.setText(", ".join(names))
        dialog.deleteLater()

    @Slot()
    def _edit_tuning(self) -> None:
        dialog = QDialog(self)
        dialog.setWindowTitle("Fine-tuning")
        form = Form(Tuning)
        form.set_value(self.tuning)
        buttons = ok_cancel(dialog)
        form.changed.connect(lambda: buttons.button(QDialogButtonBox.StandardButton.Ok).setEnabled(form.valid))
        box = QVBoxLayout(dialog)
        box.addWidget(form)
        box.addWidget(buttons)
        if dialog.exec():
            self.tuning = form.value()
            self.tuned.setChecked(True)
            self.changed.emit()
        dialog.deleteLater()

    def _show(self, text: str, *, problem: bool) -> None:
        self.facts.setText(text)
        set_role(self.facts, "problem" if problem else "")
        self.notices.hide()

    @Slot()
    def _edited(self) -> None:
        self.info = self._inspection_id = None
        self._edit_timer.start()
        self.changed.emit()

    @Slot()
    def _browse(self) -> None:
        start = self.source.currentText() if Path(self.source.currentText()).is_dir() else str(Path.home())
        if folder := QFileDialog.getExistingDirectory(self, "Model folder", start):
            self.source.setCurrentText(folder)

    @Slot()
    def _ask_checkpoints(self) -> None:
        self.list_checkpoints.emit(self.source.currentText().strip())


def _beside(field: QWidget, button: QToolButton) -> QHBoxLayout:
    line = QHBoxLayout()
    line.addWidget(field, 1)
    line.addWidget(button)
    return line
