"""What an architecture does with a short text, measured before any of its weights are read.

The library's own code runs once on the CPU, with weights that take no memory. What the measured facts are about is the
same for any weights: which modules are the blocks and in what order they are called, which of them show their
attention, whether a later token reaches an earlier one, and what the head puts out.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from engine.errors import UserError, reason
from engine.models.blocks import block_row, uncached
from engine.models.config import Architecture
from engine.models.losses import vocabulary_logits
from engine.models.memory import available_bytes, is_out_of_memory
from engine.models.twin import children_first, initialise
from engine.models.watching import Alone, Every, OncePerKind

SEQUENCES, TOKENS = 2, 5
"""Two sequences that differ in their last token; no likely number of heads or layers, so that shapes stay apart."""
REACHES = 1e-5
"""Relative difference of an earlier token's output from which a later token has reached it."""


@dataclass(frozen=True)
class Rehearsal:
    """What was measured.

    Attributes
    ----------
    refusal : str
        Why the model could not be run on token ids; then nothing else was measured. Empty where it ran.
    blocks : tuple of str
        Path of each layer's block, in the order of the calls; layers that share a module share a path.
    no_blocks, no_stream : str
        Why there are none, and what else a block reads of others than the residual stream; empty where that is not so.
    beside : bool
        Whether blocks read something that an earlier block left beside the residual stream.
    heads : tuple of int
        Attention matrices that each layer shows; 0 where it shows none.
    projections : tuple of str
        Path of the linear that makes each layer's attention output; empty where it cannot be told.
    causal : bool or None
        Whether no token reaches an earlier one; None where that cannot be seen.
    vocabulary : bool
        Whether the head puts out one number for each entry of the vocabulary.
    positions : int
        Tokens that the table of positions has rows for; 0 without such a table.
    width : int
        Of the residual stream, d; 0 where it was not seen.
    """

    refusal: str = ""
    blocks: tuple[str, ...] = ()
    no_blocks: str = ""
    no_stream: str = ""
    beside: bool = False
    heads: tuple[int, ...] = ()
    projections: tuple[str, ...] = ()
    causal: bool | None = None
    vocabulary: bool = False
    positions: int = 0
    width: int = 0


def rehearse(architecture: Architecture, dtype: str = "float32") -> Rehearsal | None:
    """Measure an architecture, each config and class once; None where there is too little memory even for that.

    Some of the library's code runs in float32 alone, so a model that is to run in float64 is measured in that. Narrower
    dtypes are not: what a CPU cannot compute in them, a GPU can.
    """
    key = json.dumps(architecture.raw, sort_keys=True, default=str), architecture.model.__name__
    measured = _rehearsed(_Keyed(architecture, key), torch.float32)
    if dtype != "float64" or measured is None or measured.refusal:
        return measured
    wide = _rehearsed(_Keyed(architecture, key), torch.float64)
    return measured if wide is None or not wide.refusal else Rehearsal(f"{wide.refusal} Choose float32.")


@dataclass(frozen=True, eq=False)
class _Keyed:
    architecture: Architecture
    key: tuple[str, str]

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Keyed) and self.key == other.key


@lru_cache(maxsize=64)
def _rehearsed(keyed: _Keyed, dtype: torch.dtype) -> Rehearsal | None:
    model = keyed.architecture.skeleton()
    if model.main_input_name != "input_ids":
        what = {"pixel_values": "images"}.get(model.main_input_name, "sound or other signals")
        return Rehearsal(refusal=f"{type(model).__name__} does not read text, but {what} ({model.main_input_name}).")
    if not computable(model):
        return None
    give_weights(model, dtype)
    try:
        try:
            measured = _measured(model, OncePerKind)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            # A block that reads more of another one than the residual stream fails where that one is passed over.
            measured = replace(_measured(model, Every), beside=True)
        if measured.blocks and not any(measured.heads):  # some of the library's older models have to be asked
            with suppress(Exception):
                told = _measured(model, Every, output_attentions=True)
                measured = replace(measured, heads=told.heads, projections=told.projections)
        return measured
    except Exception as error:
        if is_out_of_memory(error):
            return None
        in_dtype = str(dtype).removeprefix("torch.")
        what = f"{in_dtype}, {type(error).__name__}: {reason(error)}"
        return Rehearsal(refusal=f"{type(model).__name__} does not run on token ids alone ({what}).")


def computable(model: PreTrainedModel) -> bool:
    """Whether there is memory for a copy of any one matrix of a block; tables are only looked up in."""
    tables = {
        id(weight)
        for part in (model.get_input_embeddings(), model.get_output_embeddings())
        if (weight := getattr(part, "weight", None)) is not None
    }
    matrices = (parameter.shape for parameter in model.parameters() if id(parameter) not in tables)
    largest = max((math.prod(shape[-2:]) for shape in matrices), default=0)
    longest = max((sum(parameter.shape) for parameter in model.parameters()), default=0)
    return 8 * (2 * largest + longest) < available_bytes("cpu")


def give_weights(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Give a model on the meta device real buffers, and weights that take next to no memory.

    A matrix is a random Hankel matrix: every entry with the same i + j is one number in memory.
    """
    for module in model.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.zeros_like(buffer, device="cpu")
    for path in children_first(model):
        if any(buffer is not None for buffer in model.get_submodule(path)._buffers.values()):
            initialise(model, path, 0)
    for module in model.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None and buffer.is_floating_point():
                module._buffers[name] = buffer.to(dtype)
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                weight = _weight(parameter, "bias" in name, generator, dtype)
                module._parameters[name] = nn.Parameter(weight, requires_grad=False)
    model.eval()


def _weight(parameter: Tensor, bias: bool, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    shape = parameter.shape
    if not parameter.is_floating_point():
        return torch.zeros(shape, dtype=parameter.dtype)
    if parameter.ndim < 2:
        return torch.full(shape, 0.0 if bias else 1.0, dtype=dtype)
    drawn = torch.randn(sum(shape) - len(shape) + 1, generator=generator) / max(1, shape[-1]) ** 0.5
    return drawn.to(dtype).as_strided(shape, (1,) * len(shape))


@torch.no_grad()
def _measured(model: PreTrainedModel, watch: type[Every], **asked: bool) -> Rehearsal:
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")
    ids = _text(model)
    name = type(model).__name__

    def run() -> Any:
        return model(input_ids=ids, **uncached(model), **asked)

    with _recording_positions(model, ids) as rooms, _free_head(model):
        try:
            row = block_row(model, run)
        except UserError as error:
            output = run()
            last, no_blocks = getattr(output, "last_hidden_state", None), error.message
            return Rehearsal(no_blocks=no_blocks, no_stream=no_blocks, **_seen(last, output, model, rooms))
        blocks, watched = {block for _, block in row}, watch(name, ids.shape)
        with _forwards(blocks, watched.forward):
            output = run()
        if len(watched.attention) != len(row):
            watched.no_blocks = f"Of the {len(row)} blocks of {name}, {len(watched.attention)} are called for a text."
        alone = True
        if isinstance(watched, OncePerKind) and watched.leaves_more and not watched.no_blocks:
            again = Alone(name, ids.shape, watched.computed)
            try:
                with _forwards(blocks, again.forward):
                    run()
                alone = again.agrees
            except Exception:  # something that it reads is missing
                alone = False
    paths = tuple(path for path, _ in row)
    projections = tuple(
        f"{path}.{seen.projection}" for path, seen in zip(paths, watched.attention, strict=False) if seen.projection
    )
    return Rehearsal(
        blocks=paths,
        no_blocks=watched.no_blocks,
        no_stream=watched.no_blocks or watched.no_stream,
        beside=not alone,
        heads=tuple(seen.heads for seen in watched.attention),
        projections=projections if len(projections) == len(paths) else (),
        **_seen(watched.last, output, model, rooms),
    )


def _seen(last: Any, output: Any, model: PreTrainedModel, rooms: Sequence[int]) -> dict[str, Any]:
    """What else there is to measure, whether there is a row of blocks or not."""
    whole = isinstance(last, Tensor) and last.ndim == 3
    return {
        "causal": not _reaches(last) if whole else None,
        "vocabulary": vocabulary_logits(output, model) is not None,
        "positions": min(rooms, default=0),
        "width": last.shape[-1] if whole else 0,
    }


def _text(model: PreTrainedModel) -> Tensor:
    """Ids (N, T) that are no special tokens, with gaps between them, and another last one in each sequence."""
    config: Any = model.config.get_text_config()
    special = [getattr(config, f"{role}_token_id", None) for role in ("pad", "bos", "eos")]
    words = [word for word in range(0, min(config.vocab_size, 64), 3) if word not in special] or [0]
    ids = torch.tensor([[words[(3 * at * at + 1) % len(words)] for at in range(TOKENS)]] * SEQUENCES)
    ids[-1, -1] = next((word for word in words if word != ids[0, -1]), words[0])
    return ids


def _reaches(hidden: Tensor) -> bool:
    """Whether the last tokens, in which the sequences differ, have changed what stands before them."""
    before = hidden[:, :-1].double()
    return bool((before[1] - before[0]).norm() > REACHES * before[0].norm())


@contextmanager
def _forwards(blocks: set[nn.Module], forward: Callable[..., Any]) -> Iterator[None]:
    """Have each block's forward method called through another function."""

    def through(block: nn.Module, own: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: forward(block, own, args, kwargs)

    try:
        for block in blocks:
            block.forward = through(block, block.forward)
        yield
    finally:
        for block in blocks:
            vars(block).pop("forward", None)


@contextmanager
def _recording_positions(model: nn.Module, ids: Tensor) -> Iterator[list[int]]:
    """How many tokens each table that is read at rising places has rows for, from the first place that is read."""
    rooms: list[int] = []

    def look(table: nn.Module, args: tuple[Any, ...], _: Any) -> None:
        at = args[0].flatten()[: ids.shape[1]] if args and isinstance(args[0], Tensor) else torch.zeros(0)
        if len(at) == ids.shape[1] and bool((at.diff() == 1).all()) and isinstance(table.weight, Tensor):
            rooms.append(len(table.weight) - int(at[0]))

    handles = [part.register_forward_hook(look) for part in model.modules() if isinstance(part, nn.Embedding)]
    try:
        yield rooms
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _free_head(model: PreTrainedModel) -> Iterator[None]:
    """Have the head put out zeros of the right shape: its product with a large vocabulary would take long."""
    head = model.get_output_embeddings()
    if not isinstance(getattr(head, "weight", None), Tensor):
        yield
        return
    rows = len(head.weight)
    head.forward = lambda hidden, *_, **__: hidden.new_zeros(()).expand(*hidden.shape[:-1], rows)
    try:
        yield
    finally:
        vars(head).pop("forward", None)
