"""The commands of the Run menu."""

from functools import cache

from PySide6.QtCore import QObject, Signal, Slot
from PySide6.QtWidgets import QWidget

from engine.analyses.abilities import obstacle
from engine.errors import UserError
from engine.request import Request
from engine.runs.jobs.attend import Attend
from engine.runs.jobs.job import Reply
from engine.runs.jobs.verify import Verify
from engine.training.spec import tuning_bytes
from gui.panes.log import LogDialog
from gui.panes.model import BUILTIN, ModelPane
from gui.panes.parameters import ParametersPane
from gui.panes.recipes import choose_recipe
from gui.panes.runs import RunsPane
from gui.panes.tuning import Tuner
from gui.state.compute_host import ComputeHost
from gui.state.document import Document
from gui.state.runs import RunRow, Runs
from gui.state.settings import Settings


@cache
def _has_gpu() -> bool:
    """Whether there is an NVIDIA GPU; asks the driver, because this process does not import torch."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return False
    return bool(pynvml.nvmlDeviceGetCount())


class RunCommands(QObject):
    """Queues the request that the panes describe, and acts on the run selected in the list.

    `failed` carries an error; `message` the text, details and kind of a message.
    """

    failed = Signal(object)
    message = Signal(str, str, str)

    def __init__(
        self,
        host: ComputeHost,
        document: Document,
        runs: Runs,
        panes: tuple[ModelPane, ParametersPane, RunsPane],
        settings: Settings,
        window: QWidget,
    ) -> None:
        super().__init__(window)
        self._document, self._runs, self._settings, self._window = document, runs, settings, window
        self._model_pane, self._parameters, self._pane = panes
        self._host = host
        self._verification_id: int | None = None
        self.tuner = Tuner(host, self._model_pane, settings, document.home, window)
        self.tuner.failed.connect(self.failed)
        host.replied.connect(self._handle_reply)
        self._parameters.run.connect(self.run)
        self._pane.cancel.connect(self.cancel_row)
        self._pane.resume.connect(self.resume_row)
        self._pane.log.connect(self.log_row)

    def request(self) -> Request:
        """Return the request that the panes describe.

        Raises
        ------
        UserError
            If a field is invalid; the message names it.
        """
        analysis = self._parameters.analysis
        if analysis is None:
            raise UserError("The window is still loading; press Run again in a moment.")
        return Request(
            analysis=analysis.name,
            params=self._parameters.values(),
            models=self._model_pane.specs(),
            data=self._model_pane.text.spec(),
            device=self._model_pane.device_name(),
            seed=self._parameters.seed.read(),
        )

    @Slot()
    def run(self) -> None:
        try:
            self._submit(self.request())
        except (UserError, OSError) as error:
            self.failed.emit(error)

    @Slot()
    def run_recipe(self) -> None:
        """Run a built-in request, shown in the panes so that it can be changed and run again."""
        if (request := choose_recipe(self._window)) is not None:
            try:
                self._model_pane.set_request(request)
                self._parameters.set_request(request)
                self._submit(request)
            except (UserError, OSError) as error:
                self.failed.emit(error)

    @Slot()
    def tune(self) -> None:
        """Open the dialog that fine-tunes the model in the Model pane."""
        self.tuner.show()

    def _submit(self, request: Request) -> None:
        session = self._document.ensure()
        self._settings.remember_session(session.path)
        if (source := request.models[0].source) not in BUILTIN:
            self._settings.remember_model(source)
            self._model_pane.set_recent_models(self._settings.models)
        row = self._runs.add(session.path, request)
        if row.active:  # a queued run does not replace the result on display
            self._pane.choose(row)

    @Slot()
    def verify(self) -> None:
        """Compare the closed-form Jacobians of the model in the Model pane with automatic differentiation."""
        try:
            spec = self._model_pane.specs()[0]
            data = self._model_pane.text.form.value().model_copy(update={"samples": 1})
            job = Verify(spec, data, self._model_pane.device_name(), self._parameters.seed.read())
        except UserError as error:
            self.failed.emit(error)
            return
        self.message.emit(f"Verifying the closed forms of {spec.label} in every layer …", "", "notice")
        self._verification_id = job.id
        self._host.ask(job)

    def attention_job(self, text: str) -> Attend:
        """Return the job that computes the attention of `text` in the model of the Model pane."""
        return Attend(self._model_pane.specs()[0], text, self._model_pane.device_name(), self._parameters.seed.read())

    @Slot(object)
    def _handle_reply(self, reply: Reply) -> None:
        if reply.id != self._verification_id or not reply.state.ended:
            return
        if reply.error is not None:
            self.failed.emit(reply.error)
        else:
            self.message.emit(reply.answer.text, reply.answer.table, "notice" if reply.answer.passed else "error")

    @Slot()
    def cancel(self) -> None:
        if (row := self._runs.active or self._pane.current) is not None:
            self._runs.cancel(row)

    @Slot()
    def cancel_all(self) -> None:
        self._runs.cancel_all()

    @Slot()
    def resume(self) -> None:
        if (row := self._pane.current) is not None:
            self.resume_row(row)

    @Slot()
    def use_settings(self) -> None:
        """Copy the settings of the selected run into the panes."""
        if (row := self._pane.current) is not None:
            self._model_pane.set_request(row.request)
            self._parameters.set_request(row.request)

    @Slot()
    def show_log(self) -> None:
        if (row := self._pane.current) is not None:
            self.log_row(row)

    @Slot(object)
    def cancel_row(self, row: RunRow) -> None:
        self._runs.cancel(row)

    @Slot(object)
    def resume_row(self, row: RunRow) -> None:
        try:
            self._document.ensure()
        except UserError as error:
            self.failed.emit(error)
            return
        if row.resumable:
            self._runs.resume(row)

    @Slot(object)
    def log_row(self, row: RunRow) -> None:
        provenance = None
        if self._document.session is not None and row.run:
            try:
                provenance = self._document.session.run(row.run).provenance
            except UserError as error:
                provenance = {"unreadable": error.message}
        LogDialog(row, provenance, self._window).show()

    @Slot()
    def update_memory(self) -> None:
        """Show whether the model can have this run, and the peak memory, fine-tuning included, beside what there is."""
        analysis, info = self._parameters.analysis, self._model_pane.info
        self._parameters.show_obstacle(obstacle(analysis, info) if analysis is not None and info is not None else "")
        if analysis is None or info is None or not self._parameters.form.valid:
            self._model_pane.show_memory("", True)
            return
        try:
            request = self.request()
        except UserError:  # shown beside the field
            self._model_pane.show_memory("", True)
            return
        if request.device == "auto" and not _has_gpu():
            request = request.model_copy(update={"device": "cpu"})
        needed = analysis.estimate_bytes(request, self._parameters.form.value(), info)
        needed = max(needed, *(tuning_bytes(spec.tuning, info) for spec in request.models if spec.tuning), 0)
        import psutil

        free = psutil.virtual_memory().available
        text = f"Needs about {needed / 1e9:.2f} GB of memory; {free / 1e9:.1f} GB available."
        self._model_pane.show_memory(text, needed <= free)
