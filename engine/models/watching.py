"""What a forward pass shows of a model's blocks while their forward methods are stood in for."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from engine.models.blocks import attention_matrices, entering, leaving, replaced


class AttentionSeen:
    """What the modules of one block show of its attention while it runs, told in the order of their calls.

    Attributes
    ----------
    heads : int
        Attention matrices; 0 where there are none.
    projection : str
        Path of the linear that makes the attention's output: the last inside the module that returns the matrices, or
        the first that reads what this returned. Empty where neither is so.
    """

    def __init__(self) -> None:
        self.heads, self.projection = 0, ""
        self._made: tuple[str, Any] = "", None
        self._mixed: Any = None

    def call(self, path: str, part: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Take in one call of a module."""
        if isinstance(part, nn.Linear | Conv1D):
            if self._mixed is None:
                self._made = path, output
            elif not self.projection and args and _same(args[0], self._mixed):
                self.projection = path

    def matrices(self, matrices: Tensor, output: Any) -> None:
        """Take in the attention matrices that a module returned; those of inner modules come first."""
        if not self.heads:
            self.heads, self._mixed = matrices.shape[1], leaving(output)
            path, made = self._made
            self.projection = path if _same(made, self._mixed) else ""


def _same(one: Any, other: Any) -> bool:
    tensors = isinstance(one, Tensor) and isinstance(other, Tensor) and one.numel() == other.numel()
    return tensors and torch.equal(one.flatten(), other.flatten())


class Every:
    """Watches every block of a forward pass.

    Attributes
    ----------
    attention : list of AttentionSeen
        What each block has shown of its attention.
    last : Tensor or None
        What left the last block, (N, T, d).
    no_blocks, no_stream : str
        Why the outputs of these modules are not those of blocks, or not one residual stream.
    """

    def __init__(self, name: str, shape: torch.Size) -> None:
        self.attention: list[AttentionSeen] = []
        self.last: Tensor | None = None
        self.no_blocks = self.no_stream = ""
        self._name, self._shape = name, shape

    def forward(self, block: nn.Module, own: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Stand in for a block's forward method."""
        hidden = entering(args, kwargs)
        if self.last is not None and not _same(hidden, self.last):
            self.no_blocks = (
                f"What stands in a row in {self._name} is not a row of blocks that pass one residual stream from each "
                "to the next."
            )
        output = self._output(block, own, args, kwargs, hidden)
        left = leaving(output)
        for stream in (hidden, left):
            if isinstance(stream, Tensor) and stream.ndim == 4 and stream.shape[1:3] == self._shape:
                self.no_stream = (
                    f"The blocks of {self._name} carry {len(stream)} versions of the residual stream and mix them."
                )
            elif not isinstance(stream, Tensor) or stream.ndim != 3 or stream.shape[:2] != self._shape:
                self.no_blocks = f"The blocks of {self._name} do not pass on one vector for each token of a text."
        self.last = left.clone() if isinstance(left, Tensor) else None
        return output

    def _output(self, block: nn.Module, own: Callable[..., Any], args: Any, kwargs: Any, hidden: Any) -> Any:
        seen = AttentionSeen()

        def look(path: str) -> Callable[..., None]:
            def hook(part: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
                seen.call(path, part, inputs, output)
                if (matrices := attention_matrices(output, self._shape[1])) is not None:
                    seen.matrices(matrices, output)

            return hook

        handles = [part.register_forward_hook(look(path)) for path, part in block.named_modules() if path]
        try:
            output = own(*args, **kwargs)
        finally:
            for handle in handles:
                handle.remove()
        if (matrices := attention_matrices(output, self._shape[1])) is not None:
            seen.matrices(matrices, output)
        self.attention.append(seen)
        return output


class OncePerKind(Every):
    """Computes the first block of each kind only: others of the same parts and shapes pass on what they get."""

    def __init__(self, name: str, shape: torch.Size) -> None:
        super().__init__(name, shape)
        self._returned: dict[Any, tuple[Any, AttentionSeen]] = {}
        self.computed: dict[int, tuple[Tensor, Tensor]] = {}
        self.leaves_more = False

    def _output(self, block: nn.Module, own: Callable[..., Any], args: Any, kwargs: Any, hidden: Any) -> Any:
        kind = (
            type(block),
            tuple((path, type(part)) for path, part in block.named_modules()),
            tuple((name, parameter.shape) for name, parameter in block.named_parameters()),
        )
        if kind in self._returned:
            output, seen = self._returned[kind]
            self.attention.append(seen)
            return replaced(output, hidden)
        entered = hidden.clone()
        output = super()._output(block, own, args, kwargs, hidden)
        self._returned[kind] = output, self.attention[-1]
        self.computed[len(self.attention) - 1] = entered, leaving(output).clone()
        self.leaves_more |= any(part is not None for part in output[1:]) if isinstance(output, tuple | list) else False
        return output


class Alone(Every):
    """Computes some blocks once more, after others that leave nothing beside the residual stream."""

    def __init__(self, name: str, shape: torch.Size, computed: Mapping[int, tuple[Tensor, Tensor]]) -> None:
        super().__init__(name, shape)
        self._computed = computed
        self.agrees = True

    def _output(self, block: nn.Module, own: Callable[..., Any], args: Any, kwargs: Any, hidden: Any) -> Any:
        output: Any = hidden
        if (known := self._computed.get(len(self.attention))) is not None:
            entered, expected = known
            args, kwargs = (
                ((entered, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": entered.clone()})
            )
            output = own(*args, **kwargs)
            self.agrees &= torch.allclose(leaving(output), expected, rtol=1e-4, atol=1e-5)
            self._template = output
        self.attention.append(AttentionSeen())
        return replaced(self._template, hidden, lambda _: None)
