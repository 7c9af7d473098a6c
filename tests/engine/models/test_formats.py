"""The rounding of every format that weights are stored in."""

import math

import numpy as np
import pytest

from engine.models.formats import FLOATS, format_name, is_quantised, rounding, storage_floor


def test_floors_of_floats_are_those_of_methods() -> None:
    floors = [storage_floor(name) for name in ("bfloat16", "float16", "float32", "float64")]
    assert floors == [1e-6, 1e-8, 2e-16, 8e-34]
    assert not any(map(is_quantised, FLOATS))
    assert [format_name(spelled) for spelled in FLOATS] == ["float64", "float32", "float16", "bfloat16"]


@pytest.mark.parametrize(
    ("name", "bits"),
    [("Q4_K", 4), ("Q8_0", 8), ("Q2_K", 2), ("IQ3_XXS", 3), ("TQ1_0", 1), ("INT8", 8), ("INT4", 4), ("NF4", 4)],
)
def test_integers_round_to_a_share_of_the_largest(name: str, bits: int) -> None:
    assert rounding(name) == 2.0 ** (1 - bits)
    assert storage_floor(name) == (2.0 ** (1 - bits) / 8) ** 2
    assert is_quantised(name)


def test_small_floats_round_by_their_mantissa() -> None:
    grid = np.array([2**exponent * (1 + step / 8) for exponent in range(-6, 8) for step in range(8)])
    assert np.diff(grid)[8 * 6] == rounding("F8_E4M3")
    assert rounding("F8_E5M2") == 2 * 2**-3
    assert rounding("MXFP4") == 0.5


def test_what_is_no_format_of_weights_has_no_floor() -> None:
    for name in ("I32", "U8", "BOOL", "unknown"):
        assert not is_quantised(name)
        assert math.isnan(storage_floor(name))
