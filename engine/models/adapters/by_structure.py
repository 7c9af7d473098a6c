"""Architectures without an adapter of their own: read with another family's, where a check on a small model agrees.

A family whose tensors are those of the small model's layers is a candidate, and is taken if its account of every layer
computes what the library's own layer does. Names decide nothing: whatever an architecture is called, it opens as what
it is.
"""

import json
from collections.abc import Callable, Iterable
from copy import copy
from typing import Any

from torch import Tensor, nn

from engine.models.adapters.base import Adapter
from engine.models.adapters.forward import after_attention, attention_output, block_output
from engine.models.adapters.llama import sliding
from engine.models.adapters.small_model import SmallLayer, SmallLayers, layers_of, small_model

AGREES = 1e-4
"""Largest relative difference: the library's norms and softmax are in float32."""
TEXT_PARTS = ("model.language_model.", "language_model.model.", "language_model.")
EXPERTS = "Its blocks choose among experts for each token."
OTHER_MLP = "Its MLP is of a form of its own."
# Where a layer's window may stand in a config, if a family looks elsewhere; bidirectional masks include its end.
WINDOWS: tuple[Callable[[Any, int], int | None], ...] = (
    lambda config, layer: None,
    lambda config, layer: config.sliding_window,
    sliding,
    lambda config, layer: None if (window := sliding(config, layer)) is None else window + 1,
)

_known: dict[str, Adapter | None] = {}


def adapter_by_structure(config: Any, families: Iterable[Adapter]) -> Adapter | None:
    """The adapter of the first family that computes what a config's architecture does, made to fit; None if none does.

    The adapter says in its notices as what the model is read. An architecture that differs from a family in its MLP
    alone (experts, most often) is read with that family too, and has no closed form.
    """
    key = json.dumps(config.to_dict(), sort_keys=True, default=str)
    if key not in _known:
        _known[key] = _first(config, families)
    return _known[key]


def _first(config: Any, families: Iterable[Adapter]) -> Adapter | None:
    try:
        small = small_model(config.get_text_config())
        seen = None if small is None else layers_of(small)
    except Exception:  # whatever the library finds wrong with so small a model of it
        return None
    if small is None or seen is None:
        return None
    families = tuple(families)
    for window in (None, *WINDOWS):
        for family in families:
            try:
                adapter = _fitted(family, seen, small.config, window or family.window)
                if adapter is None or not all(_agrees(adapter, small.config, layer) for layer in seen.layers):
                    continue
                adapter.facts(config)  # it reads the true config too
            except Exception:  # a family that cannot read this config is no candidate
                continue
            return _without_mlp(adapter, seen) if adapter.mlp_path else adapter
    return None


def _fitted(
    family: Adapter, seen: SmallLayers, config: Any, window: Callable[[Any, int], int | None]
) -> Adapter | None:
    """The family's adapter with the model's own places and settings; None where it has other tensors."""
    adapter, causal = copy(family), seen.causal
    first = seen.layers[0]
    modules = {path: part for layer in seen.layers for path, part in layer.module.named_modules()}
    linears = {role: path for role, path in family.linears.items() if path in modules}
    norms = {place: path for place, path in family.norms(config).items() if path in modules}
    biased = tuple(role for role, path in linears.items() if getattr(modules[path], "bias", None) is not None)
    remark = f"{seen.name} is read as {family.family}, with which a small random model of its config agrees"
    vars(adapter).update(
        layer_path=seen.path,
        prefixes=(seen.prefix, *(prefix for prefix in TEXT_PARTS if prefix != seen.prefix)),
        renames=(),
        linears=linears,
        norms=lambda config: norms,
        biased=lambda config: biased,
        causal=lambda config: causal,
        window=window,
        notices=lambda config: (*family.notices(config), f"{remark}."),
    )
    if norms:
        norm = modules[next(iter(norms.values()))]
        eps = getattr(norm, "variance_epsilon", getattr(norm, "eps", None))
        kind = "layernorm" if isinstance(norm, nn.LayerNorm) else family.norm
        learned = getattr(norm, "weight", None) is not None
        norm_biased = getattr(norm, "bias", None) is not None
        vars(adapter).update(
            norm=kind,
            eps=lambda config: eps,
            learned=lambda config: learned,
            norm_biased=lambda config: norm_biased,
        )
    if "q_norm" in norms:
        widths = {len(weight) for name, weight in first.state.items() if name == f"{norms['q_norm']}.weight"}
        vars(adapter)["qk_norm"] = "head" if widths == {family.shape(config, 0)[2]} else "all"
    if family.rotary_class is not None:
        vars(adapter)["rotary_class"] = seen.rotary
    if all(_names(adapter, config, layer) == set(layer.state) for layer in seen.layers):
        return adapter
    heads = {role: path for role, path in linears.items() if role in ("q", "k", "v", "qkv", "o")}
    vars(adapter).update(
        linears=heads,
        biased=lambda config: tuple(role for role in biased if role in heads),
        mlp=lambda config, tensors: None,
        notices=lambda config: (*family.notices(config), f"{remark} in its attention."),
    )
    rest: set[str] = set()
    for layer in seen.layers:
        own = _names(adapter, config, layer)
        if not own < set(layer.state):
            return None
        rest |= set(layer.state) - own
    places = {name.partition(".")[0] for name in rest}
    attention = {path.partition(".")[0] for path in heads.values()}
    if len(places) > 1 or places & attention:
        return None
    vars(adapter)["mlp_path"] = places.pop()
    return adapter


def _without_mlp(adapter: Adapter, seen: SmallLayers) -> Adapter:
    """The same adapter, which refuses closed forms from here on: the check of its attention needed them."""
    experts = any("expert" in name for layer in seen.layers for name in layer.state)
    reason = EXPERTS if experts else OTHER_MLP
    vars(adapter)["closed_form_refusal"] = lambda config: reason
    return adapter


def _names(adapter: Adapter, config: Any, layer: SmallLayer) -> set[str]:
    """The tensors of a whole block by their names below the layer."""
    above = len(adapter.layer_path.format(layer=layer.index)) + 1
    return {name[above:] for name in adapter.tensor_names(config, layer.index, "all")}


def _agrees(adapter: Adapter, config: Any, layer: SmallLayer) -> bool:
    """Whether the adapter's account of a layer, or of its attention alone, computes what the layer does."""
    above = len(adapter.layer_path.format(layer=layer.index)) + 1
    block = adapter.block(config, layer.index, lambda name: layer.state[name[above:]], "all")
    if block.mlp is not None:
        return _same(block_output(block, layer.entered), layer.left)
    if not _same(attention_output(block, layer.entered), layer.met[adapter.linears["o"]][1]):
        return False
    entrance = layer.met[adapter.norms(config).get("mlp_norm") or adapter.mlp_path or ""][0]
    return block.parallel or _same(after_attention(block, layer.entered), entrance)


def _same(ours: Tensor, expected: Tensor) -> bool:
    """Token by token: each has its own scale."""
    return bool(((ours - expected).norm(dim=-1) <= AGREES * expected.norm(dim=-1)).all())
