"""A line to type a sentence into, whose attention is shown at once, without a run."""

from collections.abc import Callable

from PySide6.QtCore import QSignalBlocker, QTimer, Slot
from PySide6.QtWidgets import QHBoxLayout, QLabel, QLineEdit, QWidget

from engine.errors import UserError
from engine.runs.jobs.attend import Attend
from engine.runs.jobs.job import Reply
from gui.look.widgets import set_role
from gui.state.compute_host import Host
from gui.state.results import Results
from gui.state.runs import Runs

PAUSE_MS = 250
"""How long the typing has to rest before the model is asked."""
BUSY = "A run is going on; the sentence is read when it ends."


class SentenceBar(QWidget):
    """Asks the compute process for the attention of what is typed, one question at a time, and has it shown.

    `question` makes an `Attend` of a text, or says in a UserError what is missing. An empty line, or another run that
    is chosen, goes back to the run.
    """

    def __init__(self, host: Host, runs: Runs, results: Results, question: Callable[[str], Attend]) -> None:
        super().__init__()
        self._host, self._runs, self._results, self._question = host, runs, results, question
        self._asked: Attend | None = None
        self._waits = False
        self._live = False
        self.line = QLineEdit(placeholderText="Type a sentence to see its attention at once", clearButtonEnabled=True)
        self.line.setAccessibleName("Sentence")
        self.line.setToolTip("Read by the model that is chosen on the left; Enter reads it again")
        self.said = QLabel(wordWrap=True)
        box = QHBoxLayout(self)
        box.setContentsMargins(6, 4, 6, 4)
        box.addWidget(self.line, 3)
        box.addWidget(self.said, 2)
        self.said.hide()
        self._pause = QTimer(self, singleShot=True, interval=PAUSE_MS)
        self._pause.timeout.connect(self.ask)
        self.line.textChanged.connect(self._typed)
        self.line.returnPressed.connect(self.ask)
        host.replied.connect(self._answered)
        runs.changed.connect(self._run_changed)
        results.shown.connect(self._followed)

    @Slot()
    def _typed(self) -> None:
        if self.line.text().strip():
            self._pause.start()
            return
        self._pause.stop()
        self._waits = False
        self._say("")
        if self._results.live is not None:
            self._results.show_live(None)

    @Slot()
    def ask(self) -> None:
        """Ask for what stands in the line, after the question that is still open and after the run."""
        self._pause.stop()
        text = self.line.text()
        self._waits = bool(text.strip()) and (self._runs.busy or self._asked is not None)
        if not text.strip():
            return
        if self._waits:
            self._say(BUSY if self._runs.busy else "Reading …")
            return
        try:
            question = self._question(text)
        except UserError as error:
            self._say(error.message, problem=True)
            return
        self._asked = question
        self._say("Reading …")
        self._host.ask(question)

    @Slot(object)
    def _answered(self, reply: Reply) -> None:
        question = self._asked
        if question is None or reply.id != question.id or not reply.state.ended:
            return
        self._asked = None
        if self._waits:
            self.ask()
        if not self.line.text().strip() or not self.isVisible():
            return
        if reply.error is not None:
            if not self._waits:
                self._say(reply.error.message, problem=True)
            return
        self._live = True
        self._results.show_live(reply.answer)
        if self._asked is None and not self._waits:
            tokens = reply.answer.sizes["query"]
            self._say(f"{question.spec.label}, {tokens} tokens; not kept in the session")

    @Slot()
    def _run_changed(self) -> None:
        if self._waits and not self._runs.busy and self._asked is None:
            self.ask()

    @Slot()
    def _followed(self) -> None:
        """A run was chosen: what is shown is no longer the sentence."""
        if self._live and self._results.live is None:
            self._live = False
            if self.line.text():
                with QSignalBlocker(self.line):
                    self.line.clear()
                self._say("")

    @Slot()
    def leave(self) -> None:
        """Go back to the run when another analysis is in front."""
        if self._results.live is not None and not self.isVisible():
            self._results.show_live(None)

    def _say(self, text: str, problem: bool = False) -> None:
        set_role(self.said, "problem" if problem else "muted")
        self.said.setText(text)
        self.said.setVisible(bool(text))
