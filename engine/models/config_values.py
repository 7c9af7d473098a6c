"""The values of a config.json, checked before anything is built from it: kinds of values, signs, and how much there is.

The library checks the types of the fields that an architecture has. It does not check whether a size makes sense, and
it builds, one after another, however many layers and labels it is asked for.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.errors import UserError

MOST_LAYERS = 1000
MOST_LABELS = 100_000
MOST_SIZE = 2**31
FEW_LAYERS = 64
"""So few are built at once, and what does not fit is said tensor by tensor."""
KINDS: dict[str, tuple[type, str]] = {"architectures": (list, "a list of names"), "model_type": (str, "a name")}
KINDS |= dict.fromkeys(
    ("quantization_config", "id2label", "text_config", "vision_config", "audio_config"), (dict, "an object")
)
# Without these there is no model, however they are spelled.
SIZES = (
    *("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    *("num_attention_heads", "n_head", "n_heads", "num_heads", "num_key_value_heads"),
    *("hidden_size", "n_embd", "d_model", "vocab_size", "n_positions", "max_position_embeddings"),
)
LAYERS = re.compile(
    r"(?!\w*_per_)(n(um)?_(\w+_)?(layers?|blocks?|stages|depths?)|\w*coder_layers|depths?|attention_types)"
)
LABELS = frozenset(("num_labels", "_num_labels"))
EPSILON = re.compile(r"\w*(eps|epsilon)")


def require_sound(raw: dict[str, Any], file: Path) -> None:
    """Refuse a config whose values are of another kind, make no sense, or would take minutes to build.

    Raises
    ------
    UserError
        It names the field.
    """
    for key, (kind, expected) in KINDS.items():
        value = raw.get(key)
        names = value if key == "architectures" and isinstance(value, list) else ()
        if not isinstance(value, kind | None) or not all(isinstance(name, str) for name in names):
            raise _refusal(file, key, value, expected)
    for key, name, value in walk(raw):
        if isinstance(value, float) and math.isnan(value):
            raise _refusal(file, key, value, "a number")
        if name in SIZES and not all(_whole(size) and 0 < size < MOST_SIZE for size in _leaves(value)):
            raise _refusal(file, key, value, "a whole number of a sensible size, 1 or more,")
        if EPSILON.fullmatch(name) and isinstance(value, int | float) and not 0 <= value < math.inf:
            raise _refusal(file, key, value, "a small positive number")
        if LAYERS.fullmatch(name) and _count(value) > MOST_LAYERS:
            raise _refusal(file, key, value, f"a number of at most {MOST_LAYERS:,}")
        labels = len(value) if name == "id2label" and isinstance(value, dict) else value if name in LABELS else 0
        if not 0 <= _count(labels) <= MOST_LABELS:
            raise _refusal(file, key, labels, f"a number from 0 to {MOST_LABELS:,}")


def require_stored(raw: dict[str, Any], tensors: int, file: Path) -> None:
    """Refuse a config with more layers than the checkpoint has tensors: each of them needs one.

    Raises
    ------
    UserError
        It names the field.
    """
    for key, name, value in walk(raw):
        if LAYERS.fullmatch(name) and _count(value) > max(FEW_LAYERS, tensors):
            raise UserError(
                f"{key} in {file} is {_shown(value)}, and the checkpoint holds only {tensors} tensors: they do not "
                "belong together. Download the model again."
            )


def walk(raw: Any, above: str = "") -> Iterator[tuple[str, str, Any]]:
    """Every key of nested JSON: with those above it, by itself, and its value."""
    if isinstance(raw, dict):
        for name, value in raw.items():
            yield above + name, name, value
            yield from walk(value, f"{above}{name}.")
    elif isinstance(raw, list):
        for value in raw:
            yield from walk(value, above)


def _leaves(value: Any) -> Iterator[Any]:
    """What a value holds that may stand once for all layers, in a list for each or by parts; nothing for None."""
    if isinstance(value, list | dict):
        for child in value.values() if isinstance(value, dict) else value:
            yield from _leaves(child)
    elif value is not None:
        yield value


def _whole(value: Any) -> bool:
    """Whether a value counts something; the library decides where 2.0 will do."""
    return (isinstance(value, float) and value.is_integer()) or (isinstance(value, int) and not isinstance(value, bool))


def _count(value: Any) -> float:
    return sum(leaf for leaf in _leaves(value) if _whole(leaf))


def _refusal(file: Path, key: str, value: Any, expected: str) -> UserError:
    return UserError(f"{key} in {file} is {_shown(value)}, where {expected} belongs. Download it again, or correct it.")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
