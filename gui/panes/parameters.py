"""The pane with the parameters of the analysis in front, and the Run button."""

from typing import Any

from PySide6.QtCore import Signal, Slot
from PySide6.QtWidgets import QFormLayout, QHBoxLayout, QPushButton, QStackedWidget, QVBoxLayout, QWidget

from engine.analyses.base import AnyAnalysis
from engine.analyses.registry import get_analysis
from engine.request import Request
from gui.look.widgets import scrolled, set_role
from gui.panes.form import Form, make_editor
from gui.plots.plain import PlainLabel, tip


class ParametersPane(QWidget):
    """One form for each analysis, built from its declaration."""

    changed = Signal()
    run = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.analysis: AnyAnalysis | None = None
        self._forms: dict[str, Form[Any]] = {}
        self._stack = QStackedWidget()
        self.summary = PlainLabel(wordWrap=True)
        self.summary.setProperty("role", "muted")
        self.seed = make_editor(Request.model_fields["seed"])
        self.seed.widget.setToolTip("Seed of all random numbers in the run")
        self.defaults = QPushButton("Restore defaults")
        self.defaults.clicked.connect(self._reset)
        self.button = QPushButton("Run", default=True)
        self.button.setObjectName("run")
        self.button.clicked.connect(self.run)
        self.obstacle = PlainLabel(wordWrap=True)
        set_role(self.obstacle, "problem")
        self.show_obstacle("")

        seed = QFormLayout()
        seed.addRow("Seed", self.seed.widget)
        buttons = QHBoxLayout()
        buttons.addWidget(self.defaults)
        buttons.addWidget(self.button, 1)
        form = QWidget()
        inside = QVBoxLayout(form)
        inside.addWidget(self.summary)
        inside.addWidget(self._stack)
        inside.addLayout(seed)
        inside.addStretch(1)
        box = QVBoxLayout(self)  # outside the scroll area, so that the buttons stay visible
        box.setContentsMargins(0, 0, 0, 0)
        box.addWidget(scrolled(form), 1)
        box.addWidget(self.obstacle)
        box.addLayout(buttons)
        self.obstacle.setContentsMargins(9, 0, 9, 6)
        buttons.setContentsMargins(9, 0, 9, 9)

    @property
    def form(self) -> Form[Any]:
        assert self.analysis is not None
        return self._forms[self.analysis.name]

    def show_analysis(self, name: str) -> None:
        """Show the form of the analysis `name`."""
        self.analysis = get_analysis(name)
        self.summary.setText(self.analysis.summary)
        if name not in self._forms:
            form = self._forms[name] = Form(self.analysis.params)
            form.changed.connect(self.changed)
            self._stack.addWidget(form)
        self._stack.setCurrentWidget(self.form)

    def show_obstacle(self, reason: str) -> None:
        """Say why the model named cannot have the analysis in front, so that no run begins; empty where it can."""
        self.obstacle.setText(reason)
        self.obstacle.setVisible(bool(reason))
        self.button.setEnabled(not reason)
        self.button.setToolTip(tip(reason))

    def values(self) -> dict[str, Any]:
        """Return the validated parameters as JSON values.

        Raises
        ------
        UserError
            If a field is invalid; the message names it.
        """
        return self.form.value().model_dump(mode="json")

    def set_request(self, request: Request) -> None:
        """Show the parameters of `request`."""
        self.show_analysis(request.analysis)
        assert self.analysis is not None
        self.form.set_value(self.analysis.params.model_validate(request.params))
        self.seed.write(request.seed)

    @Slot()
    def _reset(self) -> None:
        self.form.reset()
        self.seed.write(0)
