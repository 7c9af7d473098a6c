"""The commands of the Run menu."""

from functools import cache

from PySide6.QtCore import QObject, Signal, Slot
from PySide6.QtWidgets import QWidget

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
from gui.state.compute_host import Host
from gui.state.document import Document
from gui.state.runs import RunRow, Runs
from gui.state.settings import Settings


@cache
def _has_gpu() -> bool:
    """Whether there is an NVIDIA GPU; asked of the driver, because torch is not in this process."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return False
    return bool(pynvml.nvmlDeviceGetCount())


class RunCommands(QObject):
    """Turns the panes into a request and gives it to the queue; acts on the run that is chosen in the list.

    `failed` carries an error, `said` a message: its text, its details, its kind.
    """

    failed = Signal(object)
    said = Signal(str, str, str)

    def __init__(
        self,
        host: Host,
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
        self._verification: int | None = None  # the id of the job
        self.tuner = Tuner(host, self._model_pane, settings, document.home, window)
        host.replied.connect(self._answered)
        self._parameters.run.connect(self.run)
        self._pane.cancel.connect(self.cancel_row)
        self._pane.resume.connect(self.resume_row)
        self._pane.log.connect(self.log_row)

    def request(self) -> Request:
        """What the panes ask for now; a UserError says which field is wrong."""
        analysis = self._parameters.analysis
        if analysis is None:
            raise UserError("The window is still getting ready; press Run again in a moment.")
        return Request(
            analysis=analysis.name,
            params=self._parameters.values(),
            models=self._model_pane.specs(),
            data=self._model_pane.data_spec(),
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
        """Run a request that comes with the program; the panes show it, so that it can be changed and run again."""
        if (request := choose_recipe(self._window)) is not None:
            try:
                self._model_pane.set_request(request)
                self._parameters.set_request(request)
                self._submit(request)
            except (UserError, OSError) as error:
                self.failed.emit(error)

    @Slot()
    def tune(self) -> None:
        """Fine-tune the model in the Model pane into a folder."""
        self.tuner.show()

    def _submit(self, request: Request) -> None:
        session = self._document.ensure()
        self._settings.remember_session(session.path)
        if (source := request.models[0].source) not in BUILTIN:
            self._settings.remember_model(source)
            self._model_pane.set_known(self._settings.models)
        row = self._runs.add(session.path, request)
        if row.active:  # one that has to wait does not take the view away from what is being looked at
            self._pane.choose(row)

    @Slot()
    def verify(self) -> None:
        """Compare the closed-form Jacobians of the model in the Model pane with automatic differentiation."""
        try:
            spec, data = self._model_pane.specs()[0], self._model_pane.data.value().model_copy(update={"samples": 1})
            job = Verify(spec, data, self._model_pane.device_name(), self._parameters.seed.read())
        except UserError as error:
            self.failed.emit(error)
            return
        self.said.emit(f"Verifying the closed forms of {spec.label} in every layer …", "", "notice")
        self._verification = job.id
        self._host.ask(job)

    def attend(self, text: str) -> Attend:
        """The question for the attention of `text`, put to the model in the Model pane."""
        return Attend(self._model_pane.specs()[0], text, self._model_pane.device_name(), self._parameters.seed.read())

    @Slot(object)
    def _answered(self, reply: Reply) -> None:
        if reply.id != self._verification or not reply.state.ended:
            return
        if reply.error is not None:
            self.failed.emit(reply.error)
        else:
            self.said.emit(reply.answer.text, reply.answer.table, "notice" if reply.answer.passed else "error")

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
    def recall(self) -> None:
        """Put what the chosen run was asked into the panes."""
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
    def tell_needs(self) -> None:
        """Say in the Model pane what memory this run takes at its peak, fine-tuning included, and what there is."""
        analysis, info = self._parameters.analysis, self._model_pane.info
        if analysis is None or info is None or not self._parameters.form.valid:
            self._model_pane.show_needs("", True)
            return
        try:
            request = self.request()
        except UserError:  # said where the field is
            self._model_pane.show_needs("", True)
            return
        if request.device == "auto" and not _has_gpu():
            request = request.model_copy(update={"device": "cpu"})
        needed = analysis.estimate_bytes(request, self._parameters.form.value(), info)
        needed = max(needed, *(tuning_bytes(spec.tuning, info) for spec in request.models if spec.tuning), 0)
        import psutil

        free = psutil.virtual_memory().available
        text = f"Needs about {needed / 1e9:.2f} GB of memory; {free / 1e9:.1f} GB is free."
        self._model_pane.show_needs(text, needed <= free)
