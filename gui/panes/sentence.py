"""A line to type a sentence into; its attention is shown at once, without a run."""

from collections.abc import Callable

from PySide6.QtCore import QSignalBlocker, QTimer, Signal, Slot
from PySide6.QtWidgets import QHBoxLayout, QLineEdit, QWidget

from engine.errors import UserError
from engine.runs.jobs.attend import Attend
from engine.runs.jobs.job import Reply
from gui.look.widgets import set_role
from gui.plots.plain import PlainLabel
from gui.state.compute_host import ComputeHost
from gui.state.results import Results
from gui.state.runs import Runs

PAUSE_MS = 250
"""Pause in typing after which the attention is computed."""
BUSY = "A run is in progress; the sentence is read when it ends."


class SentenceBar(QWidget):
    """Has the compute process compute the attention of the text, one job at a time, and displays it.

    `make_job` makes an `Attend` of a text; a UserError says what is missing. Clearing the line, or choosing a run,
    returns to the run. `failed` carries an error that has more to say than the line shows.
    """

    failed = Signal(object)

    def __init__(self, host: ComputeHost, runs: Runs, results: Results, make_job: Callable[[str], Attend]) -> None:
        super().__init__()
        self._host, self._runs, self._results, self._make_job = host, runs, results, make_job
        self._open_job: Attend | None = None
        self._pending = False
        self._shows_sentence = False
        self.line = QLineEdit(placeholderText="Type a sentence to see its attention", clearButtonEnabled=True)
        self.line.setAccessibleName("Sentence")
        self.line.setToolTip("Attention of this sentence in the model chosen on the left; Enter recomputes it")
        self.status = PlainLabel(wordWrap=True)
        box = QHBoxLayout(self)
        box.setContentsMargins(6, 4, 6, 4)
        box.addWidget(self.line, 3)
        box.addWidget(self.status, 2)
        self.status.hide()
        self._pause = QTimer(self, singleShot=True, interval=PAUSE_MS)
        self._pause.timeout.connect(self.ask)
        self.line.textChanged.connect(self._typed)
        self.line.returnPressed.connect(self.ask)
        host.replied.connect(self._handle_reply)
        runs.changed.connect(self._run_changed)
        results.shown.connect(self._result_changed)

    @Slot()
    def _typed(self) -> None:
        if self.line.text().strip():
            self._pause.start()
            return
        self._pause.stop()
        self._pending = False
        self._show_status("")
        if self._results.live is not None:
            self._results.show_live(None)

    @Slot()
    def ask(self) -> None:
        """Compute the attention of the text, after the open job and the run in progress."""
        self._pause.stop()
        text = self.line.text()
        self._pending = bool(text.strip()) and (self._runs.busy or self._open_job is not None)
        if not text.strip():
            return
        if self._pending:
            self._show_status(BUSY if self._runs.busy else "Reading …")
            return
        try:
            job = self._make_job(text)
        except UserError as error:
            self._show_status(error.message, problem=True)
            return
        self._open_job = job
        self._show_status("Reading …")
        self._host.ask(job)

    @Slot(object)
    def _handle_reply(self, reply: Reply) -> None:
        job = self._open_job
        if job is None or reply.id != job.id or not reply.state.ended:
            return
        self._open_job = None
        if self._pending:
            self.ask()
        if not self.line.text().strip() or not self.isVisible():
            return
        if reply.error is not None:
            if not self._pending:
                self._show_status(reply.error.message, problem=True)
                if reply.error.detail:
                    self.failed.emit(reply.error)
            return
        self._shows_sentence = True
        self._results.show_live(reply.answer)
        if self._open_job is None and not self._pending:
            tokens = reply.answer.sizes["query"]
            self._show_status(f"{job.spec.label}, {tokens} tokens; not saved in the session")

    @Slot()
    def _run_changed(self) -> None:
        if self._pending and not self._runs.busy and self._open_job is None:
            self.ask()

    @Slot()
    def _result_changed(self) -> None:
        """Clear the line once a run has replaced the sentence on display."""
        if self._shows_sentence and self._results.live is None:
            self._shows_sentence = False
            if self.line.text():
                with QSignalBlocker(self.line):
                    self.line.clear()
                self._show_status("")

    @Slot()
    def return_to_run(self) -> None:
        """Return to the run when another analysis is in front."""
        if self._results.live is not None and not self.isVisible():
            self._results.show_live(None)

    def _show_status(self, text: str, problem: bool = False) -> None:
        set_role(self.status, "problem" if problem else "muted")
        self.status.setText(text)
        self.status.setVisible(bool(text))
