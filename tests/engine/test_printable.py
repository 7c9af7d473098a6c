"""No character of a shown text is hidden, steers a terminal or turns the reading direction."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.printable import printable

SEEN = {
    "plain": "builtin@step16 – λ₁ ≤ 3.1·10⁻⁵, “naïve”",
    "Persian": "می‌خواهم",
    "Hindi": "क्‍ष",
    "emoji": "👩‍💻",
    "Arabic sign": "\u06ddx",
    "no-break space": "a\u00a0b",
}


@pytest.mark.parametrize("text", SEEN.values(), ids=SEEN)
def test_what_can_be_seen_stays(text: str) -> None:
    assert printable(text) == text


HIDDEN = {
    "escape": ("\x1b[31m", "␛[31m"),
    "bell": ("a\x07", "a␇"),
    "carriage return": ("safe\rEVIL", "safe␍EVIL"),
    "C1 control": ("\x9b2J", "�2J"),
    "delete": ("\x7f", "␡"),
    "line": ("a\nb\tc", "a␊b␉c"),
    "separator": ("a\u2028b", "a�b"),
    "override": ("a\u202eb\u2066", "a�b�"),
    "zero width": ("a\u200bb\ufeff\u2060", "a�b��"),
    "joiner between letters": ("built\u200din\u200c", "built�in�"),
    "soft hyphen": ("a\u00adb", "a�b"),
    "surrogate": ("a\udc80", "a�"),
    "tag": ("\U000e0041", "�"),
}


@pytest.mark.parametrize(("text", "shown"), HIDDEN.values(), ids=HIDDEN)
def test_what_cannot_be_seen_has_a_symbol(text: str, shown: str) -> None:
    assert printable(text) == shown


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(), max_size=40), st.integers(1, 30), st.booleans())
def test_whatever_comes(text: str, most: int, lines: bool) -> None:
    shown = printable(text, most, lines=lines)
    assert len(shown) <= most
    shown.encode()
    kept = "\n\t" if lines else ""
    assert all(c in kept or unicodedata.category(c) not in ("Cc", "Cs", "Zl", "Zp") for c in shown)
    assert printable(shown, most, lines=lines) == shown
