"""Per-sequence gradients of all chosen weights from one batched backward pass (methods eq. 4.2).

For y = W a at every token, ∂L_x/∂W = Σ_t δ_{x,t} ⊗ a_{x,t} with the captured inputs a and the gradients δ at the
outputs. Parameters need no gradients of their own: the graph begins at the first chosen module.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from engine.errors import UserError
from engine.gradients.weights import Kind, Weight
from engine.models.losses import Batch, logits_of, sequence_losses

Seen = dict[str, list[tuple[Tensor, Tensor]]]


@dataclass(frozen=True)
class WeightGradients:
    """Per-sequence gradients of one weight over a batch, kept as factors; each is formed on demand."""

    weight: Weight
    parts: tuple[tuple[Kind, Tensor, Tensor, int | None], ...]  # kind, inputs (B, T, …), δ (B, T, out), padding id

    def of(self, sequence: int) -> Tensor:
        """G_x in the shape of the parameter, in float64 for a float64 model, else float32."""
        return torch.stack([self._part(*part, sequence) for part in self.parts]).sum(0)

    def _part(self, kind: Kind, inputs: Tensor, deltas: Tensor, padding: int | None, sequence: int) -> Tensor:
        wide = torch.float64 if deltas.dtype == torch.float64 else torch.float32
        given, delta = inputs[sequence], deltas[sequence].to(wide)
        if kind == "embedding":
            # A linear layer with one-hot inputs.
            rows = delta.new_zeros(self.weight.shape).index_add_(0, given, delta)
            if padding is not None:
                rows[padding] = 0
            return rows
        given = given.to(wide)
        return given.mT @ delta if kind == "conv1d" else delta.mT @ given


def per_sample(module: nn.Module, weights: Sequence[Weight], batch: Batch) -> tuple[Tensor, list[WeightGradients]]:
    """One forward and one backward pass over all sequences of `batch`.

    Returns
    -------
    Tensor (B,)
        Mean token loss of each sequence; where it is not finite, its gradients are meaningless.
    list of WeightGradients
        One for each of `weights`.

    Raises
    ------
    UserError
        If the model has no loss, or it does not depend on a chosen weight.
    """
    paths = list(dict.fromkeys(use.path for weight in weights for use in weight.uses))
    with _frozen(module), torch.enable_grad(), _watching(module, paths, len(batch.targets)) as seen:
        losses = sequence_losses(logits_of(module(**batch.inputs), module), batch.targets)
        fine = losses.isfinite()
        outputs = [(path, output) for path in paths for _, output in seen[path]]
        if fine.any() and outputs:
            total = losses.where(fine, 0.0).sum()
            deltas = list(torch.autograd.grad(total, [output for _, output in outputs], allow_unused=True))
        else:
            deltas = [torch.zeros_like(output) for _, output in outputs]
    at: dict[str, list[Tensor | None]] = defaultdict(list)
    for (path, _), delta in zip(outputs, deltas, strict=True):
        at[path].append(delta)
    return losses.detach(), [_gradients(module, weight, seen, at, len(batch.targets)) for weight in weights]


def _gradients(
    module: nn.Module, weight: Weight, seen: Seen, deltas: dict[str, list[Tensor | None]], n: int
) -> WeightGradients:
    parts = []
    for use in weight.uses:
        padding = getattr(module.get_submodule(use.path), "padding_idx", None)
        for (inputs, _), delta in zip(seen[use.path], deltas[use.path], strict=True):
            if delta is not None:
                # Some modules get a flattened batch; position embeddings get one row for all sequences.
                width = () if use.kind == "embedding" else inputs.shape[-1:]
                parts.append((use.kind, inputs.reshape(n, -1, *width), delta.reshape(n, -1, delta.shape[-1]), padding))
    if not parts:
        raise UserError(
            f"The loss does not depend on “{weight.name}” by way of its own module, so it has no gradients here. "
            "Choose another weight."
        )
    return WeightGradients(weight, tuple(parts))


@contextmanager
def _watching(module: nn.Module, paths: Sequence[str], n: int) -> Iterator[Seen]:
    """Record copies of inputs and outputs of the modules at `paths`: models change tensors in place."""
    seen: Seen = defaultdict(list)

    def tap(path: str) -> Callable[..., Tensor]:
        def after(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
            given: Tensor = args[0] if args else next(iter(kwargs.values()))
            if output.shape[0] == 1 < n:
                given, output = (t.expand(n, *t.shape[1:]) for t in (given, output))
            if not output.requires_grad:
                output = output.detach().requires_grad_()
            seen[path].append((given.detach().clone(), output))
            return output.clone()

        return after

    with ExitStack() as stack:
        for path in paths:
            handle = module.get_submodule(path).register_forward_hook(tap(path), with_kwargs=True)
            stack.callback(handle.remove)
        yield seen


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """Freeze all parameters, and restore those that were trainable."""
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    module.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)
