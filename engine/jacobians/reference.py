"""Jacobians by automatic differentiation of the model's own blocks: slow, and for any architecture (methods §6)."""

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from engine.errors import UserError
from engine.jacobians.attention import Context
from engine.jacobians.closed import Component
from engine.jacobians.operators import Dense
from engine.jacobians.state import ResidualState
from engine.jacobians.tracing import Blocks, Call, InFloat64
from engine.models.blocks import leaving, replaced
from engine.models.memory import is_out_of_memory

# Rows of a Jacobian differentiated at a time: each keeps the gradients of a whole block.
ROWS = 64
# Largest relative difference between a sublayer's output and what the block adds, in float64.
EXACT = 1e-9


@dataclass(frozen=True)
class Sublayers:
    """Paths of the modules of a block where its sublayers end: their outputs are added to the residual stream.

    Attributes
    ----------
    attn, mlp : str
        A norm that follows a sublayer belongs to it.
    joined : str or None
        The norm after the first addition, if there is one; the MLP reads its output.
    parallel : bool
        Whether the MLP reads what attention reads.
    scale : float
        What both outputs are multiplied by before they are added (Granite).
    """

    attn: str
    mlp: str
    joined: str | None = None
    parallel: bool = False
    scale: float = 1.0


def reference_operators(
    blocks: Blocks,
    layer: int,
    inputs: Mapping[str, Tensor],
    state: ResidualState,
    components: Collection[Component],
    context: Context,
) -> dict[Component, Dense]:
    """Jacobians by ``torch.func.jacrev`` of the module's own block, the other tokens held fixed.

    Parameters
    ----------
    blocks : Blocks
    layer : int
    inputs : mapping
        What the model is called with for the samples of `state`, as `ResidualStream.inputs` gives it.
    state : ResidualState
        In float64, the library's float32 steps are done in float64 too.
    components, context
        As in `component_operators`.

    Raises
    ------
    UserError
        If ``attn`` or ``mlp`` is asked for, and the block is no residual stream to which two sublayers add.
    """
    apart = not {"attn", "mlp"}.isdisjoint(components)
    sublayers = sublayers_at(blocks, layer, inputs, state) if apart else None
    wanted: list[Component] = [component for component in components if component != "residual"]
    if "residual" in components and "block" not in wanted:
        wanted.append("block")
    jacobians: dict[Component, list[Tensor]] = {component: [] for component in wanted}
    dtype = state.hidden.dtype
    wide: AbstractContextManager[Any] = InFloat64() if dtype == torch.float64 else nullcontext()
    with torch.no_grad(), wide:
        for sample in range(len(state)):
            length, position = int(state.lengths[sample]), int(state.positions[sample])
            part = slice(position, position + 1) if context == "isolated" else slice(length)
            hidden, position = state.hidden[sample, part], 0 if context == "isolated" else position
            call = blocks.call(layer, _inputs_of(inputs, sample, part))[1].to(dtype)
            for component, matrices in jacobians.items():
                matrices.append(_jacobian(call, hidden, position, component, sublayers))
    stacked = {component: torch.stack(matrices) for component, matrices in jacobians.items()}
    if "residual" in components:
        stacked["residual"] = stacked["block"] - torch.eye(state.hidden.shape[-1]).to(stacked["block"])
    return {component: Dense(stacked[component]) for component in components}


def sublayers_at(blocks: Blocks, layer: int, inputs: Mapping[str, Tensor], state: ResidualState) -> Sublayers:
    """Find where attention and MLP of a block end, by the first sample of `state`.

    Raises
    ------
    UserError
        If no two modules add up to what the block does.
    """
    length = int(state.lengths[0])
    with torch.no_grad(), InFloat64():
        call = blocks.call(layer, _inputs_of(inputs, 0, slice(length)))[1].to(torch.float64)
        return find_sublayers(call, state.hidden[0, :length].double())


def find_sublayers(call: Call, hidden: Tensor) -> Sublayers:
    """Find where attention and MLP end from the outputs of the block's modules for one sample (T, d) in float64.

    Raises
    ------
    UserError
        If no two of them add up to what the block does.
    """
    seen: list[tuple[str, Tensor | None, Tensor]] = []

    def keep(path: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            read = next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)
            written = leaving(output)
            if isinstance(written, Tensor) and written.numel() == hidden.numel():
                shaped = None if read is None or read.numel() != hidden.numel() else read.reshape(hidden.shape).clone()
                # Copied, as some blocks go on to add to them in place.
                seen.append((path, shaped, written.reshape(hidden.shape).clone()))

        return hook

    whole = _hooked(call, hidden, {path: keep(path) for path, _ in call.module.named_modules() if path})

    def close(a: Tensor | None, b: Tensor) -> bool:
        return a is not None and bool((a - b).norm() <= EXACT * b.norm())

    def proportional(total: Tensor) -> bool:
        """Whether the block returns this; some architectures multiply the whole by a number."""
        return close((whole * total).sum() / total.square().sum() * total, whole)

    # A third addition after the MLP, as of an input that each token gives to a layer (Gemma 4), is no sublayer.
    outer = {path for path, _ in call.module.named_children()}
    for i, (attn, _, added) in enumerate(seen):
        stream = hidden + added
        for mlp, _, more in seen[i + 1 :]:
            rest = [third for path, _, third in seen[i + 1 :] if {attn, mlp, path} <= outer and path != mlp]
            if any(proportional(stream + more + third) for third in (torch.zeros_like(more), *rest)):
                alone = _output(call, hidden, mlp, {attn: torch.zeros_like})
                return Sublayers(attn, mlp, parallel=close(alone, more))
            change, sum_ = whole - hidden, added + more
            # Others multiply what both sublayers add; a module and its last part add the same, which is half of it.
            scale = float((change * sum_).sum() / sum_.square().sum())
            if not f"{mlp}.".startswith(f"{attn}.") and not attn.startswith(f"{mlp}.") and close(scale * sum_, change):
                alone = _output(call, hidden, mlp, {attn: torch.zeros_like})
                return Sublayers(attn, mlp, parallel=close(alone, more), scale=scale)
        for joined, read, normed in seen[i + 1 :]:
            for mlp, _, more in seen[i + 1 :] if close(read, stream) else ():
                if any(close(summed, normed + more) and close(written, whole) for _, summed, written in seen):
                    return Sublayers(attn, mlp, joined)
    raise UserError(
        f"In {type(call.module).__name__}, attention and MLP cannot be told apart by what they add to the residual "
        "stream. Choose the components block and residual."
    )


def _jacobian(call: Call, hidden: Tensor, position: int, component: Component, sublayers: Sublayers | None) -> Tensor:
    """(d, d) for one sample's hidden (T, d), of a component other than ``residual``."""

    def tokens(x: Tensor) -> Tensor:
        return torch.cat((hidden[:position], x[None], hidden[position + 1 :]))

    def block(x: Tensor) -> Tensor:
        return call(tokens(x)[None])[0, position]

    if component == "block":
        return _jacrev(block, hidden[position])
    assert sublayers is not None
    attn_path, mlp_path, joined, scale = sublayers.attn, sublayers.mlp, sublayers.joined, sublayers.scale

    def attn(x: Tensor) -> Tensor:
        return scale * _output(call, tokens(x), attn_path, {})[position]

    def mlp(z: Tensor) -> Tensor:
        # The MLP reads z if the norm before it returns z, or if attention adds nothing to z.
        given = tokens(z)
        change = {attn_path: torch.zeros_like} if joined is None else {joined: lambda old: given.view_as(old)}
        return scale * _output(call, given, mlp_path, change)[position]

    if component == "attn":
        return _jacrev(attn, hidden[position])
    if joined is not None:
        stream = _output(call, hidden, joined, {})
    else:
        stream = hidden if sublayers.parallel else hidden + scale * _output(call, hidden, attn_path, {})
    return _jacrev(mlp, stream[position])


def _jacrev(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """J of a function at x, row by row where the library's code is not made for ``torch.func`` (BLOOM's own GELU)."""
    try:
        return torch.func.jacrev(function, chunk_size=ROWS)(x)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        with torch.enable_grad():
            jacobian: Tensor = torch.autograd.functional.jacobian(function, x)
        return jacobian


def _output(call: Call, hidden: Tensor, path: str, changes: Mapping[str, Callable[[Tensor], Tensor]]) -> Tensor:
    """Output of the module at `path`, (T, d), when the outputs of others are changed."""
    kept: list[Tensor] = []

    def changed(change: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
        def hook(_: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
            return replaced(output, change(leaving(output)))

        return hook

    def keep(_: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        kept.append(leaving(output).clone())

    _hooked(call, hidden, {path: keep} | {other: changed(change) for other, change in changes.items()})
    return kept[0].reshape(hidden.shape)


def _hooked(call: Call, hidden: Tensor, hooks: Mapping[str, Callable[..., Any]]) -> Tensor:
    """The block's output (T, d) with hooks on its modules by path."""
    handles = [
        call.module.get_submodule(path).register_forward_hook(hook, with_kwargs=True) for path, hook in hooks.items()
    ]
    try:
        return call(hidden[None])[0]
    finally:
        for handle in handles:
            handle.remove()


def _inputs_of(inputs: Mapping[str, Tensor], sample: int, tokens: slice) -> dict[str, Tensor]:
    """The model's inputs for some tokens of one sample; what is not a row of tokens (an image) stays whole."""
    return {
        key: value[sample : sample + 1, tokens] if value.ndim == 2 else value[sample : sample + 1]
        for key, value in inputs.items()
    }
