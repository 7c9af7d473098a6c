"""The residual stream of many samples, block by block: one forward pass in all, in bounded memory."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from engine.errors import UserError
from engine.jacobians.state import ResidualState
from engine.jacobians.tracing import Blocks
from engine.models.memory import halve_on_oom

# Tokens passed through a block at a time; halved where the device runs out of memory.
BATCH_TOKENS = 2**13


@dataclass(frozen=True)
class _Batch:
    """Samples of like length: their numbers (n,), and their residual stream (n, T, d), kept on the CPU."""

    samples: Tensor
    hidden: Tensor

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, part: slice) -> "_Batch":
        return _Batch(self.samples[part], self.hidden[part])


class ResidualStream:
    """The hidden states of all samples at the entrance of block `layer`, which is 0 at first.

    Parameters
    ----------
    module : nn.Module
        The library's whole model, in evaluation mode with eager attention, on any device.
    tokens : Tensor or array, (N, T) int64
        Padded on the right with -1.
    positions : sequence of int, or None
        The chosen token of each sample; the last one by default.
    batch_tokens : int
        How many tokens pass through a block at a time.

    Attributes
    ----------
    layer : int
        After the last block's number, the stream is that which leaves the last block.
    blocks : Blocks
    lost : dict of int
        Samples whose residual stream was not finite, and the layer at whose entrance it was first so. They are left
        out from there on.

    Raises
    ------
    UserError
        If a sample does not reach its chosen token, the module has no row of blocks, or no sample is left.
    """

    def __init__(
        self,
        module: nn.Module,
        tokens: Any,
        positions: Sequence[int] | None = None,
        batch_tokens: int = BATCH_TOKENS,
    ) -> None:
        self.tokens = torch.as_tensor(tokens).long()
        self.lengths = (self.tokens >= 0).sum(1)
        self.positions = self.lengths - 1 if positions is None else torch.as_tensor(positions).long()
        short = (self.positions < 0) | (self.positions >= self.lengths)
        if len(self.tokens) == 0 or short.any():
            which = f"Sample {int(short.nonzero()[0])} of the text" if len(self.tokens) else "The text"
            raise UserError(f"{which} does not reach the chosen token. Choose longer samples, or another position.")
        self.layer = 0
        self.lost: dict[int, int] = {}
        self._device = next(module.parameters()).device
        config: Any = module.config
        self._pad: int = getattr(config.get_text_config(), "pad_token_id", None) or 0
        self.blocks = Blocks(module, self.inputs(self.lengths.argmin()[None]))
        order = self.lengths.argsort(descending=True, stable=True)
        sizes: list[int] = []
        while sum(sizes) < len(order):
            # No sample is padded to more than twice its length.
            left = self.lengths[order[sum(sizes) :]]
            alike = int((2 * left >= left[0]).sum())
            sizes.append(min(alike, max(1, batch_tokens // int(left[0]))))
        empty = torch.empty(len(order), 0)
        waiting = [_Batch(samples, empty[samples]) for samples in order.split(sizes)]
        self._batches = self._map(lambda batch: self.blocks.call(0, self.inputs(batch.samples))[0], waiting, 0)

    @property
    def samples(self) -> Tensor:
        """Numbers of the remaining samples, (n,), sorted."""
        return torch.cat([batch.samples for batch in self._batches]).sort().values

    def inputs(self, samples: Tensor) -> dict[str, Tensor]:
        """What the library's model is called with for these samples, no longer than the longest of them."""
        ids = self.tokens[samples, : int(self.lengths[samples].max())].to(self._device)
        real = ids >= 0
        return {"input_ids": ids.where(real, self._pad), "attention_mask": real.long()}

    def states(self, dtype: torch.dtype, size: int | None = None) -> Iterator[tuple[Tensor, ResidualState]]:
        """The samples at the current layer, at most `size` at a time: their numbers, and the state in `dtype`."""
        for batch in self._batches:
            step = size or len(batch.samples)
            for samples, hidden in zip(batch.samples.split(step), batch.hidden.split(step), strict=True):
                longest = int(self.lengths[samples].max())
                state = ResidualState(hidden[:, :longest], self.lengths[samples], self.positions[samples])
                yield samples, state.to(dtype, self._device)

    def advance(self) -> None:
        """Pass all samples through the current block.

        Raises
        ------
        UserError
            If no sample is left whose residual stream is finite.
        """

        def forward(batch: _Batch) -> Tensor:
            inputs = self.inputs(batch.samples)
            longest = inputs["input_ids"].shape[1]
            return self.blocks.call(self.layer, inputs)[1](batch.hidden[:, :longest].to(self._device))

        self._batches = self._map(forward, self._batches, self.layer + 1)
        self.layer += 1

    @torch.no_grad()
    def _map(self, forward: Callable[[_Batch], Tensor], batches: list[_Batch], layer: int) -> list[_Batch]:
        """The hidden states at the entrance of `layer`, batches halved where memory runs out."""

        def alone(batch: _Batch) -> str:
            return f"One sample of {int(self.lengths[batch.samples].max())} tokens does"

        parts = (part for batch in batches for part in halve_on_oom(lambda piece: forward(piece).cpu(), batch, alone))
        done = [self._finite(batch.samples, hidden, layer) for batch, hidden in parts]
        kept = [batch for batch in done if len(batch.samples)]
        if not kept:
            raise UserError(
                "The model's activations are not finite for any sample, so there is nothing to take Jacobians at. "
                "Choose float32, or another checkpoint."
            )
        return kept

    def _finite(self, samples: Tensor, hidden: Tensor, layer: int) -> _Batch:
        """Leave out the samples that are not finite at one of their own tokens."""
        padding = torch.arange(hidden.shape[1]) >= self.lengths[samples, None]
        fine = (hidden.isfinite().all(2) | padding).all(1)
        self.lost |= {int(sample): layer for sample in samples[~fine]}
        return _Batch(samples[fine], hidden[fine].masked_fill(padding[fine][..., None], 0))
