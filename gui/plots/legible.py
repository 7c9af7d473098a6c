"""A figure whose every text can be drawn: labels, ticks, tokens and notes come from models and texts of strangers."""

from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from engine.printable import MOST, printable
from gui.plots.figure import Figure

_NOT_TEXT = {"pick", "picks", "marked", "limits"}
_T = TypeVar("_T")


def legible(figure: Figure) -> Figure:
    """Return `figure` itself if all its texts can be drawn, else one in which `printable` has seen to them."""
    return _legible(figure)


def _legible(value: _T) -> _T:
    changed: Any
    if isinstance(value, str):
        changed = printable(value)
    elif isinstance(value, tuple):
        if all(isinstance(part, str) and len(part) <= MOST and part.isprintable() for part in value):
            return value
        changed = tuple(map(_legible, value))
        return value if all(new is old for new, old in zip(changed, value, strict=True)) else changed
    elif isinstance(value, dict):
        changed = {_legible(key): _legible(part) for key, part in value.items()}
        return value if changed == value else changed
    elif is_dataclass(value) and not isinstance(value, type):
        old = {field.name: getattr(value, field.name) for field in fields(value) if field.name not in _NOT_TEXT}
        new = {name: part for name, before in old.items() if (part := _legible(before)) is not before}
        return replace(value, **new) if new else value
    else:
        return value
    return changed
