"""The boundary between data units and drawn coordinates, and the ticks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gui.plots.drawing.axes import from_drawn, number, ticks, to_drawn
from gui.plots.figure import Axis


@given(st.floats(1e-300, 1e300), st.booleans())
def test_there_and_back(value, log):
    assert from_drawn(float(to_drawn(value, log)), log) == pytest.approx(value, rel=1e-12)


def test_log_of_what_has_none_is_nan():
    np.testing.assert_array_equal(to_drawn([0.0, -1.0, np.nan, 100.0], True), [np.nan, np.nan, np.nan, 2.0])
    assert to_drawn([0.0, -1.0], False).tolist() == [0.0, -1.0]


def _value(text):
    """What a tick's text says."""
    mantissa, _, rest = text.replace("−", "-").rpartition("×")
    ten = rest.rstrip("⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    if ten == rest:
        return float(rest)
    exponent = int(rest[len(ten) :].translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")))
    return float(mantissa or 1) * float(ten) ** exponent


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (-3.2, 4.7), (0, 1e-5), (1e6, 3e6), (-2e-4, 1e-4), (12.31, 12.34), (0, 63), (-1e9, 1e9)]
)
@pytest.mark.parametrize("room", [2, 4, 8])
def test_even_ticks_say_where_they_stand(low, high, room):
    found = ticks(Axis(""), low, high, room)
    assert 1 <= len(found) <= room + 1
    assert len(np.unique(np.round(np.diff([t.at for t in found]) / (high - low), 9))) <= 1
    for tick in found:
        assert low - 1e-9 * abs(low) <= tick.at <= high + 1e-9 * abs(high)
        assert float(_value(tick.text)) == pytest.approx(tick.at, rel=1e-9, abs=1e-9 * (high - low))


@pytest.mark.parametrize(
    ("low", "high"), [(-2, 1), (-12, 3), (0.1, 0.4), (-0.5, 0.7), (-300, 300), (2.3, 4.1), (-6.2, -4.9), (0, 1)]
)
@pytest.mark.parametrize("room", [2, 5, 8])
def test_log_ticks_say_where_they_stand(low, high, room):
    found = ticks(Axis("", log=True), low, high, room)
    named = [t for t in found if t.text]
    assert 1 <= len(named) <= 9
    for tick in named:
        assert low - 1e-6 <= tick.at <= high + 1e-6
        if abs(tick.at) < 300:
            assert np.log10(_value(tick.text)) == pytest.approx(tick.at, abs=1e-6)


def test_decades_are_plain_when_small_and_powers_when_far():
    assert [t.text for t in ticks(Axis("", log=True), -2, 3, 8) if t.text] == ["0.01", "0.1", "1", "10", "100", "1000"]
    assert [t.text for t in ticks(Axis("", log=True), -6.5, -2.9, 8) if t.text] == ["10⁻⁶", "10⁻⁵", "10⁻⁴", "10⁻³"]
    minor = [10**t.at for t in ticks(Axis("", log=True), 0, 2, 3) if not t.text]
    np.testing.assert_allclose(minor, [2, 3, 4, 5, 6, 7, 8, 9, 20, 30, 40, 50, 60, 70, 80, 90])


def test_given_ticks_are_kept_and_thinned_when_there_is_no_room():
    axis = Axis("", log=True, ticks=tuple((10.0**i, f"t{i}") for i in range(6)))
    assert [(t.at, t.text) for t in ticks(axis, 0.5, 4.5, 10)] == [(1, "t1"), (2, "t2"), (3, "t3"), (4, "t4")]
    assert [t.text for t in ticks(axis, 0, 5, 3)] == ["t0", "", "t2", "", "t4", ""]


@pytest.mark.parametrize(("low", "high"), [(0, 0), (1, 0), (np.nan, 1), (0, np.inf)])
def test_no_range_no_ticks(low, high):
    assert ticks(Axis(""), low, high, 5) == []


def test_numbers_for_people():
    assert [number(v) for v in (0, 12.3456, -0.5, 1.5e-7, 1e21)] == ["0", "12.35", "−0.5", "1.5×10⁻⁷", "1×10²¹"]


def test_upright_texts_leave_room_for_more_ticks(qtbot):
    from gui.plots.figure import Figure, Image, Panel
    from gui.plots.figure_widget import FigureWidget

    size = 60
    edges = np.arange(size + 1) - 0.5
    texts = tuple((float(i), f"word {i}") for i in range(size))
    shown = {}
    for upright in (False, True):
        widget = FigureWidget()
        qtbot.addWidget(widget)
        widget.resize(700, 500)
        x = Axis("token", ticks=texts, limits=(-0.5, size - 0.5), upright=upright)
        panel = Panel(x, Axis("y"), (Image(np.eye(size), edges, edges),))
        widget.show_figure(Figure(((panel,),)))
        widget.show()
        item = widget.canvas._panels[0, 0]
        shown[upright] = sum(bool(tick.text) for tick in item.ticks("x"))
        widest = max(item.metrics.horizontalAdvance(text) for _, text in texts)
        assert (item.bottom_margin() > widest) is upright
        assert np.asarray(widget.grab().toImage().bits()).size
    assert shown[True] > 2 * shown[False]
