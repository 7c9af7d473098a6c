"""JSON that anybody made: values of every kind, and every place that one can stand in."""

from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st


def json_values(*more: Any) -> st.SearchStrategy[Any]:
    """Values of every kind, nested, with what often breaks a reader, and `more` of that."""
    return st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=5)
        | st.sampled_from([-1, 0, 2**40, 2**70, "../../x", "1", "a\x1b[2J", [], {}, *more]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=5,
    )


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a JSON value with each key of it."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in list(items):
        yield node, key
        yield from places(child)
