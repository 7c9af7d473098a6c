"""The one gate through which JSON comes in: from sessions, from models, from records of a training."""

import json
import math
from functools import partial
from typing import Any

MOST_DEPTH = 64
MOST_INTEGER = 2**64
"""What an array can hold."""


def parse(data: bytes, most: int = MOST_INTEGER) -> Any:
    """The content of JSON text in UTF-8, in which every integer is smaller than `most`.

    Raises
    ------
    ValueError
        If it is not JSON, is nested deeper than anything that this program or a library writes, says one thing twice,
        or holds a number or a text that has no representation: too large, or half of a surrogate pair.
    """
    try:
        content = json.loads(
            data.decode(), parse_int=partial(_integer, most=most), parse_float=_float, object_pairs_hook=_object
        )
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


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("it says one thing twice")
    return content


def _integer(text: str, most: int) -> int:
    # The length first: converting a million digits takes minutes.
    if len(text) > len(str(most)) + 1 or abs(int(text)) >= most:
        raise ValueError("it holds a number that is too large")
    return int(text)


def _float(text: str) -> float:
    if math.isinf(number := float(text)):
        raise ValueError("it holds a number that is too large")
    return number
