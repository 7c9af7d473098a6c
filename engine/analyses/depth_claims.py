"""Verdicts on statements along depth or training: means, rises and falls of values that resemble their neighbours.

Nothing here takes layers, heads or checkpoints for independent (methods §13).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.analyses.claims import Verdict
from engine.spectra import serial
from engine.spectra.trends import Trend

Array = NDArray[np.float64]

LEVEL = 0.05
NULL = "null: noise whose neighbouring layers are alike, up to a random walk"
TRAINING_NULL = "null: noise whose neighbouring checkpoints are alike, up to a random walk"


def verdict_of(votes: Iterable[bool | None]) -> Verdict:
    """“holds” or “fails” if all votes agree; else, or without votes, “cannot say”."""
    cast = set(votes)
    return "holds" if cast == {True} else "fails" if cast == {False} else "cannot say"


def trend_words(test: Trend) -> str:
    """A trend in numbers."""
    return (
        f"{test.slope:+.3f} a layer, p = {test.trend_p:.2g}, Spearman ρ = {test.spearman:.2f} over {test.layers} layers"
    )


def direction(test: Trend, rising: bool) -> bool | None:
    """Whether the trend is the claimed one, the opposite one, or none that is beyond noise."""
    return (test.slope > 0) == rising if test.trend_p < LEVEL else None


def shown(value: float, digits: str = ".3g") -> str:
    """A number in a sentence, where it has one."""
    return "undefined" if np.isnan(value) else f"{value:{digits}}"


def means(values: NDArray[np.floating]) -> Array:
    """Means over the last axis, such as the heads of each layer; what is not finite counts as absent."""
    present = np.isfinite(values)
    count = present.sum(-1)
    return np.where(count > 0, np.where(present, values, 0).sum(-1) / np.maximum(count, 1), np.nan)


def shares(true: NDArray[np.bool_], measured: NDArray[np.bool_]) -> Array:
    """The share of each layer's heads (layer, head) for which something is true; NaN where none is measured."""
    return means(np.where(measured, true, np.nan))


@dataclass(frozen=True)
class DepthMean:
    """A mean over layers and its 95 % interval; the ends are NaN where there are too few layers."""

    low: float
    mean: float
    high: float
    layers: int

    @classmethod
    def of(cls, values: Array, least: float = -np.inf, most: float = np.inf, sloped: bool = False) -> "DepthMean":
        """Of one value a layer (L,) that lies between `least` and `most`; NaN marks an absent layer.

        With `sloped` a rise or fall along depth does not widen the interval.
        """
        low, mean, high = serial.mean_interval(values, sloped=sloped)
        return cls(float(np.maximum(low, least)), mean, float(np.minimum(high, most)), int(np.isfinite(values).sum()))

    def __str__(self) -> str:
        if not np.isfinite(self.low):
            return f"{shown(self.mean)} ({self.layers} layers; an interval needs {serial.FEWEST})"
        return f"{self.mean:.3g} (95 % interval {self.low:.3g} to {self.high:.3g} over {self.layers} correlated layers)"

    def in_percent(self) -> str:
        """The interval of a share, in words."""
        if not np.isfinite(self.low):
            return f"(fewer than {serial.FEWEST} layers: no interval)"
        return f"(95 % interval over layers {self.low:.0%} to {self.high:.0%})"

    def reaches(self, level: float) -> bool | None:
        """Whether the interval lies at `level` or above; False where it lies below."""
        return True if self.low >= level else False if self.high < level else None

    def above(self, level: float) -> bool | None:
        """Whether the interval lies above `level`; False where it lies below."""
        return True if self.low > level else False if self.high < level else None

    def below(self, level: float) -> bool | None:
        above = self.above(level)
        return None if above is None else not above

    def between(self, low: float, high: float) -> bool | None:
        """Whether the interval lies between two levels; False where it lies outside."""
        if self.low >= low and self.high <= high:
            return True
        return False if self.low > high or self.high < low else None
