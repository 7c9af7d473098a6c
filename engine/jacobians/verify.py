"""The closed forms against automatic differentiation, on the user's own model and text (methods §6)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from engine.errors import UserError
from engine.jacobians.attention import Context
from engine.jacobians.closed import Component, component_operators
from engine.jacobians.reference import reference_operators
from engine.jacobians.state import ResidualState
from engine.jacobians.stream import ResidualStream
from engine.models.adapters import Block
from engine.models.opening import OpenModel

COMPONENTS: tuple[Component, ...] = ("attn", "mlp", "block", "residual")
# Largest relative difference of the two, by the dtype in which both are computed.
TOLERANCE = {"float64": 1e-9, "float32": 1e-5}


@dataclass(frozen=True)
class Verification:
    """Relative errors ‖J − J_ref‖_F/‖J_ref‖_F of the closed forms.

    Attributes
    ----------
    components : tuple of str
    layers : tuple of int
    errors : Tensor, (component, layer, sample) float64
        NaN for a sample whose residual stream was not finite, infinite where the closed form is not finite.
    context : str
    dtype : str
        In which both sides were computed.
    """

    components: tuple[Component, ...]
    layers: tuple[int, ...]
    errors: Tensor
    context: Context
    dtype: str

    @property
    def tolerance(self) -> float:
        """The largest error at which the closed forms count as verified."""
        return TOLERANCE[self.dtype]

    @property
    def worst(self) -> float:
        """The largest error of all."""
        return float(self.errors.nan_to_num(-torch.inf, posinf=torch.inf).max())

    @property
    def passed(self) -> bool:
        """Whether no error is beyond the tolerance."""
        return self.worst <= self.tolerance


def verify(
    model: OpenModel,
    tokens: Any,
    layers: Sequence[int] | None = None,
    components: Sequence[Component] = COMPONENTS,
    context: Context = "in_context",
    *,
    positions: Sequence[int] | None = None,
    dtype: Literal["float64", "float32"] = "float64",
    progress: Callable[[int], None] | None = None,
) -> Verification:
    """Compare closed forms and ``torch.func.jacrev`` at the same residual streams, sample by sample.

    The weights of the closed form are those of the checkpoint, those of the reference the loaded module's: a model
    opened in a narrower dtype than it is stored in differs by that rounding, and the errors show it.

    Parameters
    ----------
    model : OpenModel
    tokens : array, (N, T) int64
        A few samples, padded with -1: a reference takes as many backward passes as the residual stream has dimensions.
    layers : sequence of int, or None
        All by default.
    components, context
        As in `component_operators`.
    positions : sequence of int, or None
        The chosen token of each sample; the last one by default.
    dtype : str
    progress : callable, or None
        Called with each layer before it is compared.

    Raises
    ------
    UserError
        If the architecture has no closed form, or a layer is none of the model's.
    """
    if (refusal := model.closed_form_refusal()) is not None:
        raise UserError(f"{refusal} Its Jacobians are those of the reference path, so there is nothing to verify.")
    stream = ResidualStream(model.module(), tokens, positions)
    wanted = tuple(range(len(stream.blocks))) if layers is None else tuple(sorted(set(layers)))
    if not wanted or not 0 <= wanted[0] <= wanted[-1] < len(stream.blocks):
        raise UserError(f"The model has layers 0 to {len(stream.blocks) - 1}. Choose some of these.")
    errors = torch.full((len(components), len(wanted), len(stream.tokens)), torch.nan, dtype=torch.float64)
    for column, layer in enumerate(wanted):
        while stream.layer < layer:
            stream.advance()
        if progress is not None:
            progress(layer)
        block = model.block(layer, "all")
        for samples, state in stream.states(getattr(torch, dtype), 1):
            errors[:, column, samples] = errors_at(stream, block, samples, state, components, context)[:, None]
    return Verification(tuple(components), wanted, errors, context, dtype)


def errors_at(
    stream: ResidualStream,
    block: Block,
    samples: Tensor,
    state: ResidualState,
    components: Sequence[Component],
    context: Context,
) -> Tensor:
    """Relative error of each component's closed form at the stream's layer and one sample, (component,) float64."""
    closed = component_operators(block, state, context)
    inputs = stream.inputs(samples)
    reference = reference_operators(stream.blocks, stream.layer, inputs, state, tuple(components), context)
    errors = []
    for component in components:
        expected = reference[component].dense()
        distance = float((closed[component].dense() - expected).norm())
        # 0/0 is agreement; a closed form that is not finite is no sample left out, but a failure.
        error = distance / float(expected.norm().clamp(min=torch.finfo(torch.float64).tiny))
        errors.append(math.inf if math.isnan(error) else error)
    return torch.tensor(errors, dtype=torch.float64)
