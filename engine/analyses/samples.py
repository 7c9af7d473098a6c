"""Samples of text for analyses: checks that a model can read them, draws, and their residual streams."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal
from weakref import WeakKeyDictionary

from pydantic import AfterValidator, Field

from engine.data.splits import Split
from engine.errors import UserError
from engine.request import DEFAULT_LENGTH, DataSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

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
    if data is not None and data.length is not None and 0 < info.context < data.length:
        raise UserError(
            f"Samples of {data.length} tokens are longer than {info.label} can read, which is {info.context}; "
            "choose a smaller length."
        )


def sample_length(data: DataSpec, info: "ModelInfo") -> int:
    """Tokens a sample has at most: the requested or the default length, cut to the model's context."""
    length = data.length or DEFAULT_LENGTH
    return min(length, info.context or length)


def settled(data: DataSpec, models: "Sequence[ModelInfo]") -> DataSpec:
    """`data` with what it leaves open: one length for all models, and of a file of ids how many there are.

    Raises
    ------
    UserError
        If there is no such file of ids.
    """
    samples, width = data.samples, data.length or DEFAULT_LENGTH
    if data.is_ids:
        from engine.data.ids import ids_shape

        rows, columns = ids_shape(data)
        samples, width = min(samples, rows), min(data.length or columns, columns)
    if data.length is None:
        width = min(width, *(info.context or width for info in models), width)
    return data.model_copy(update={"samples": samples, "length": width})


def draw(data: DataSpec, kind: Kind, model: "OpenModel", seed: int, split: Split = "all") -> "NDArray[np.int64]":
    """Token ids of all samples, (N, T) int64, padded with −1; a ``.npy`` file of ids defines its own rows."""
    from engine.data.encoding import require_known
    from engine.data.sentences import sentences
    from engine.data.tokens import tokens

    data = data.model_copy(update={"length": sample_length(data, model.info)})
    if kind == "sentences" and not data.is_ids:
        ids = sentences(data, model.tokenizer(), seed, split=split)
    else:
        tokenizer = None if data.is_ids else model.tokenizer()
        ids = tokens(data, tokenizer, seed, vocab_size=model.info.vocab_size, split=split)
    require_known(ids, model.info.vocab_size)
    return ids


def tokenizer_if_any(model: "OpenModel") -> "PreTrainedTokenizerBase | None":
    """The model's tokenizer, None where it has none: samples are ids then."""
    try:
        return model.tokenizer()
    except UserError:
        return None


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
