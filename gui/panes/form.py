"""A form built from a pydantic model: titles, descriptions, bounds, choices and units of its fields make the widgets.

``json_schema_extra={"slider": step}`` turns a number between two inclusive bounds into a slider.
"""

import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from PySide6.QtCore import QSignalBlocker, Qt, Signal, Slot
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QLineEdit,
    QSlider,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from engine.errors import UserError
from engine.printable import printable
from gui.plots.plain import PlainLabel, in_menu, tip

M = TypeVar("M", bound=BaseModel)
INT_LIMIT = 2**31 - 1


@dataclass(frozen=True)
class Editor:
    """One field's widget: how to read it (pydantic validates the value) and how to set it."""

    widget: QWidget
    read: Callable[[], Any]
    write: Callable[[Any], None]
    changed: Any


class CheckBoxes(QWidget):
    """A check box for each value, in two columns where the values are short; `labels` are the tooltips."""

    changed = Signal()

    def __init__(self, values: tuple[Any, ...], labels: dict[str, str]) -> None:
        super().__init__()
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        self.boxes = {value: QCheckBox(in_menu(str(value).replace("_", " "))) for value in values}
        columns = 2 if max(map(len, map(str, values))) < 10 else 1
        for index, (value, box) in enumerate(self.boxes.items()):
            box.setToolTip(tip(labels.get(value, "")))
            grid.addWidget(box, index // columns, index % columns)
            box.toggled.connect(self.changed)

    def read(self) -> list[Any]:
        return [value for value, box in self.boxes.items() if box.isChecked()]

    def write(self, checked: Any) -> None:
        for value, box in self.boxes.items():
            box.setChecked(value in checked)


class ValueSlider(QWidget):
    """A slider from `low` to `high` in equal steps, with its value beside it."""

    changed = Signal()

    def __init__(self, low: float, high: float, step: float) -> None:
        super().__init__()
        self._low, self._step = low, step
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setMaximum(round((high - low) / step))
        self.slider.setFixedWidth(84)
        self.value_label = PlainLabel()
        self.value_label.setMinimumWidth(self.fontMetrics().horizontalAdvance("0.00 "))
        self.setFocusProxy(self.slider)
        line = QHBoxLayout(self)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(self.slider)
        line.addWidget(self.value_label)
        self.slider.valueChanged.connect(self._moved)

    def read(self) -> float:
        return round(self._low + self._step * self.slider.value(), 9)

    def write(self, value: float) -> None:
        self.slider.setValue(round((value - self._low) / self._step))
        self._moved()

    @Slot()
    def _moved(self) -> None:
        self.value_label.setText(f"{self.read():g}")
        self.changed.emit()


class Form(QWidget, Generic[M]):
    """Edits one frozen model.

    `changed` is emitted after every edit, valid or not. Errors appear below their field. With `compact`, the fields
    form one row, for a tool bar.
    """

    changed = Signal()

    def __init__(self, model: type[M], parent: QWidget | None = None, *, compact: bool = False) -> None:
        super().__init__(parent)
        self.model = model
        self.editors: dict[str, Editor] = {}
        self.problems: dict[str, PlainLabel] = {}
        self._rows: QFormLayout | QHBoxLayout = QHBoxLayout(self) if compact else QFormLayout(self)
        self._rows.setContentsMargins(0, 0, 0, 0)
        if isinstance(self._rows, QFormLayout):
            self._rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
            self._rows.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
        for name, field in model.model_fields.items():
            self._add(name, field)
        if isinstance(self._rows, QHBoxLayout):
            self._rows.addStretch(1)
        self.reset()

    def _add(self, name: str, field: FieldInfo) -> None:
        editor = make_editor(field)
        title = field.title or name.replace("_", " ").capitalize()
        widget = editor.widget
        widget.setObjectName(name)
        widget.setToolTip(field.description or "")
        widget.setAccessibleName(title)
        problem = PlainLabel(wordWrap=True)
        problem.hide()
        problem.setProperty("role", "problem")
        self.editors[name], self.problems[name] = editor, problem
        editor.changed.connect(self._edited)

        label = PlainLabel("" if isinstance(widget, QCheckBox) else title)
        label.setToolTip(field.description or "")
        label.setBuddy(widget)
        if isinstance(widget, QCheckBox):
            widget.setText(title)
        if isinstance(self._rows, QFormLayout):
            cell = QVBoxLayout()
            cell.setSpacing(2)
            cell.addWidget(widget)
            cell.addWidget(problem)
            self._rows.addRow(cell) if isinstance(widget, QCheckBox) else self._rows.addRow(label, cell)
        else:
            if label.text():
                self._rows.addWidget(label)
            for part in (widget, problem):
                self._rows.addWidget(part)
            self._rows.addSpacing(4)

    def value(self) -> M:
        """Return the validated model.

        Raises
        ------
        UserError
            If a field is invalid; the message names the first.
        """
        try:
            return self.model.model_validate({name: e.read() for name, e in self.editors.items()})
        except ValidationError as error:
            first = error.errors()[0]
            field = self.model.model_fields.get(str(first["loc"][0])) if first["loc"] else None
            title = (field and field.title) or (str(first["loc"][0]) if first["loc"] else "The form")
            raise UserError(f"{title}: {_sentence(first['msg'])}") from None

    @property
    def valid(self) -> bool:
        try:
            self.value()
        except UserError:
            return False
        return True

    def set_value(self, value: M) -> None:
        """Show `value`; emits `changed` once."""
        for name, editor in self.editors.items():
            with QSignalBlocker(editor.widget):
                editor.write(getattr(value, name))
        self._edited()

    @Slot()
    def reset(self) -> None:
        """Show the defaults; a field without one is left empty."""
        for name, field in self.model.model_fields.items():
            if not field.is_required():
                with QSignalBlocker(self.editors[name].widget):
                    self.editors[name].write(field.get_default(call_default_factory=True))
        self._edited()

    @Slot()
    def _edited(self) -> None:
        messages: dict[str, str] = {}
        try:
            self.model.model_validate({name: e.read() for name, e in self.editors.items()})
        except ValidationError as error:
            messages = {str(e["loc"][0]) if e["loc"] else next(iter(self.editors)): e["msg"] for e in error.errors()}
        for name, label in self.problems.items():
            label.setText(_sentence(messages.get(name, "")))
            label.setVisible(name in messages)
        self.changed.emit()


def _sentence(message: str) -> str:
    text = message.removeprefix("Value error, ")
    return text[:1].upper() + text[1:]


def make_editor(field: FieldInfo) -> Editor:
    """Choose the widget for one field from its type and bounds."""
    kind, optional = _strip_optional(field.annotation)
    extra: dict[str, Any] = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    unit = str(extra.get("unit", ""))
    if kind is bool:
        box = QCheckBox()
        return Editor(box, box.isChecked, box.setChecked, box.toggled)
    if get_origin(kind) is Literal:
        return _choices(get_args(kind), optional, extra.get("labels", {}))
    if step := extra.get("slider"):
        slider = ValueSlider(*_bounds(field), float(step))
        return Editor(slider, slider.read, slider.write, slider.changed)
    if kind is int and not optional:
        return _integer(field, unit, str(extra.get("lowest", "")))
    inner = get_args(kind)[0] if get_origin(kind) in (tuple, list) else None
    if get_origin(inner) is Literal:
        boxes = CheckBoxes(get_args(inner), extra.get("labels", {}))
        return Editor(boxes, boxes.read, boxes.write, boxes.changed)
    line = QLineEdit()
    line.setPlaceholderText(
        " ".join(t for t in (str(extra.get("empty", "none")) if optional else "", f"in {unit}" if unit else "") if t)
    )
    if inner is not None:
        # One comma-separated line; pydantic converts the parts to the declared type.
        def read_list() -> list[str]:
            return [part.strip() for part in line.text().split(",") if part.strip()]

        return Editor(line, read_list, lambda v: line.setText(", ".join(map(str, v))), line.textChanged)

    def read() -> str | None:
        text = line.text().strip()
        return None if optional and not text else text

    return Editor(line, read, lambda v: line.setText("" if v is None else str(v)), line.textChanged)


def _strip_optional(annotation: Any) -> tuple[Any, bool]:
    if get_origin(annotation) in (Union, types.UnionType):
        kinds = [a for a in get_args(annotation) if a is not type(None)]
        return (kinds[0] if len(kinds) == 1 else str), len(kinds) < len(get_args(annotation))
    return annotation, False


def _choices(values: tuple[Any, ...], optional: bool, labels: dict[str, str]) -> Editor:
    box = QComboBox()
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToContents)
    for value in (None, *values) if optional else values:
        text = "none" if value is None else labels.get(value, str(value).replace("_", " "))
        box.addItem(printable(text), value)
    return Editor(box, box.currentData, lambda v: box.setCurrentIndex(box.findData(v)), box.currentIndexChanged)


def _bounds(field: FieldInfo) -> tuple[float, float]:
    """Return the inclusive bounds of a field; an unbounded integer spans 32 bits."""
    low, high = -INT_LIMIT, INT_LIMIT
    for bound in field.metadata:
        low = max(low, getattr(bound, "ge", low), getattr(bound, "gt", low - 1) + 1)
        high = min(high, getattr(bound, "le", high), getattr(bound, "lt", high + 1) - 1)
    return low, high


def _integer(field: FieldInfo, unit: str, lowest: str) -> Editor:
    """Return a spin box; `lowest`, if given, is its text for the smallest value."""
    low, high = _bounds(field)
    box = QSpinBox(minimum=int(low), maximum=int(high))
    box.setKeyboardTracking(False)
    box.setGroupSeparatorShown(True)
    box.setStepType(QSpinBox.StepType.AdaptiveDecimalStepType)
    box.setSuffix(f" {unit}" if unit else "")
    box.setSpecialValueText(lowest)
    box.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    return Editor(box, box.value, box.setValue, box.valueChanged)
