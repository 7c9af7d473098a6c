"""Where a Jacobian is taken: the residual stream that entered a block, and the token chosen in each sample."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ResidualState:
    """N samples at the entrance of one block, padded on the right.

    Attributes
    ----------
    hidden : Tensor, (N, T, d)
        The residual stream of every token; its dtype and device are those of the Jacobians.
    lengths : Tensor, (N,) int64
        Tokens of each sample.
    positions : Tensor, (N,) int64
        The chosen token of each sample.
    """

    hidden: Tensor
    lengths: Tensor
    positions: Tensor

    @property
    def chosen(self) -> Tensor:
        """x: the chosen tokens' residual stream, (N, d)."""
        return self.hidden[torch.arange(len(self.hidden), device=self.hidden.device), self.positions]

    def __len__(self) -> int:
        return len(self.hidden)

    def __getitem__(self, samples: slice | Tensor) -> "ResidualState":
        return ResidualState(self.hidden[samples], self.lengths[samples], self.positions[samples])

    def to(self, dtype: torch.dtype, device: torch.device | str | None = None) -> "ResidualState":
        """The same in another dtype, and on another device if one is named."""
        device = device or self.hidden.device
        return ResidualState(self.hidden.to(device, dtype), self.lengths.to(device), self.positions.to(device))
