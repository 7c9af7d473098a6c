"""Axes: the conversion between data units and drawn coordinates, and the ticks.

A logarithmic axis is drawn by plotting log₁₀ of the data. All conversion goes through `to_drawn` and `from_drawn`.
"""

from dataclasses import dataclass
from math import ceil, floor, log10

import numpy as np
import numpy.typing as npt

from gui.plots.figure import Axis

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Tick:
    """A tick at `at` in drawn coordinates; a minor tick has no text."""

    at: float
    text: str


def to_drawn(values: npt.ArrayLike, log: bool) -> npt.NDArray[np.float64]:
    """Convert data units to drawn coordinates: log₁₀ on a log axis, NaN where undefined."""
    data = np.asarray(values, dtype=float)
    if not log:
        return data
    drawn = np.full(data.shape, np.nan)
    np.log10(data, out=drawn, where=data > 0)
    return drawn


def from_drawn(value: float, log: bool) -> float:
    """Convert a drawn coordinate to data units; infinity beyond the largest double."""
    if not log:
        return float(value)
    return 10.0**value if value < 308 else np.inf


def number(value: float, digits: int = 4) -> str:
    """Format a value with `digits` significant digits, a true minus sign and ×10ⁿ."""
    mantissa, _, exponent = f"{value:.{digits}g}".partition("e")
    text = mantissa.replace("-", "−")
    return text if not exponent else f"{text}×{power(int(exponent))}"


def power(exponent: int) -> str:
    """Format a power of ten as 10ⁿ."""
    return "10" + str(exponent).translate(_SUPERSCRIPT)


def ticks(axis: Axis, low: float, high: float, room: int) -> list[Tick]:
    """Return the ticks between two drawn coordinates, with text on at most about `room` of them."""
    if axis.bare or not (np.isfinite(low) and np.isfinite(high) and high > low):
        return []
    if axis.ticks:
        return _given(axis, low, high, room)
    room = max(2, min(room, 8))
    if axis.log:
        return _decades(low, high, room)
    return [Tick(at, text) for at, text in _even(low, high, room)]


def _given(axis: Axis, low: float, high: float, room: int) -> list[Tick]:
    margin = 1e-9 * (high - low)
    positions = to_drawn([position for position, _ in axis.ticks], axis.log)
    inside = [
        Tick(float(position), text)
        for position, (_, text) in zip(positions, axis.ticks, strict=True)
        if low - margin <= position <= high + margin
    ]
    every = max(1, ceil(len(inside) / max(room, 1)))
    return [tick if i % every == 0 else Tick(tick.at, "") for i, tick in enumerate(inside)]


def _even(low: float, high: float, room: int) -> list[tuple[float, str]]:
    """Return round values an equal step apart, with the digits that the step needs."""
    raw = (high - low) / room
    magnitude = 10.0 ** floor(log10(raw))
    step = next(m * magnitude for m in (1, 2, 5, 10) if m * magnitude >= raw * 0.999)
    first, last = ceil(low / step - 1e-9), floor(high / step + 1e-9)
    largest = max(abs(first), abs(last)) * step
    values = [i * step for i in range(first, last + 1)]
    if largest >= 1e5 or 0 < largest < 1e-3:
        exponent = floor(log10(largest) + 1e-9)
        decimals = max(0, exponent - floor(log10(step) + 1e-9))
        unit = 10.0**exponent
        return [(v, f"{v / unit:.{decimals}f}×{power(exponent)}".replace("-", "−") if v else "0") for v in values]
    decimals = max(0, -floor(log10(step) + 1e-9))
    return [(v, f"{v:.{decimals}f}".replace("-", "−") if v else "0") for v in values]


def _decades(low: float, high: float, room: int) -> list[Tick]:
    """Return decades with minor ticks, labelled at 1, 2, 5 if few; below one decade, evenly spaced values."""
    if high - low < 1:
        even = _even(10.0**low, 10.0**high, min(room, 5))
        return [Tick(log10(value), text) for value, text in even if value > 0]
    first, last = floor(low), ceil(high)
    plain = first >= -3 and last <= 4
    count = floor(high) - ceil(low) + 1
    every = next(e for e in (1, 2, 3, 5, 10, 20, 50, 100, 200, 500) if count <= e * room)
    if every > 1:
        step = 1 if every <= 10 else every
        decades = range(ceil(low / step) * step, floor(high) + 1, step)
        return [Tick(float(d), _decade(d, plain) if d % every == 0 else "") for d in decades]
    full = 3 * (high - low) <= room
    result = []
    for decade in range(first, last + 1):
        for multiple in range(1, 10):
            position = decade + log10(multiple)
            if not low - 1e-9 <= position <= high + 1e-9:
                continue
            text = ""
            if multiple == 1 or (full and multiple in (2, 5)):
                text = _decade(decade, plain, multiple)
            result.append(Tick(position, text))
    return result


def _decade(exponent: int, plain: bool, multiple: int = 1) -> str:
    if plain:
        return f"{multiple * 10.0**exponent:g}"
    return power(exponent) if multiple == 1 else f"{multiple}×{power(exponent)}"
