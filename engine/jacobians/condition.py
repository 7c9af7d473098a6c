"""κ of every sample: infinite by proof, resolved in float32 or float64, or a lower bound (methods §6)."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from engine.jacobians.attention import Context
from engine.jacobians.closed import Component
from engine.jacobians.spectra import condition_numbers, resolved, top_singular_values
from engine.jacobians.structure import singular_by_structure

if TYPE_CHECKING:
    from engine.jacobians.operators import Operator
    from engine.jacobians.state import ResidualState
    from engine.models.adapters import Block

Operators = Callable[[Tensor, "ResidualState"], "Mapping[Component, Operator]"]


class ConditionNumbers:
    """Settles the κ of one layer's samples.

    Parameters
    ----------
    block : Block or None
        What is known of the block's structure; None where only the reference path knows it.
    context : {"in_context", "isolated"}
    operators : callable
        Jacobians of every component for the samples with these numbers, in the dtype of the state.
    at_once : int
        Samples whose Jacobians are formed in float64 at a time.

    Attributes
    ----------
    reasons : dict
        Why a component's Jacobians are singular, for those that are by proof.
    """

    def __init__(self, block: "Block | None", context: Context, operators: Operators, at_once: int) -> None:
        self._block, self._context, self._operators, self._at_once = block, context, operators, at_once
        self.reasons: dict[Component, set[str]] = {}

    def singular(self, name: Component, state: "ResidualState") -> Tensor:
        """Which samples' Jacobians are singular by proof, (n,) bool."""
        if self._block is None or self._block.attention is None:
            return torch.zeros(len(state), dtype=torch.bool)
        rule = self._block.attention
        seen = (state.positions + 1 if rule.causal else state.lengths).cpu()
        if rule.window is not None:
            seen = seen.clamp(max=rule.window)
        proofs = {count: singular_by_structure(self._block, self._context, count) for count in set(seen.tolist())}
        self.reasons.setdefault(name, set()).update(proof[name] for proof in proofs.values() if name in proof)
        return torch.tensor([name in proofs[count] for count in seen.tolist()])

    def settle(
        self, name: Component, kappa: Tensor, singular: Tensor, samples: Tensor, state: "ResidualState"
    ) -> dict[str, Tensor]:
        """κ (n,), and 1 where it is a lower bound only; `kappa` is inf where float32 does not tell it."""
        kappa = kappa.cpu().masked_fill(singular, torch.inf)
        left = (kappa.isinf() & ~singular).nonzero().flatten()
        for at in left.split(self._at_once) if len(left) else ():
            operator = self._operators(samples[at], state[at].to(torch.float64))[name]
            again = condition_numbers(operator, top_singular_values(operator)[:, 0]).cpu()
            kappa[at] = again
            # Neither precision tells: J may be singular or not, and κ is at least what float64 resolves.
            kappa[at[again.isinf()]] = -resolved(operator)
        return {"kappa": kappa.abs(), "kappa_at_least": (kappa < 0).double()}
