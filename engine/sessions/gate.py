"""The one gate through which JSON from a session's files comes in."""

import json
import math
from typing import Any

MOST_DEPTH = 64
MOST_INTEGER = 2**64  # what an array can hold


def parse(data: bytes) -> Any:
    """The content of JSON text in UTF-8.

    Raises
    ------
    ValueError
        If it is not JSON, is nested deeper than anything that this program writes, or holds a number or a text that
        has no representation: too large, or half of a surrogate pair.
    """
    try:
        content = json.loads(data.decode(), parse_int=_integer, parse_float=_float)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    level, depth = [content], 0
    while level:
        if (depth := depth + 1) > MOST_DEPTH:
            raise ValueError("it is nested too deep")
        level = [child for node in level if isinstance(node, dict | list) for child in _children(node)]
    if b"\\ud" in data.lower():
        json.dumps(content, ensure_ascii=False).encode()
    return content


def _children(node: dict[str, Any] | list[Any]) -> Any:
    return node.values() if isinstance(node, dict) else node


def _integer(text: str) -> int:
    # The length first: converting a million digits takes minutes.
    if len(text) > 21 or abs(int(text)) >= MOST_INTEGER:
        raise ValueError("it holds a number that is too large")
    return int(text)


def _float(text: str) -> float:
    if math.isinf(number := float(text)):
        raise ValueError("it holds a number that is too large")
    return number
