"""Colours: told apart by people with any common colour blindness, on both backgrounds; and the theme that follows."""

from itertools import combinations

import numpy as np
import pytest
from PySide6.QtGui import QPalette
from PySide6.QtWidgets import QLabel

from gui.plots import theme

CATEGORICAL = [f"c{i}" for i in range(8)]
SEMANTIC = ["data", "null", "naive", "twin", "shuffled", "law", "accent", "muted", "ink", *CATEGORICAL]

# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB
BLINDNESS = {
    "none": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def _linear(code):
    value = np.array([int(code[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def _lab(rgb):
    """CIE L*a*b* (D65) of linear RGB."""
    matrix = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(matrix) @ np.clip(rgb, 0, 1) / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def _seen(code, blindness):
    return _lab(np.array(BLINDNESS[blindness]) @ _linear(code))


def _contrast(a, b):
    light, dark = sorted((np.array([0.2126, 0.7152, 0.0722]) @ _linear(c) for c in (a, b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("blindness", BLINDNESS)
def test_categories_are_told_apart(dark, blindness):
    seen = {name: _seen(theme.resolve(name, dark), blindness) for name in CATEGORICAL}
    apart = {pair: np.linalg.norm(seen[pair[0]] - seen[pair[1]]) for pair in combinations(CATEGORICAL, 2)}
    worst = min(apart, key=apart.get)
    assert apart[worst] > 10, (worst, apart[worst])


@pytest.mark.parametrize("dark", [False, True])
def test_marks_stand_out_from_the_background(dark):
    background = theme.resolve("background", dark)
    assert min(_contrast(theme.resolve(n, dark), background) for n in SEMANTIC if n != "muted") > 2.4
    assert _contrast(theme.resolve("ink", dark), background) > 12
    assert _contrast(theme.resolve("axis", dark), background) > 4.5


@pytest.mark.parametrize("blindness", BLINDNESS)
def test_the_sequential_map_only_gets_lighter(blindness):
    lightness = [_seen(f"#{r:02x}{g:02x}{b:02x}", blindness)[0] for r, g, b in theme.table("sequential", 64).tolist()]
    assert np.diff(lightness).min() > -0.2
    assert lightness[-1] - lightness[0] > 60


def test_the_diverging_map_is_lightest_in_the_middle_and_differs_at_its_ends():
    for blindness in BLINDNESS:
        low, middle, high = (_seen(theme.anchors("diverging")[i], blindness) for i in (0, 6, 12))
        assert middle[0] > low[0] + 50
        assert middle[0] > high[0] + 50
        assert np.linalg.norm(low - high) > 25


@pytest.mark.parametrize("dark", [False, True])
def test_no_value_does_not_look_like_a_value(dark):
    neutral = _lab(_linear(theme.resolve("neutral", dark)))
    for colormap in ("sequential", "diverging"):
        table = theme.table(colormap, 64).tolist()
        assert min(np.linalg.norm(_lab(_linear(f"#{r:02x}{g:02x}{b:02x}")) - neutral) for r, g, b in table) > 7


def test_table_ends_in_the_anchors():
    first, last = theme.table("sequential", 255)[[0, -1]]
    assert [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in (first.tolist(), last.tolist())] == ["#440154", "#fde725"]


def test_the_theme_reaches_widgets_and_can_be_held(qtbot, qapp):
    before = qapp.palette(), qapp.style().name()
    label = QLabel()
    qtbot.addWidget(label)
    label.show()
    held = theme.apply(qapp, "dark")
    told = []
    held.changed.connect(told.append)
    try:
        qapp.processEvents()
        assert qapp.style().name() == "fusion"
        assert theme.is_dark(label.palette())
        held.set_mode("light")
        qapp.processEvents()
        assert told == [False]
        assert not theme.is_dark(label.palette())
        assert label.palette().color(QPalette.ColorRole.Base).name() == theme.resolve("background", False)
        held.set_mode("system")
        assert held.dark == (qapp.styleHints().colorScheme().name == "Dark")
    finally:
        qapp.setPalette(before[0])
        qapp.setStyle(before[1])
        held.deleteLater()
