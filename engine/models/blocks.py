"""The blocks of a transformer: which module each layer is, in the order of their calls."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from engine.errors import UserError

TOWERS = ("vision", "visual", "audio")
"""Parts of names of what stands beside the text part of a multimodal model, with as many layers perhaps."""
WEIGHT_ERROR = 0.01
"""By how much a weight may be above 1, sized for bfloat16."""
_shared: "WeakKeyDictionary[nn.Module, list[str]]" = WeakKeyDictionary()


def block_row(module: nn.Module, run: Callable[[], Any] | None = None) -> list[tuple[str, nn.Module]]:
    """Path and module of each layer's block, in order; layers that share a module (ALBERT) have the same.

    Parameters
    ----------
    module : nn.Module
        The library's, with or without a head on it.
    run : callable, optional
        A forward pass, which shows how often shared modules are called; a short text by default.

    Raises
    ------
    UserError
        If there is no row of as many parts as the config has layers.
    """
    config: Any = module.config
    depth = getattr(config.get_text_config(), "num_hidden_layers", None)
    rows = {
        name: list(row)
        for name, row in module.named_modules()
        if isinstance(row, nn.ModuleList) and len(row) and not any(part in name for part in TOWERS)
    }
    whole = next((name for name, row in rows.items() if len(row) == depth), None)
    if whole is not None:
        return [(f"{whole}.{layer}", block) for layer, block in enumerate(rows[whole])]
    if isinstance(depth, int) and module not in _shared:
        _shared[module] = _called(rows, depth, run or (lambda: _read(module)))
    if not isinstance(depth, int) or not _shared[module]:
        raise UserError(
            f"No row of {depth} blocks was found in {type(module).__name__}, so there are no layers to look into. "
            "Choose another model."
        )
    return [(path, module.get_submodule(path)) for path in _shared[module]]


def _called(rows: dict[str, list[nn.Module]], depth: int, run: Callable[[], Any]) -> list[str]:
    """Paths of the members of the innermost row that are called `depth` times in all, call by call."""
    calls: dict[str, list[str]] = defaultdict(list)

    def count(row: str, path: str) -> Callable[..., None]:
        return lambda *_: calls[row].append(path)

    handles = [
        member.register_forward_pre_hook(count(row, f"{row}.{index}"))
        for row, members in rows.items()
        if len(members) < depth
        for index, member in enumerate(members)
    ]
    try:
        with torch.no_grad():
            run()
    except Exception:  # whoever reads a text with it will say why that fails
        return []
    finally:
        for handle in handles:
            handle.remove()
    return next((paths for _, paths in sorted(calls.items(), reverse=True) if len(paths) == depth), [])


def _read(module: nn.Module) -> None:
    ids = torch.ones(1, 5, dtype=torch.long, device=next(module.parameters()).device)
    module(input_ids=ids, **uncached(module))


def uncached(module: nn.Module) -> dict[str, bool]:
    """The argument that has a model keep no keys and values, where it knows it."""
    config: Any = module.config
    return {"use_cache": False} if hasattr(config.get_text_config(), "use_cache") else {}


def entering(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The residual stream in what a block is called with."""
    return args[0] if args else kwargs["hidden_states"]


def leaving(output: Any) -> Any:
    """The residual stream in what a block returns."""
    return output[0] if isinstance(output, tuple | list) else output


def replaced(output: Any, hidden: Any, beside: Callable[[Any], Any] = lambda part: part) -> Any:
    """What a block returns, with another residual stream, and something else in the places beside it."""
    if isinstance(output, tuple | list):
        return type(output)((hidden, *map(beside, output[1:])))
    return hidden


def attention_matrices(output: Any, tokens: int) -> Tensor | None:
    """The attention weights (N, H, T, T) beside the first thing that a module returned; T5's bias is none of them."""
    for part in output[1:] if isinstance(output, tuple | list) else ():
        square = isinstance(part, Tensor) and part.ndim == 4 and part.shape[2:] == (tokens, tokens)
        # Written so that weights that are not finite pass: they belong to a sample that is left out.
        if square and not ((part < 0).any() or (part > 1 + WEIGHT_ERROR).any()):
            return part
    return None
