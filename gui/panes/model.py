"""The pane that chooses what to run on: model, revisions, conditions, seeds, dtype, device, and the text."""

import os
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
    QLineEdit,
    QListWidget,
    QMenu,
    QSpinBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from engine.analyses.abilities import described
from engine.errors import UserError
from engine.models.info import ModelInfo, summary
from engine.printable import printable
from engine.request import Device, ModelSpec, Request, Tuning, conditions
from engine.runs.jobs.inspect import Inspect
from engine.runs.jobs.job import Reply
from gui.look.widgets import ok_cancel, set_role, tool_button
from gui.panes.form import Form, make_editor
from gui.panes.text import TextPane
from gui.plots.plain import PlainLabel

BUILTIN = ("builtin", "builtin-encoder")
MAX_SEEDS = 10
EDIT_PAUSE_MS = 500
"""Pause in editing after which the facts of the model are read."""


class ModelPane(QWidget):
    """Edits the models and the text of a request, and shows the facts of the model named.

    `inspect` carries an `Inspect` for the compute process, whose reply goes to `handle_reply`, and `dropped` the id of
    one whose answer nobody waits for any more; `explain` an error whose details are wanted; `list_checkpoints` a source
    whose revisions are wanted, which go to `choose_checkpoints`.
    """

    changed = Signal()
    inspect = Signal(object)
    explain = Signal(object)
    dropped = Signal(int)
    list_checkpoints = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.info: ModelInfo | None = None
        self._error: UserError | None = None  # why there are no facts
        self._inspection_id: int | None = None  # the job that reads the facts of the model now named
        fields = ModelSpec.model_fields
        self.source = QComboBox(editable=True)
        self.source.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.source.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.source.addItems(BUILTIN)
        self.source.setToolTip(
            "builtin, builtin-encoder, a folder with config.json and safetensors or with an adapter (LoRA), a GGUF "
            "file, or a hub id"
        )
        browse = tool_button("…", "Choose a folder or a GGUF file")
        kinds = QMenu(browse)
        kinds.addAction("Folder…", self._browse_folder)
        kinds.addAction("GGUF file…", self._browse_file)
        browse.setMenu(kinds)
        browse.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.base = QLineEdit(placeholderText="the model that the adapter names")
        self.base.setToolTip("What the adapter (LoRA) is merged into, if not the model that it names")
        self.with_base = QCheckBox("Add")
        self.with_base.setToolTip("Also run the base, as it is without the adapter")
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
        self.facts = PlainLabel(wordWrap=True)
        self.facts.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.details = tool_button("Details", "Show the details across the top of the window")
        self.details.clicked.connect(self._ask_details)
        self.details.hide()
        self.notices = PlainLabel(wordWrap=True)
        self.memory = PlainLabel(wordWrap=True)
        self.facts.setContentsMargins(0, 6, 0, 0)
        set_role(self.notices, "muted")

        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Model", _beside(self.source, browse))
        self._base_row = _beside(self.base, self.with_base)
        form.addRow("Base", self._base_row)
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
        box.addWidget(self.details)
        box.addWidget(self.memory)
        box.addWidget(self.notices)
        box.addWidget(self.text)
        box.addStretch(1)

        self._form = form
        self._show_base()
        self._reads_text = False
        self.tuned.toggled.connect(self._show_text)
        self._edit_timer = QTimer(self, singleShot=True, interval=EDIT_PAUSE_MS)
        self._edit_timer.timeout.connect(self.ask_facts)
        self.source.currentTextChanged.connect(self._edited)
        self.base.textChanged.connect(self._edited)
        self.revisions.textChanged.connect(self._edited)
        for signal in (
            self.with_base.toggled,
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
        base = (self.base.text().strip() or None) if self.is_adapter() else None
        if self.with_base.isChecked() and self.info is not None:
            base = base or self.info.base
        specs = [ModelSpec(source=source, revision=r, base=base, dtype=dtype) for r in dict.fromkeys(names or [None])]
        if self.with_base.isChecked() and base is not None:
            specs.insert(0, ModelSpec(source=base, dtype=dtype))
        return conditions(
            specs,
            tuning=self.tuning if self.tuned.isChecked() else None,
            twin=self.twin.isChecked(),
            seeds=self.seeds.value(),
            reads_text=self._reads_text,
        )

    def is_adapter(self) -> bool:
        """Whether an adapter is named, which has a base: by its folder, or by the facts once they are read."""
        named = os.path.join(self.source.currentText().strip(), "adapter_config.json")
        return os.path.isfile(named) or (self.info is not None and self.info.base is not None)

    def device_name(self) -> Device:
        return self.device.read()

    def set_request(self, request: Request) -> None:
        """Show the models, text and device of `request`."""
        shown = next((spec for spec in request.models if spec.base), request.models[0])
        self.source.setCurrentText(shown.source)
        self.base.setText(shown.base or "")
        self.with_base.setChecked(any(spec.source == shown.base for spec in request.models))
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
        self._drop_inspection()
        self.memory.clear()
        try:
            specs = self.specs()
            spec = next((spec for spec in specs if spec.base), specs[0])
        except UserError as error:
            self._show_error(error)
            return
        self._show("Reading the model’s config …")
        job = Inspect(spec)
        self._inspection_id = job.id
        self.inspect.emit(job)

    @Slot(object)
    def handle_reply(self, reply: Reply) -> None:
        """Show the facts asked for last; drop those of a model no longer named."""
        if reply.id != self._inspection_id or not reply.state.ended:
            return
        self.info = reply.answer
        if reply.error is not None:
            self._show_error(reply.error)
        elif self.info is not None:
            self._show(f"{summary(self.info)}\n{described(self.info)}")
            self.notices.setText("\n".join(self.info.notices))
            self.notices.setVisible(bool(self.info.notices))
        self._show_base()
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
        listing.addItems(list(map(printable, names)))
        current = {r.strip() for r in self.revisions.text().split(",")}
        for row, name in enumerate(names):
            listing.item(row).setSelected(name in current)
        hint = PlainLabel("Hold Ctrl or Shift to select several.")
        buttons = ok_cancel(dialog)
        listing.itemDoubleClicked.connect(dialog.accept)
        box = QVBoxLayout(dialog)
        for widget in (hint, listing, buttons):
            box.addWidget(widget)
        if dialog.exec():
            self.revisions.setText(", ".join(n for r, n in enumerate(names) if listing.item(r).isSelected()))
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

    def _show(self, text: str) -> None:
        self._error = None
        self.facts.setText(text)
        set_role(self.facts, "")
        self.details.hide()
        self.notices.hide()

    def _show_error(self, error: UserError) -> None:
        self._show(error.message)
        self._error = error
        set_role(self.facts, "problem")
        self.details.setVisible(bool(error.detail))

    @Slot()
    def _ask_details(self) -> None:
        self.explain.emit(self._error)

    @Slot()
    def _edited(self) -> None:
        self.info = None
        self._show_base()
        self._drop_inspection()
        self._edit_timer.start()
        self.changed.emit()

    def _drop_inspection(self) -> None:
        if self._inspection_id is not None:
            self.dropped.emit(self._inspection_id)
            self._inspection_id = None

    @Slot()
    def _show_base(self) -> None:
        self._form.setRowVisible(self._base_row, self.is_adapter())

    @Slot()
    def _browse_folder(self) -> None:
        if folder := QFileDialog.getExistingDirectory(self, "Model folder", self._start()):
            self.source.setCurrentText(folder)

    @Slot()
    def _browse_file(self) -> None:
        file, _ = QFileDialog.getOpenFileName(self, "GGUF file", self._start(), "GGUF files (*.gguf *.GGUF)")
        if file:
            self.source.setCurrentText(file)

    def _start(self) -> str:
        named = self.source.currentText()
        folder = named if os.path.isdir(named) else os.path.dirname(named)
        return folder if os.path.isdir(folder) else str(Path.home())

    @Slot()
    def _ask_checkpoints(self) -> None:
        self.list_checkpoints.emit(self.source.currentText().strip())


def _beside(field: QWidget, button: QWidget) -> QHBoxLayout:
    line = QHBoxLayout()
    line.addWidget(field, 1)
    line.addWidget(button)
    return line
