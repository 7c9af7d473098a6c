"""Densities on logarithmic bins."""

import numpy as np
import pytest

from engine.spectra.density import density, log_edges


def test_every_spectrum_integrates_to_one_and_zeros_have_their_bin() -> None:
    values = np.random.default_rng(0).lognormal(size=(3, 4, 6))
    edges = log_edges(values, np.zeros(1), 20)
    found = density(values, edges, 24)
    np.testing.assert_allclose((found * np.diff(edges)).sum(-1), 1)
    np.testing.assert_allclose(found[..., 0] * edges[1], 18 / 24)
    counts = found[1, 2] * np.diff(edges) * 24
    np.testing.assert_allclose(counts[1:], np.histogram(values[1, 2], edges[1:])[0], atol=1e-9)


def test_values_at_the_rounding_floor_count_as_zeros() -> None:
    values = np.array([[1.0, 0.1, 1e-20], [5.0, 2.0, 0.0]])
    edges = log_edges(values, 1e-12 * values[:, :1], 10)
    assert edges[1] == pytest.approx(0.1, rel=1e-2)
    assert edges[-1] == pytest.approx(5.0, rel=1e-2)
    np.testing.assert_allclose(density(values, edges, 3)[:, 0] * edges[1], 1 / 3)


def test_absent_spectra_are_absent_and_padding_is_not_counted() -> None:
    values = np.array([[1.0, 0.5, np.nan], [np.nan] * 3])
    edges = log_edges(values, np.zeros(1), 4)
    found = density(values, edges, 2)
    assert found[0, 0] == 0
    assert (found[0] * np.diff(edges)).sum() == pytest.approx(1)
    assert np.isnan(found[1]).all()


def test_nothing_but_zeros_still_has_bins() -> None:
    edges = log_edges(np.zeros((2, 3)), np.zeros(1), 5)
    found = density(np.zeros((2, 3)), edges, 4)
    assert np.all(np.diff(edges) > 0)
    np.testing.assert_allclose(found[:, 0] * edges[1], 1)
    np.testing.assert_allclose(found[:, 1:], 0)
