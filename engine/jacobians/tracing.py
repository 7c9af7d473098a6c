"""A model's own blocks, called one at a time with exactly the arguments that the model passes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only
from transformers import Cache

from engine.errors import UserError
from engine.models.sites import block_row

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
        return first(self.module(hidden, *self.args, **self.kwargs))

    def to(self, dtype: torch.dtype) -> "Call":
        """The same in another dtype, on a copy of the block where it has another one."""

        def cast(tensor: Tensor) -> Tensor:
            return tensor.to(dtype) if tensor.is_floating_point() else tensor

        args, kwargs = tree_map_only(Tensor, cast, (self.args, self.kwargs))
        if all(p.dtype == dtype for p in self.module.parameters()):
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
        _, self._layers = block_row(self.model)
        # What each block returns besides the residual stream, as Nones; None itself where it returns that alone.
        self._beside: list[tuple[None, ...] | None] = [None] * len(self)
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
        """The residual stream that enters block 0, and how block `layer` is called, for these inputs of the model."""
        caught: dict[int, tuple[Tensor, Call]] = {}

        def skip(index: int) -> Callable[..., Any]:
            def forward(*args: Any, **kwargs: Any) -> Any:
                if args:
                    hidden, args = args[0], args[1:]
                else:
                    hidden = kwargs.pop("hidden_states")
                if index in (0, layer):
                    caught[index] = hidden, Call(self._layers[index], args, without_cache(kwargs))
                beside = self._beside[index]
                return hidden if beside is None else (hidden, *beside)

            return forward

        with torch.no_grad(), self._forwards(skip):
            self._run(inputs)
        return caught[0][0], replace(caught[layer][1], args=without_cache(caught[layer][1].args))

    def _run(self, inputs: dict[str, Tensor]) -> None:
        uncached = {"use_cache": False} if hasattr(self.config.get_text_config(), "use_cache") else {}
        self.model(**inputs, **uncached)

    @contextmanager
    def _forwards(self, replacement: Callable[[int], Callable[..., Any]]) -> Iterator[None]:
        """Replace the blocks' own forward methods."""
        try:
            for index, layer in enumerate(self._layers):
                layer.forward = replacement(index)
            yield
        finally:
            for layer in self._layers:
                vars(layer).pop("forward", None)

    def _check(self, inputs: dict[str, Tensor]) -> None:
        """Compare the blocks called one at a time with the whole model on one input."""
        entered: list[Tensor] = []
        left: list[Tensor] = []

        def keep(index: int) -> Callable[..., None]:
            def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
                entered.append((args[0] if args else kwargs["hidden_states"]).clone())
                left.append(first(output))
                self._beside[index] = (None,) * (len(output) - 1) if isinstance(output, tuple) else None

            return hook

        handles = [
            layer.register_forward_hook(keep(index), with_kwargs=True) for index, layer in enumerate(self._layers)
        ]
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
        for index, (hidden, expected) in enumerate(zip(entered, left, strict=True)):
            try:
                with torch.no_grad():
                    alone = self.call(index, inputs)[1](hidden)
            except (KeyError, TypeError, AttributeError):  # something it reads is missing
                alone = torch.full_like(expected, torch.nan)
            if expected.isfinite().all() and not (alone - expected).norm() <= SAME * expected.norm():
                raise UserError(
                    f"Block {index} of {type(self.model).__name__} reads something that an earlier block left "
                    "beside the residual stream, so its Jacobian would not be whole. Choose another model."
                )


class InFloat64(TorchFunctionMode):
    """Raise every cast to a narrower float to float64.

    The library computes norms, softmax and rotary angles in float32 even in a model of float64. Inside this mode its
    own code is a reference in float64 throughout.
    """

    CASTS = {torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in self.CASTS:
            return args[0].double()

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


def first(output: Any) -> Tensor:
    """The residual stream in what a block returns."""
    return output[0] if isinstance(output, tuple) else output


def without_cache(arguments: Any) -> Any:
    """Drop key/value caches: a block called twice would see its own keys again."""
    if isinstance(arguments, dict):
        return {key: None if isinstance(value, Cache) else value for key, value in arguments.items()}
    return tuple(None if isinstance(value, Cache) else value for value in arguments)
