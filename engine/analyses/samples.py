"""The samples of text that analyses show a model: can it read them, which are drawn, and their way through it."""

from typing import TYPE_CHECKING, Annotated, Any, Literal
from weakref import WeakKeyDictionary

from pydantic import AfterValidator, Field

from engine.data.splits import Split
from engine.errors import UserError
from engine.request import DataSpec

if TYPE_CHECKING:
    from engine.jacobians.stream import ResidualStream
    from engine.models.info import ModelInfo
    from engine.models.opening import OpenModel

Kind = Literal["sentences", "windows"]


def _once(splits: tuple[Split, ...]) -> tuple[Split, ...]:
    if len(set(splits)) < len(splits):
        raise ValueError("name each part of the text once")
    return splits


Splits = Annotated[
    tuple[Split, ...],
    AfterValidator(_once),
    Field(
        title="Parts of the text",
        description="Each is measured apart; a random twin, which was trained on neither, on the last one only",
        min_length=1,
    ),
]
"""A parameter: on which parts of the text models are measured."""


def splits_of(splits: Splits, model: "ModelInfo") -> tuple[Split, ...]:
    """On which of them a model is measured: a random twin has seen neither, so the last one does for it."""
    return splits[-1:] if model.twin else splits


def require_readable(info: "ModelInfo", data: DataSpec | None = None) -> None:
    """Refuse a model that does not read text, or not as much of it as a sample of `data` has.

    Raises
    ------
    UserError
    """
    if info.vocab_size == 0:
        raise UserError(f"{info.label} does not read text, so it has no samples here; choose a language model.")
    if data is not None and 0 < info.context < data.length:
        raise UserError(
            f"Samples of {data.length} tokens are longer than {info.label} can read, which is {info.context}; "
            "choose a smaller length."
        )


def draw(data: DataSpec, kind: Kind, model: "OpenModel", seed: int, split: Split = "all") -> Any:
    """Token ids of all samples, (N, T) int64, −1 pads; a ``.npy`` file of ids has its own rows, whatever the kind."""
    from engine.data.sentences import sentences
    from engine.data.tokens import tokens

    ids = data.source.endswith(".npy")
    if kind == "sentences" and not ids:
        return sentences(data, model.tokenizer(), seed, split=split)
    tokenizer = None if ids else model.tokenizer()
    return tokens(data, tokenizer, seed, vocab_size=model.info.vocab_size, split=split)


class Streams:
    """The residual stream of each open model's samples; between the units of a run it only goes one block on."""

    def __init__(self) -> None:
        self._kept: WeakKeyDictionary[OpenModel, tuple[object, ResidualStream]] = WeakKeyDictionary()

    def at(
        self, layer: int, model: "OpenModel", data: DataSpec, kind: Kind, seed: int, position: int = -1
    ) -> "ResidualStream":
        """The stream at the entrance of `layer`; `position` is the chosen token, from the end where it is negative."""
        from engine.jacobians.stream import ResidualStream

        key = (data, kind, seed, position)
        kept_for, stream = self._kept.get(model, (None, None))
        if stream is None or kept_for != key or stream.layer > layer:
            ids = draw(data, kind, model, seed)
            lengths = (ids >= 0).sum(1)
            positions = position + (lengths if position < 0 else 0 * lengths)
            stream = ResidualStream(model.module(), ids, positions.tolist())
            self._kept[model] = key, stream
        while stream.layer < layer:
            stream.advance()
        return stream
