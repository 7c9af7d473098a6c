"""The attention matrices of a model, layer by layer as its forward pass makes them, and never all at once."""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from engine.errors import UserError

PROBE = 5  # tokens; unlike any number of heads or layers that a shape could be confused with


@dataclass(frozen=True)
class Attention:
    """What one layer does with a batch.

    Attributes
    ----------
    layer : int
    matrices : Tensor, (N, H, T, T)
        The weights, each row a query.
    values : Tensor, (N, H, T, d_h), or None
        What the weights are applied to, repeated where heads share it; None where the library does not show it.
    window : int or None
        How far back a row reads at most, itself included.
    """

    layer: int
    matrices: Tensor
    values: Tensor | None
    window: int | None


class Attending:
    """The modules of a model that return attention matrices.

    Parameters
    ----------
    module : nn.Module
        The library's model, in evaluation mode with eager attention.
    label : str
        What errors call it.

    Attributes
    ----------
    layers : tuple of int
        Of these there are matrices; hybrid models have other layers beside them.

    Raises
    ------
    UserError
        If no module returns attention matrices.
    """

    def __init__(self, module: nn.Module, label: str) -> None:
        self._model: Any = getattr(module, "base_model", module)
        self._config: Any = self._model.config.get_text_config()
        self._device = next(module.parameters()).device
        self._modules = self._find(label)
        self.layers = tuple(sorted(self._modules))

    @torch.no_grad()
    def run(self, ids: Tensor, lengths: Tensor, take: Callable[[Attention], None]) -> None:
        """One forward pass over ids (N, T), padded on the right; `take` sees each layer's matrices, then they go.

        The padding is masked where that matters: a causal token never sees what comes after it.
        """
        values: list[Tensor] = []

        def hook(layer: int) -> Callable[..., None]:
            def taken(module: nn.Module, inputs: Any, output: Any) -> None:
                matrices = _matrices(output, ids.shape[1])
                if matrices is None:
                    raise UserError(f"Layer {layer} returned no attention matrices for these samples.")
                window = getattr(module, "sliding_window", None)
                seen = values.pop() if values else None
                if seen is not None and seen.shape[1] != matrices.shape[1]:
                    seen = seen.repeat_interleave(matrices.shape[1] // seen.shape[1], 1)
                take(Attention(layer, matrices, seen, window if isinstance(window, int) else None))

            return taken

        handles = [module.register_forward_hook(hook(layer)) for layer, module in self._modules.items()]
        try:
            with self._watched(values):
                self._forward(ids, lengths)
        finally:
            for handle in handles:
                handle.remove()

    def _forward(self, ids: Tensor, lengths: Tensor) -> None:
        real = torch.arange(ids.shape[1]) < lengths[:, None]
        inputs = {"input_ids": ids.where(real, getattr(self._config, "pad_token_id", None) or 0)}
        if not real.all():
            inputs["attention_mask"] = real.long()
        uncached = {"use_cache": False} if hasattr(self._config, "use_cache") else {}
        self._model(**{name: value.to(self._device) for name, value in inputs.items()}, **uncached)

    @contextmanager
    def _watched(self, values: list[Tensor]) -> Iterator[None]:
        """Put the values that eager attention is called with into the list."""
        files = {type(module).__module__ for module in self._modules.values()}
        real = {name: made for name in files if (made := getattr(sys.modules[name], "eager_attention_forward", None))}

        def watching(attend: Callable[..., Any]) -> Callable[..., Any]:
            def forward(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
                values[:] = [value]
                return attend(module, query, key, value, *args, **kwargs)

            return forward

        for name, attend in real.items():
            vars(sys.modules[name])["eager_attention_forward"] = watching(attend)
        try:
            yield
        finally:
            for name, attend in real.items():
                vars(sys.modules[name])["eager_attention_forward"] = attend

    @torch.no_grad()
    def _find(self, label: str) -> dict[int, nn.Module]:
        """The innermost module that returns each layer's matrices, by a short forward pass."""
        found: dict[int, nn.Module] = {}

        def hook(name: str) -> Callable[..., None]:
            def seen(module: nn.Module, inputs: Any, output: Any) -> None:
                # The first number of a module's path is that of its layer; inner modules return before outer ones.
                layer = re.search(r"(?:^|\.)(\d+)(?:\.|$)", name)
                if layer and _matrices(output, PROBE) is not None:
                    found.setdefault(int(layer[1]), module)

            return seen

        handles = [module.register_forward_hook(hook(name)) for name, module in self._model.named_modules()]
        try:
            self._forward(torch.ones(1, PROBE, dtype=torch.long), torch.tensor([PROBE]))
        finally:
            for handle in handles:
                handle.remove()
        if not found:
            raise UserError(
                f"{label} returns no attention matrices: none of its layers gives the library's softmax weights. "
                "Choose a model with softmax attention, or another analysis."
            )
        return found


def _matrices(output: Any, tokens: int) -> Tensor | None:
    """The attention weights (N, H, T, T) among what a module returned."""
    if not isinstance(output, tuple):
        return None
    for part in output[1:]:
        if isinstance(part, Tensor) and part.ndim == 4 and part.shape[2:] == (tokens, tokens):
            return part
    return None
