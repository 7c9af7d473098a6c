"""Text from strangers as it may be shown: nothing that steers a terminal, hides, or turns the reading direction."""

import re
from unicodedata import category

MOST = 1000
"""Characters of a text that is shown in one line; more are cut off."""

_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # controls, formats, halves of surrogate pairs, separators of lines
_SIGNS = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}  # formats that are drawn
_JOINERS = {0x200C, 0x200D}
# Persian, Indic scripts and emoji need the joiners; beside ASCII they join nothing and only hide a difference.
_STRAY_JOINER = re.compile(r"(?<![^\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f])")
_LINES = {code: code for code in map(ord, "\n\t")}


class _Symbols(dict[int, int]):
    """What stands for each character: itself, the symbol of a control, or U+FFFD; filled as characters come."""

    def __missing__(self, code: int) -> int:
        if code in _SIGNS or code in _JOINERS or category(chr(code)) not in _UNSEEN:
            symbol = code
        elif code < 0x20:
            symbol = 0x2400 + code
        else:
            symbol = 0x2421 if code == 0x7F else 0xFFFD
        self[code] = symbol
        return symbol


_IN_ONE_LINE = _Symbols()
_IN_LINES = _Symbols(_LINES)


def printable(text: str, most: int = MOST, *, lines: bool = False) -> str:
    """Return `text` with a symbol for every character that would not be seen, cut off after `most`.

    Parameters
    ----------
    text : str
        A name, a token, a sentence that contains some: anything that a file or a stranger may have made up.
    most : int
        Characters to keep.
    lines : bool
        Line ends and tabs stay what they are; otherwise they are shown as symbols too.
    """
    if len(text) > most:
        text = f"{text[: most - 1]}…"
    if text.isprintable():
        return text
    return _STRAY_JOINER.sub("\N{REPLACEMENT CHARACTER}", text.translate(_IN_LINES if lines else _IN_ONE_LINE))
