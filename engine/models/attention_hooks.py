"""Forward hooks that hand out a model's attention matrices one layer at a time, never all at once."""

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from engine.errors import UserError
from engine.models.blocks import attention_matrices, block_row, leaving, replaced, uncached

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
        self._asked: dict[str, bool] = {}
        self._modules = self._find(label)
        self.layers = tuple(sorted(layer for layers in self._modules.values() for layer in layers))

    @torch.no_grad()
    def run(self, ids: Tensor, lengths: Tensor, take: Callable[[LayerAttention], None]) -> None:
        """Run one forward pass over ids (N, T), padded on the right, and call `take` with each layer in turn.

        Matrices are freed once `take` returns. Padding is masked only where it matters: a causal token never sees what
        follows it.
        """
        values: list[Tensor] = []

        def hook(layers: list[int]) -> Callable[..., Any]:
            calls = count()

            def forward_hook(module: nn.Module, inputs: Any, output: Any) -> Any:
                layer = layers[next(calls)]
                matrices = attention_matrices(output, ids.shape[1])
                if matrices is None:
                    raise UserError(f"Layer {layer} returned no attention matrices for these samples.")
                window = getattr(module, "sliding_window", None)
                vectors = values.pop() if values else None
                if vectors is not None and vectors.shape[1] != matrices.shape[1]:
                    vectors = vectors.repeat_interleave(matrices.shape[1] // vectors.shape[1], 1)
                take(LayerAttention(layer, matrices, vectors, window if isinstance(window, int) else None))
                # A model that was asked for them would keep those of all its layers.
                return replaced(output, leaving(output), _forgotten) if self._asked else None

            return forward_hook

        handles = [module.register_forward_hook(hook(layers)) for module, layers in self._modules.items()]
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
        inputs = {name: value.to(self._device) for name, value in inputs.items()}
        self._model(**inputs, **uncached(self._model), **self._asked)

    @contextmanager
    def _recording(self, values: list[Tensor]) -> Iterator[None]:
        """Put the value vectors of the latest call of eager attention into the list."""
        files = {type(module).__module__ for module in self._modules}
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

    def _find(self, label: str) -> dict[nn.Module, list[int]]:
        """The innermost module that returns each layer's matrices, and the layers that it is called for, in order.

        Some of the library's older models return matrices only where they are asked for them.
        """
        for asked in ({}, {"output_attentions": True}):
            self._asked = asked
            if modules := self._returning():
                return modules
        raise UserError(
            f"{label} returns no attention matrices: none of its layers gives the library's softmax weights. "
            "Choose a model with softmax attention, or another analysis."
        )

    @torch.no_grad()
    def _returning(self) -> dict[nn.Module, list[int]]:
        """The modules that return matrices, found with a short forward pass."""
        modules: dict[nn.Module, list[int]] = defaultdict(list)
        layers = count()
        blocks = {block for _, block in block_row(self._model)}
        inside: list[int] = []

        def enter(_: nn.Module, __: Any) -> None:
            inside[:] = [next(layers)]

        def hook(module: nn.Module, _: Any, output: Any) -> None:
            # Inner modules return before outer ones.
            if inside and attention_matrices(output, PROBE) is not None:
                modules[module].append(inside.pop())

        handles = [block.register_forward_pre_hook(enter) for block in blocks]
        handles += [module.register_forward_hook(hook) for block in blocks for module in block.modules()]
        try:
            self._forward(torch.ones(1, PROBE, dtype=torch.long), torch.tensor([PROBE]))
        finally:
            for handle in handles:
                handle.remove()
        return modules


def _forgotten(part: Any) -> Any:
    """A matrix without its numbers."""
    return part.new_empty(0) if isinstance(part, Tensor) and part.ndim == 4 else part
