"""Samples of text for analyses: checks that a model can read them, draws, and their residual streams."""

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
        description="Measured separately; a random twin, trained on neither, on the last one only",
        min_length=1,
    ),
]
"""A parameter: the parts of the text on which models are measured."""


def splits_of(splits: Splits, model: "ModelInfo") -> tuple[Split, ...]:
    """The parts that a model is measured on; a random twin has seen neither, so the last one suffices."""
    return splits[-1:] if model.twin else splits


def require_readable(info: "ModelInfo", data: DataSpec | None = None) -> None:
    """Refuse a model that cannot read as many tokens as a sample of `data` has.

    Raises
    ------
    UserError
    """
    if data is not None and 0 < info.context < data.length:
        raise UserError(
            f"Samples of {data.length} tokens are longer than {info.label} can read, which is {info.context}; "
            "choose a smaller length."
        )


def draw(data: DataSpec, kind: Kind, model: "OpenModel", seed: int, split: Split = "all") -> Any:
    """Token ids of all samples, (N, T) int64, padded with −1; a ``.npy`` file of ids defines its own rows."""
    from engine.data.sentences import sentences
    from engine.data.tokens import tokens

    ids = data.source.endswith(".npy")
    if kind == "sentences" and not ids:
        return sentences(data, model.tokenizer(), seed, split=split)
    tokenizer = None if ids else model.tokenizer()
    return tokens(data, tokenizer, seed, vocab_size=model.info.vocab_size, split=split)


class Streams:
    """The residual stream of each open model's samples, advanced block by block between the units of a run."""

    def __init__(self) -> None:
        self._kept: WeakKeyDictionary[OpenModel, tuple[object, ResidualStream]] = WeakKeyDictionary()

    def at(
        self, layer: int, model: "OpenModel", data: DataSpec, kind: Kind, seed: int, position: int = -1
    ) -> "ResidualStream":
        """The stream at the entrance of `layer`; `position` is the chosen token, counted from the end if negative."""
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
