"""Forms: every declared model survives the round trip through its widgets, and errors stand where they belong."""

from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field
from PySide6.QtWidgets import QCheckBox, QComboBox, QLineEdit, QSpinBox

from engine.analyses.registry import ANALYSES, get_analysis
from engine.errors import UserError
from engine.request import DataSpec
from gui.panes.form import CheckBoxes, Form, ValueSlider
from gui.views.attention import views as attention
from gui.views.weights import views as weights


class Everything(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    flag: bool = Field(False, title="A flag", description="What the flag does")
    count: int = Field(3, title="Count", ge=1, lt=10, json_schema_extra={"unit": "draws"})
    share: float = Field(0.5, title="Share", gt=0, le=1)
    kind: Literal["first_one", "second"] = Field("second", json_schema_extra={"labels": {"second": "The second"}})
    note: str = "text"
    maybe: float | None = Field(None, title="Perhaps")
    lengths: tuple[int, ...] = (16, 32)
    slope: float = Field(0.7, ge=0.3, le=2, json_schema_extra={"slider": 0.05})
    size: int = Field(64, ge=8, le=512, json_schema_extra={"slider": 8})


OTHER = Everything(
    flag=True, count=9, share=1e-7, kind="first_one", note="é ß", maybe=-2.5, lengths=(1, 2, 3), slope=2.0, size=8
)


@pytest.fixture
def form(qtbot):
    made = Form(Everything)
    qtbot.addWidget(made)
    return made


@pytest.mark.parametrize("compact", [False, True])
def test_what_is_set_is_what_comes_back(qtbot, compact):
    form = Form(Everything, compact=compact)
    qtbot.addWidget(form)
    assert form.value() == Everything()
    form.set_value(OTHER)
    assert form.value() == OTHER
    form.reset()
    assert form.value() == Everything()


DECLARED = [get_analysis(name).params for name in ANALYSES]
DECLARED += [DataSpec, *(view.options for view in (*weights.VIEWS, weights.NAVIGATOR, *attention.VIEWS))]


def written(form, name, line):
    """Type the first text that the field takes, and return what it means."""
    of_text = isinstance(form.model.model_fields[name].default, str)
    for text, value in (("main", "main"), ("0.5", 0.5), ("3, 5", (3, 5)), ("7", 7)):
        line.setText(text)
        if not form.problems[name].text():
            return text if of_text else value
    return pytest.fail(f"{name} takes no text that this test knows")


@pytest.mark.parametrize("model", DECLARED, ids=lambda m: m.__name__)
def test_every_declared_model_makes_a_form(qtbot, model):
    """Change each field by its widget, as a user would, and read the change back as the declared type."""
    form = Form(model)
    qtbot.addWidget(form)
    expected = model().model_dump()
    for name, editor in form.editors.items():
        match editor.widget:
            case QCheckBox() as box:
                box.toggle()
                expected[name] = not expected[name]
            case QSpinBox() as box:
                box.setValue(box.value() + 1)
                expected[name] += 1
            case QComboBox() as box:
                box.setCurrentIndex(box.count() - 1)
                expected[name] = box.itemData(box.count() - 1)
            case CheckBoxes() as several:
                last, box = list(several.boxes.items())[-1]
                box.toggle()
                ticked = {*expected[name]} ^ {last}
                expected[name] = tuple(value for value in several.boxes if value in ticked)
            case ValueSlider() as slide:
                slide.slider.setValue(slide.slider.value() + 1)
                expected[name] = slide.read()
                assert expected[name] > model().model_dump()[name]
            case QLineEdit() as line:
                expected[name] = written(form, name, line)
            case other:
                pytest.fail(f"{name} has a {type(other).__name__}")
    assert form.value().model_dump() == expected


def test_boxes_to_tick_say_their_value_in_full(qtbot):
    form = Form(get_analysis("communities").params)
    qtbot.addWidget(form)
    boxes = form.editors["detector"].widget.boxes
    assert boxes["cpm"].toolTip() == "signed Leiden CPM"


def test_titles_descriptions_units_and_bounds_reach_the_widgets(form):
    flag, count = form.editors["flag"].widget, form.editors["count"].widget
    assert flag.text() == "A flag"
    assert flag.toolTip() == "What the flag does"
    assert (count.minimum(), count.maximum(), count.suffix()) == (1, 9, " draws")
    kinds = form.editors["kind"].widget
    assert [kinds.itemText(i) for i in range(kinds.count())] == ["first one", "The second"]


def test_an_error_stands_under_its_own_field_and_goes_away(form):
    share = form.editors["share"].widget
    share.setText("2")
    assert not form.valid
    shown = {name for name, label in form.problems.items() if not label.isHidden()}
    assert shown == {"share"}
    assert "less than or equal to 1" in form.problems["share"].text()
    with pytest.raises(UserError, match=r"^Share: "):
        form.value()
    share.setText("0.25")
    assert form.value().share == 0.25
    assert all(label.isHidden() for label in form.problems.values())


@pytest.mark.parametrize("text", ["", "one", "1,5"])
def test_what_is_no_number_is_refused(form, text):
    form.editors["share"].widget.setText(text)
    with pytest.raises(UserError):
        form.value()


def test_an_empty_optional_field_is_none(form):
    maybe = form.editors["maybe"].widget
    maybe.setText("1.5")
    assert form.value().maybe == 1.5
    maybe.clear()
    assert form.value().maybe is None


def test_set_value_announces_itself_once(qtbot, form):
    heard = []
    form.changed.connect(lambda: heard.append(form.value()))
    form.set_value(OTHER)
    assert heard == [OTHER]


def test_a_slider_walks_between_its_bounds_and_says_its_value(qtbot):
    form = Form(Everything, compact=True)
    qtbot.addWidget(form)
    heard = []
    form.changed.connect(lambda: heard.append(form.value().slope))
    slide = form.editors["slope"].widget
    assert isinstance(slide, ValueSlider)
    found = []
    for at in (0, 1, slide.slider.maximum()):
        slide.slider.setValue(at)
        found.append((form.value().slope, slide.value_label.text()))
    assert found == [(0.3, "0.3"), (0.35, "0.35"), (2.0, "2")]
    assert heard == [0.3, 0.35, 2.0]
    assert form.editors["size"].widget.slider.maximum() == 63
    assert slide.focusProxy() is slide.slider
