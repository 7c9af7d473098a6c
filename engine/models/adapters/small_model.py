"""A small model of a config, and what each of its layers does: what any model of that config does, only quicker."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel

TOKENS, WINDOW, HEADS, WIDTH, VOCABULARY = 48, 4, 4, 48, 64
"""Tokens are more than sparse attention treats as a whole where its blocks are as narrow as the window here."""
DEEPEST, LARGEST = 12, 2e7
"""Layers and parameters beyond which no small model is made."""
SIZES = {
    "vocab_size": VOCABULARY,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), 0),
}


@dataclass(frozen=True)
class SmallLayer:
    """One layer of the small model: its parameters by their names below it, and what it did with random states."""

    index: int
    state: Mapping[str, Tensor]
    module: nn.Module
    entered: Tensor  # (T, d)
    left: Tensor
    met: Mapping[str, tuple[Tensor, Tensor]]  # path of a module below it: what it was given, and what it gave


@dataclass(frozen=True)
class SmallLayers:
    """The small model's layers, and where they are."""

    name: str
    path: str  # of a layer, with {layer}
    prefix: str
    rotary: str | None
    causal: bool
    layers: tuple[SmallLayer, ...]


def small_model(config: Any) -> PreTrainedModel | None:
    """A model of a few narrow layers, every kind of layer of the config among them; None where that cannot be had."""
    if getattr(config, "is_encoder_decoder", False) or not hasattr(config, "num_attention_heads"):
        return None
    narrow = _narrowed(config)
    with torch.device("meta"):
        whole = AutoModel.from_config(deepcopy(narrow), attn_implementation="eager")
    kinds = _kinds(whole, narrow)
    depth = max(2, *(kinds.index(kind) + 1 for kind in kinds))
    beyond = sum(weight.numel() for block in _row(whole, len(kinds))[1][depth:] for weight in block.parameters())
    if depth > DEEPEST or whole.num_parameters() - beyond > LARGEST or whole.main_input_name != "input_ids":
        return None
    shallow = _shortened(narrow, depth)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModel.from_config(deepcopy(shallow), attn_implementation="eager")
        if _kinds(model, shallow)[:depth] != kinds[:depth]:
            return None
        if hasattr(model, "set_experts_implementation"):
            model.set_experts_implementation("eager")  # the fused one knows no float64
        model = model.double().eval().requires_grad_(False)
        for name, weight in model.named_parameters():
            if weight.ndim > 1:
                weight.normal_(std=1.5 * weight.shape[-1] ** -0.5)
            else:
                weight.normal_(mean=float(name.endswith("weight")), std=0.3)
    return model


def _narrowed(config: Any) -> Any:
    """The same config with narrow layers; heads keep their width, on which rotary tables depend."""
    config = deepcopy(config)
    d_head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    groups = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    kv_heads = 1 if groups == 1 else HEADS // (1 if groups == config.num_attention_heads else 2)
    sizes = {"num_attention_heads": HEADS, "num_key_value_heads": kv_heads, "hidden_size": HEADS * d_head, **SIZES}
    sizes = {config.attribute_map.get(name, name): size for name, size in sizes.items()}
    for name, value in list(vars(config).items()):
        if isinstance(value, bool) or not isinstance(value, int):
            continue
        if name in sizes:
            setattr(config, name, min(value, sizes[name]))
        elif "intermediate" in name or name in ("ffn_dim", "ffn_hidden_size", "n_inner"):
            setattr(config, name, WIDTH)
        elif any(part in name for part in ("window", "chunk", "block_size")) and value > WINDOW:
            setattr(config, name, WINDOW)  # within reach of a short text
    for rope in _ropes(config):
        if rope.get("rope_type") != "longrope" and "original_max_position_embeddings" in rope:
            rope["original_max_position_embeddings"] = WINDOW
    return config


def _ropes(config: Any) -> list[dict[str, Any]]:
    ropes = getattr(config, "rope_parameters", None) or {}
    return [ropes, *(rope for rope in ropes.values() if isinstance(rope, dict))]


def _shortened(config: Any, depth: int) -> Any:
    """The same config with the first layers only."""
    config, whole = deepcopy(config), config.num_hidden_layers
    for name, value in list(vars(config).items()):
        if isinstance(value, list | tuple) and len(value) == whole:
            setattr(config, name, value[:depth])
    config.num_hidden_layers = depth
    return config


def _row(model: nn.Module, depth: int) -> tuple[str, list[Any]]:
    """Path and blocks of the row of as many modules as there are layers."""
    rows = ((path, list(row)) for path, row in model.named_modules() if isinstance(row, nn.ModuleList))
    return next((path, row) for path, row in rows if len(row) == depth)


def _kinds(model: nn.Module, config: Any) -> list[Any]:
    """What tells a layer from another: its parameters, its modules' settings, its entries in the config's lists."""
    depth = config.num_hidden_layers
    lists = [value for value in vars(config).values() if isinstance(value, list | tuple) and len(value) == depth]
    settings = [
        {
            (path, name): value
            for path, part in block.named_modules()
            for name, value in vars(part).items()
            if not name.startswith("_") and isinstance(value, bool | int | float | str | None)
        }
        for block in _row(model, depth)[1]
    ]
    numbers = {at for at in settings[0] if depth > 1 and all(s.get(at) == layer for layer, s in enumerate(settings))}
    return [
        (
            [(name, weight.shape) for name, weight in block.named_parameters()],
            {at: value for at, value in settings[layer].items() if at not in numbers},
            [value[layer] for value in lists],
        )
        for layer, block in enumerate(_row(model, depth)[1])
    ]


def layers_of(model: PreTrainedModel) -> SmallLayers:
    """Run random states through every layer of a model, each on its own."""
    path, blocks = _row(model, model.config.num_hidden_layers)
    generator = torch.Generator().manual_seed(1)
    scales = torch.logspace(0.5, -2, 8, dtype=torch.float64).repeat(TOKENS // 8)[:, None]  # small ones show an ε

    def states() -> Tensor:
        drawn = torch.randn(TOKENS, model.config.hidden_size, generator=generator, dtype=torch.float64)
        return scales * drawn

    entered = [states() for _ in blocks]
    first = _passed(model, blocks, entered)
    changed = [torch.cat((x[:-1], states()[-1:])) for x in entered]
    again = _passed(model, blocks, changed)
    rotary = next((type(part) for part in model.modules() if type(part).__name__.endswith("RotaryEmbedding")), None)
    return SmallLayers(
        name=type(model).__name__.removesuffix("Model"),
        path=f"{path}.{{layer}}",
        prefix=f"{model.base_model_prefix}.",
        rotary=None
        if rotary is None
        else f"{rotary.__module__.removeprefix('transformers.models.')}.{rotary.__name__}",
        causal=all(torch.allclose(a[0][:-1], b[0][:-1]) for a, b in zip(first, again, strict=True)),
        layers=tuple(
            SmallLayer(index, block.state_dict(), block, entered[index], *first[index])
            for index, block in enumerate(blocks)
        ),
    )


def _passed(
    model: nn.Module, blocks: list[nn.Module], states: list[Tensor]
) -> list[tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]]:
    """What every layer makes of states (T, d) that are put in place of its own, and what its modules do on the way."""
    left: dict[int, Tensor] = {}
    met: list[dict[str, tuple[Tensor, Tensor]]] = [{} for _ in blocks]

    def first(value: Any) -> Any:
        return value[0] if isinstance(value, tuple | list) else value

    def given(args: Any, kwargs: Any) -> Any:
        return args[0] if args else kwargs.get("hidden_states")

    def put(layer: int) -> Callable[..., Any]:
        x = states[layer][None]
        return lambda _, args, kwargs: ((x, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": x})

    def keep(layer: int, path: str) -> Callable[..., None]:
        def hook(_: Any, args: Any, kwargs: Any, output: Any) -> None:
            x, y = given(args, kwargs), first(output)
            if not path:
                left[layer] = y[0].clone()
            elif isinstance(x, Tensor) and isinstance(y, Tensor) and x.ndim == y.ndim == 3:
                met[layer][path] = x[0].clone(), y[0].clone()

        return hook

    handles = []
    for layer, block in enumerate(blocks):
        handles.append(block.register_forward_pre_hook(put(layer), with_kwargs=True))
        for path, part in block.named_modules():
            handles.append(part.register_forward_hook(keep(layer, path), with_kwargs=True))
    try:
        with torch.no_grad():
            model(input_ids=torch.arange(1, TOKENS + 1)[None] % VOCABULARY)
    finally:
        for handle in handles:
            handle.remove()
    return [(left[layer], met[layer]) for layer in range(len(blocks))]
