"""The jacobians views of tokens and of the singular values of single samples."""

import numpy as np
import pytest
from jacobians_parts import OUTLIER, SAMPLES, draw, jacobians_dataset, labelled, marks

from gui.plots.figure import Band, Boxes, Points
from gui.plots.selection import Selection
from gui.views.jacobians.tokens import token_class


@pytest.fixture(scope="module")
def dataset():
    return jacobians_dataset()


def test_samples_are_grouped_by_what_their_token_is(dataset):
    figure = draw("tokens", dataset, Selection(0, 2, sample=4), component="mlp")
    boxes = marks(figure, Boxes)[0]
    values = dataset.rho.sel(component="mlp").isel(model=0, layer=2).values
    np.testing.assert_allclose(boxes.median, [np.median(values)])  # every token of these is a number
    by_class, by_position = (row for row in figure.rows[0])
    assert by_class.x.ticks == ((0.0, f"number ({SAMPLES})"),)
    points = next(mark for mark in by_position.marks if isinstance(mark, Points))
    np.testing.assert_array_equal(points.x, np.arange(SAMPLES) % 7)
    assert points.picks[OUTLIER].sample == OUTLIER


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (" the", "first of a word"), ("ing", "inside a word"), ("##ing", "inside a word"), (" 12", "number"),
        (".", "punctuation"), ("(", "punctuation"), ("[", "punctuation"), ("<", "punctuation"),
        ("[SEP]", "other"), ("<s>", "other"), ("\n", "other"),
    ],
)  # fmt: skip
def test_classes_of_tokens(token, expected):
    assert token_class(token) == expected


def test_the_spectrum_shows_the_selected_sample_where_the_run_kept_it(dataset):
    figure = draw("spectrum", dataset, Selection(0, 2, sample=OUTLIER), component="mlp")
    kept = dataset.singular_values.sel(component="mlp").isel(model=0, layer=2).values
    np.testing.assert_array_equal(labelled(figure, f"sample {OUTLIER}").y, kept[OUTLIER])
    band = labelled(figure, "middle 90 % of samples", Band)
    assert ((kept >= band.low - 1e-12) & (kept <= band.high + 1e-12)).mean() > 0.8
    without = draw("spectrum", dataset.drop_vars("singular_values"), Selection(0, 2), component="mlp")
    assert not marks(without, Band)
