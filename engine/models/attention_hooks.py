"""Forward hooks that hand out a model's attention matrices one layer at a time, never all at once."""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from engine.errors import UserError

PROBE = 5  # tokens of the probe; no likely number of heads or layers, so that shapes cannot be confused


@dataclass(frozen=True)
class LayerAttention:
    """The attention of one layer on one batch.

    Attributes
    ----------
    layer : int
    matrices : Tensor, (N, H, T, T)
        Attention weights; rows are queries.
    values : Tensor, (N, H, T, d_h), or None
        Value vectors that the weights average, repeated where heads share them; None where the library hides them.
    window : int or None
        Width of a sliding window: the most tokens that a row reads, itself included.
    """

    layer: int
    matrices: Tensor
    values: Tensor | None
    window: int | None


class AttentionHooks:
    """Finds the modules of a model that return attention matrices, and hooks them for a forward pass.

    Parameters
    ----------
    module : nn.Module
        The library's model, in evaluation mode with eager attention.
    label : str
        Name of the model in error messages.

    Attributes
    ----------
    layers : tuple of int
        Layers with attention matrices; hybrid models have other layers between them.

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
    def run(self, ids: Tensor, lengths: Tensor, take: Callable[[LayerAttention], None]) -> None:
        """Run one forward pass over ids (N, T), padded on the right, and call `take` with each layer in turn.

        Matrices are freed once `take` returns. Padding is masked only where it matters: a causal token never sees what
        follows it.
        """
        values: list[Tensor] = []

        def hook(layer: int) -> Callable[..., None]:
            def forward_hook(module: nn.Module, inputs: Any, output: Any) -> None:
                matrices = _matrices(output, ids.shape[1])
                if matrices is None:
                    raise UserError(f"Layer {layer} returned no attention matrices for these samples.")
                window = getattr(module, "sliding_window", None)
                vectors = values.pop() if values else None
                if vectors is not None and vectors.shape[1] != matrices.shape[1]:
                    vectors = vectors.repeat_interleave(matrices.shape[1] // vectors.shape[1], 1)
                take(LayerAttention(layer, matrices, vectors, window if isinstance(window, int) else None))

            return forward_hook

        handles = [module.register_forward_hook(hook(layer)) for layer, module in self._modules.items()]
        try:
            with self._recording(values):
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
    def _recording(self, values: list[Tensor]) -> Iterator[None]:
        """Put the value vectors of the latest call of eager attention into the list."""
        files = {type(module).__module__ for module in self._modules.values()}
        originals = {
            name: function
            for name in files
            if (function := getattr(sys.modules[name], "eager_attention_forward", None))
        }

        def recorder(attend: Callable[..., Any]) -> Callable[..., Any]:
            def forward(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
                values[:] = [value]
                return attend(module, query, key, value, *args, **kwargs)

            return forward

        for name, attend in originals.items():
            vars(sys.modules[name])["eager_attention_forward"] = recorder(attend)
        try:
            yield
        finally:
            for name, attend in originals.items():
                vars(sys.modules[name])["eager_attention_forward"] = attend

    @torch.no_grad()
    def _find(self, label: str) -> dict[int, nn.Module]:
        """The innermost module that returns each layer's matrices, found with a short forward pass."""
        modules: dict[int, nn.Module] = {}

        def hook(name: str) -> Callable[..., None]:
            def forward_hook(module: nn.Module, inputs: Any, output: Any) -> None:
                # The first number in a module's path is its layer; inner modules return before outer ones.
                layer = re.search(r"(?:^|\.)(\d+)(?:\.|$)", name)
                if layer and _matrices(output, PROBE) is not None:
                    modules.setdefault(int(layer[1]), module)

            return forward_hook

        handles = [module.register_forward_hook(hook(name)) for name, module in self._model.named_modules()]
        try:
            self._forward(torch.ones(1, PROBE, dtype=torch.long), torch.tensor([PROBE]))
        finally:
            for handle in handles:
                handle.remove()
        if not modules:
            raise UserError(
                f"{label} returns no attention matrices: none of its layers gives the library's softmax weights. "
                "Choose a model with softmax attention, or another analysis."
            )
        return modules


def _matrices(output: Any, tokens: int) -> Tensor | None:
    """The attention weights (N, H, T, T) among what a module returned."""
    if not isinstance(output, tuple):
        return None
    for part in output[1:]:
        if isinstance(part, Tensor) and part.ndim == 4 and part.shape[2:] == (tokens, tokens):
            return part
    return None
