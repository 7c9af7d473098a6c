"""A model's own blocks, called one at a time with exactly the arguments that the model passes."""

from collections import UserDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only
from transformers import Cache

from engine.errors import UserError
from engine.models.blocks import block_row, entering, leaving, replaced, uncached

# Largest relative difference between blocks called one at a time and the whole model, sized for bfloat16 on a GPU.
SAME = 0.02


@dataclass(frozen=True)
class Call:
    """One block and the arguments that the model calls it with, beside the residual stream."""

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def __call__(self, hidden: Tensor) -> Tensor:
        """The block's output (N, T, d) for hidden (N, T, d)."""
        output: Tensor = leaving(self.module(hidden, *self.args, **self.kwargs))
        return output

    def to(self, dtype: torch.dtype) -> "Call":
        """The same in another dtype, on a copy of the block where it has another one."""

        def cast_all(argument: Any) -> Any:
            if isinstance(argument, UserDict):  # keys and values that layers share
                return type(argument)({name: cast(part, dtype) for name, part in argument.items()})
            return cast(argument, dtype)

        args, kwargs = tuple(map(cast_all, self.args)), {name: cast_all(part) for name, part in self.kwargs.items()}
        # By their size: inside `InFloat64` a tensor does not tell its dtype.
        if all(p.element_size() == dtype.itemsize for p in self.module.parameters()):
            return Call(self.module, args, kwargs)
        module = deepcopy(self.module).to(dtype)
        if dtype == torch.float64:
            sharpen(module)
        return Call(module, args, kwargs)


class Blocks:
    """The blocks of a transformer, found in its module.

    Parameters
    ----------
    module : nn.Module
        As the library makes it, in evaluation mode with eager attention.
    inputs : mapping
        A small input, with which the calls of the blocks are recorded.

    Raises
    ------
    UserError
        If the module has no single row of blocks, or one of them reads more than its arguments say.
    """

    def __init__(self, module: nn.Module, inputs: dict[str, Tensor]) -> None:
        self.model: Any = getattr(module, "base_model", module)
        self.config: Any = self.model.config
        if hasattr(self.model, "set_experts_implementation"):
            self.model.set_experts_implementation("eager")  # the fused one knows no float64
        self._layers = [block for _, block in block_row(self.model)]
        # What each block returns, with Nones in the places beside the residual stream.
        self._returned: list[Any] = []
        # How many of the first blocks have to run before a block that reads what they leave beside the residual stream.
        self._before: dict[int, int] = {}
        self._dtype = self.parameter.dtype
        self._check(inputs)

    def __len__(self) -> int:
        return len(self._layers)

    def __getitem__(self, layer: int) -> nn.Module:
        return self._layers[layer]

    @property
    def parameter(self) -> Tensor:
        """One of the first block's: its dtype and device are those of the residual stream."""
        return next(self._layers[0].parameters())

    def call(self, layer: int, inputs: dict[str, Tensor]) -> tuple[Tensor, Call]:
        """The residual stream that enters block 0, and how block `layer` is called, for these inputs of the model.

        What earlier blocks left for this one beside the residual stream, such as keys and values, is in the call.
        """
        caught: dict[int, tuple[Tensor, Call]] = {}
        turns, before = count(), self._before.get(layer, 0)
        own = [block.forward for block in self._layers]

        def skip(*args: Any, **kwargs: Any) -> Any:
            index = next(turns)
            if args:
                hidden, args = args[0], args[1:]
            else:
                hidden = kwargs.pop("hidden_states")
            if index in (0, layer):
                caught[index] = (
                    hidden.clone() if before else hidden,
                    Call(self._layers[index], without_cache(args), without_cache(kwargs)),
                )
            if index == layer:
                raise _Enough
            if index < before:
                # As the model computes it, also where the call is made in float64.
                with torch._C.DisableTorchFunction():
                    hidden, args, kwargs = cast((hidden, args, kwargs), self._dtype)
                    return own[index](hidden, *args, **kwargs)
            return replaced(self._returned[index], hidden)

        with torch.no_grad(), self._forwards(skip), suppress(_Enough):
            self._run(inputs)
        return caught[0][0], caught[layer][1]

    def _run(self, inputs: dict[str, Tensor]) -> None:
        self.model(**inputs, **uncached(self.model))

    @contextmanager
    def _forwards(self, forward: Callable[..., Any]) -> Iterator[None]:
        """Replace the blocks' own forward methods."""
        try:
            for layer in self._layers:
                layer.forward = forward
            yield
        finally:
            for layer in self._layers:
                vars(layer).pop("forward", None)

    def _check(self, inputs: dict[str, Tensor]) -> None:
        """Compare the blocks called one at a time with the whole model on one input."""
        entered: list[Tensor] = []
        left: list[Tensor] = []

        def keep(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            self._returned.append(replaced(output, None, lambda _: None))
            entered.append(entering(args, kwargs).clone())
            left.append(leaving(output))

        # Layers may share a module, which then needs one hook.
        handles = [layer.register_forward_hook(keep, with_kwargs=True) for layer in set(self._layers)]
        try:
            with torch.no_grad():
                self._run(inputs)
        finally:
            for handle in handles:
                handle.remove()
        if len(entered) != len(self) or any(hidden.ndim != 3 for hidden in entered):
            raise UserError(
                f"The blocks of {type(self.model).__name__} do not pass one residual stream from each to the next, so "
                "Jacobians of blocks have no meaning here. Choose another model."
            )

        def agrees(index: int) -> bool:
            hidden, expected = entered[index], left[index]
            try:
                with torch.no_grad():
                    alone = self.call(index, inputs)[1](hidden)
            except (KeyError, TypeError, AttributeError):  # something it reads is missing
                return False
            return not expected.isfinite().all() or bool((alone - expected).norm() <= SAME * expected.norm())

        for index in range(len(self)):
            tried = [0, *dict.fromkeys(self._before.values()), index]
            for self._before[index] in tried:
                if agrees(index):
                    break
            else:
                raise UserError(
                    f"Block {index} of {type(self.model).__name__} computes something else when it is called alone "
                    "than inside the model, so its Jacobian cannot be taken. Choose another model."
                )


class _Enough(Exception):
    """Ends a forward pass: what comes after the block that is asked for may not be made for float64."""


class InFloat64(TorchFunctionMode):
    """Raise every cast to a narrower float to float64.

    The library computes norms, softmax and rotary angles in float32 even in a model of float64. Inside this mode its
    own code is a reference in float64 throughout, and is told float32 where it looks at a dtype: some of it (GPT-2's
    upcast attention) insists on that.
    """

    CASTS = {torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16}
    _property: Any = torch.Tensor.dtype
    DTYPE = _property.__get__

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in self.CASTS:
            return args[0].double()
        if func == self.DTYPE:
            dtype = func(*args)
            return torch.float32 if dtype is torch.float64 else dtype

        def wide(value: Any) -> Any:
            return torch.float64 if isinstance(value, torch.dtype) and value.is_floating_point else value

        return func(*map(wide, args), **{key: wide(value) for key, value in (kwargs or {}).items()})


def sharpen(module: nn.Module) -> None:
    """Make the tables of sines and cosines that some models keep (GPT-J, CodeGen) again, in float64."""
    for part in module.modules():
        table = getattr(part, "embed_positions", None)
        if not isinstance(table, Tensor) or table.ndim != 2:
            continue
        rows, width = table.shape
        order = torch.arange(0, width, 2, dtype=torch.float64, device=table.device)
        angles = torch.arange(rows, device=table.device)[:, None] * 10000.0 ** (-order / width)
        exact = torch.cat((angles.sin(), angles.cos()), 1)
        if torch.allclose(table.double(), exact, rtol=0, atol=1e-2):
            part.embed_positions = exact


def cast(argument: Any, dtype: torch.dtype) -> Any:
    """Every floating-point tensor of an argument in another dtype."""
    return tree_map_only(Tensor, lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor, argument)


def without_cache(arguments: Any) -> Any:
    """Drop key/value caches: a block called twice would see its own keys again."""
    if isinstance(arguments, dict):
        return {key: None if isinstance(value, Cache) else value for key, value in arguments.items()}
    return tuple(None if isinstance(value, Cache) else value for value in arguments)
