"""The weights to differentiate, found by name in any model, with every module that uses them."""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

from torch import nn
from transformers.pytorch_utils import Conv1D

from engine.errors import UserError
from engine.gradients import ATTENTION_OUTPUT, LAYER
from engine.models.adapters import adapter_for

Kind = Literal["linear", "conv1d", "embedding"]
KINDS: dict[type[nn.Module], Kind] = {nn.Linear: "linear", Conv1D: "conv1d", nn.Embedding: "embedding"}


@dataclass(frozen=True)
class Use:
    """A module that multiplies by a weight; a ``conv1d`` (GPT-2) stores it transposed."""

    path: str
    kind: Kind


@dataclass(frozen=True)
class Weight:
    """A parameter with its layer, its shape as stored, and its uses; tied ones have several."""

    name: str
    layer: int
    shape: tuple[int, int]
    uses: tuple[Use, ...]

    @property
    def size(self) -> int:
        """p, the length of its flattened gradient."""
        return self.shape[0] * self.shape[1]


def choose(module: nn.Module, weight: str, n_layers: int, projections: Sequence[str] = ()) -> tuple[Weight, ...]:
    """Find the weights that `weight` stands for.

    Parameters
    ----------
    module : nn.Module
        The library's whole model.
    weight : str
        ``attention output``, a parameter's full name, or one with ``{layer}`` in the place of a layer's number.
    n_layers : int
    projections : sequence of str
        Paths of the modules that make each layer's attention output, for an architecture without an adapter.

    Raises
    ------
    UserError
        If there is no such parameter (near matches are offered), or it is not used as a plain matrix.
    """
    parameters = dict(module.named_parameters(remove_duplicate=False))
    if weight == ATTENTION_OUTPUT:
        names = _attention_outputs(module, n_layers, parameters, projections)
    elif LAYER in weight:
        names = {layer: weight.replace(LAYER, str(layer)) for layer in range(n_layers)}
    else:
        names = {_layer_of(weight, n_layers): weight}
    for name in names.values():
        if name not in parameters:
            raise UserError(_unknown(weight, name, parameters))
    return tuple(_weight(module, name, layer, parameters[name]) for layer, name in names.items())


def _attention_outputs(
    module: nn.Module, n_layers: int, parameters: Iterable[str], projections: Sequence[str]
) -> dict[int, str]:
    """Names of the attention output projections of this model, by layer; of a layer without heads there is none."""
    config: Any = module.config
    adapter = adapter_for(config)
    if adapter is None and projections:
        return {layer: f"{path}.weight" for layer, path in enumerate(projections)}
    if adapter is None:
        raise UserError(
            f"Eigenscope has no adapter for {type(module).__name__}, so it does not know its attention outputs. Name "
            f"the weight as the model does, with {LAYER} for the layer's number; it has, among others, "
            f"{', '.join(list(parameters)[:3])}."
        )
    text = config.get_text_config()
    wanted = {layer: adapter.names(text, layer)["o"] for layer in range(n_layers) if adapter.attends(text, layer)}
    located = adapter.locate(wanted.values(), list(parameters))
    return {layer: located[name] for layer, name in wanted.items()}


def _layer_of(name: str, n_layers: int) -> int:
    """The layer of a single weight; 0 for one outside the blocks."""
    numbers = [int(part) for part in re.findall(r"(?<=\.)\d+(?=\.)", name)]
    return numbers[0] if numbers and numbers[0] < n_layers else 0


def _unknown(asked: str, name: str, parameters: Collection[str]) -> str:
    near = get_close_matches(name, list(parameters), n=3, cutoff=0.5)
    if LAYER in asked:
        near = list(dict.fromkeys(re.sub(r"(?<=\.)\d+(?=\.)", LAYER, other, count=1) for other in near))
    hint = f"did you mean {' or '.join(f'“{other}”' for other in near)}?"
    if not near:
        hint = f"it has, among others, {', '.join(f'“{other}”' for other in list(parameters)[:3])}."
    return f"The model has no weight “{name}”; {hint}"


def _weight(module: nn.Module, name: str, layer: int, parameter: nn.Parameter) -> Weight:
    if parameter.ndim != 2:
        raise UserError(
            f"“{name}” is not a matrix (its shape is {tuple(parameter.shape)}). Choose the weight of a linear layer or "
            "of an embedding."
        )
    uses = []
    for path, owner in module.named_modules():
        for own, value in owner.named_parameters(recurse=False, remove_duplicate=False):
            if value is not parameter:
                continue
            kind = KINDS.get(type(owner)) if own == "weight" else None
            if kind is None:
                # Custom modules may do more than multiply: scale, clip, route.
                raise UserError(
                    f"“{name}” is used by {path or 'the model'}, a {type(owner).__name__}, whose gradients cannot be "
                    "taken for each sequence. Choose the weight of a plain linear layer or embedding."
                )
            uses.append(Use(path, kind))
    return Weight(name, layer, (parameter.shape[0], parameter.shape[1]), tuple(uses))
