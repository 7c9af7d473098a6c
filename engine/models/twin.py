"""Random-init twins: a model's own initialiser, seeded for each module, so that any tensor can be made alone.

The library initialises children before parents, and a parent may overwrite a child's tensors (GPT-2 scales the output
projections in their parents). Each module draws from its own stream, named by the seed and the module's path; a tensor
therefore does not depend on which others were made, and the streamed blocks are those of the whole module.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, initialization

# The library's initialisers that take nothing from a stream.
FILLS = ("constant_", "ones_", "zeros_", "eye_", "dirac_")


def fresh_tensor(skeleton: PreTrainedModel, name: str, seed: int) -> Tensor:
    """Initialise one tensor of a model that lies on the meta device; the skeleton is left as it was.

    Only the module that owns the tensor is given memory, and its initialiser and its ancestors' are run. A tied
    parameter is the one that it shares.

    Returns
    -------
    Tensor
        float32, on the CPU.
    """
    name = skeleton.all_tied_weights_keys.get(name, name)
    path = name.rpartition(".")[0]
    owner = skeleton.get_submodule(path)
    kept, buffers = dict(owner._parameters), dict(owner._buffers)
    try:
        for key, value in kept.items():
            if value is not None:
                owner._parameters[key] = nn.Parameter(torch.empty_like(value, device="cpu"), requires_grad=False)
        for key, buffer in buffers.items():
            owner._buffers[key] = None if buffer is None else torch.empty_like(buffer, device="cpu")
        parts = path.split(".") if path else []
        for depth in range(len(parts), -1, -1):
            initialise(skeleton, ".".join(parts[:depth]), seed)
        return owner.state_dict()[name.rpartition(".")[2]]
    finally:
        owner._parameters.update(kept)
        owner._buffers.update(buffers)


def fresh_module(skeleton: PreTrainedModel, seed: int) -> PreTrainedModel:
    """Give a model on the meta device memory on the CPU and initialise the whole of it, in place."""
    skeleton.to_empty(device="cpu")
    for path in children_first(skeleton):
        initialise(skeleton, path, seed)
    skeleton.tie_weights()
    return skeleton.eval()


def initialise(model: PreTrainedModel, path: str, seed: int) -> None:
    """Run the library's initialiser on the module at `path` (not on its children), from the module's own stream."""
    module = model.get_submodule(path)
    parts = path.split(".") if path else []
    ancestors = [model.get_submodule(".".join(parts[:depth])) for depth in range(len(parts) + 1)]
    # In a composite model each part brings its own initialiser.
    owner = next(ancestor for ancestor in reversed(ancestors) if isinstance(ancestor, PreTrainedModel))
    stream = blake2b(f"{seed}:{path}".encode(), digest_size=8).digest()
    for whole in (False, True):
        with torch.random.fork_rng(devices=[]), torch.no_grad(), _watched(whole) as late:
            torch.manual_seed(int.from_bytes(stream, "little") >> 1)
            owner._init_weights(module)
        if not late:
            break


@contextmanager
def _watched(whole: bool) -> Iterator[list[Tensor]]:
    """Watch an initialiser draw tensors; those on the meta device take nothing from the stream, unless `whole`.

    Yields the tensors in memory that were drawn after one that took nothing: in the whole module they would be others
    (ModernBERT draws several of its children's tensors in one module).
    """
    late: list[Tensor] = []
    missed: list[Tensor] = []
    originals: dict[str, Any] = dict(initialization.TORCH_INIT_FUNCTIONS)

    def through(draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def drawn(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            if tensor.is_meta and whole:
                draw(torch.empty_like(tensor, device="cpu"), *args, **kwargs)
            else:
                (missed if tensor.is_meta else late if missed else []).append(tensor)
            return draw(tensor, *args, **kwargs)

        return drawn

    drawing = {name: through(draw) for name, draw in originals.items() if name not in FILLS}
    initialization.TORCH_INIT_FUNCTIONS.update(drawing)
    try:
        yield late
    finally:
        initialization.TORCH_INIT_FUNCTIONS.update(originals)


def children_first(model: nn.Module, path: str = "") -> Iterator[str]:
    """Paths of all modules, each after its children."""
    for name, child in model.named_children():
        yield from children_first(child, f"{path}.{name}" if path else name)
    yield path
