"""Where in a model an activation is seen: named places of every block, in any architecture (methods §3)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from engine.models.adapters import Adapter, adapter_for
from engine.models.blocks import block_row, entering, leaving, uncached

Side = Literal["input", "output"]
Choice = Literal["blocks", "sublayers", "entrances"]

# In the order of the forward pass. `dropout` is not among them: in evaluation mode its output is its input.
MEANINGS = {
    "embedding": "the residual stream that enters the first block",
    "ln1": "output of the norm before attention",
    "attn_out": "output of the attention output projection",
    "ln1_post": "output of the norm after attention: before the sum (OLMo 2, Gemma) or after it (BERT)",
    "resid_mid": "after the first residual addition",
    "ln2": "output of the norm before the MLP",
    "mlp_gate": "output of the gate's linear, before its activation (gated MLPs only)",
    "mlp_in": "output of the MLP's first linear",
    "mlp_act": "what enters the MLP's output projection: the activation, times the gated branch if there is one",
    "mlp_out": "output of the MLP's output projection",
    "ln2_post": "output of the norm after the MLP, before the sum (OLMo 2, Gemma)",
    "resid_post": "after the second residual addition, where a norm still follows in the block (BERT)",
    "block": "the block's output",
    "final_norm": "output of the norm after the last block",
    "before_attn": "the residual stream as attention meets it, before its norm",
    "before_mlp": "the residual stream as the MLP meets it, before its norm",
}
BLOCKS, ENTRANCES = ("block",), ("before_attn", "before_mlp")
SUBLAYERS = tuple(name for name in MEANINGS if name not in ENTRANCES)


@dataclass(frozen=True)
class Site:
    """One place: its name (a key of `MEANINGS`), its layer, and the module whose input or output it is.

    `embedding` counts as layer 0 and `final_norm` as the last layer. Where layers share a module (ALBERT), `call` says
    which of its calls is meant.
    """

    name: str
    layer: int
    path: str
    side: Side
    call: int = 0


def sites(module: nn.Module, names: Choice = "blocks") -> tuple[Site, ...]:
    """The sites that a model has, layer by layer; one that its architecture lacks is not among them.

    Parameters
    ----------
    module : nn.Module
        The library's, with or without a head on it.
    names : ``blocks``, ``sublayers`` or ``entrances``
        Outputs of the blocks; these and all sublayers; or the residual stream as attention and MLP meet it.
        An architecture without an adapter has ``block`` and ``before_attn`` only.

    Raises
    ------
    UserError
        If the module has no row of blocks.
    """
    config: Any = module.config
    blocks = [path for path, _ in block_row(module)]
    adapter = adapter_for(config)
    taps: dict[str, tuple[str, Side]] = {"block": ("", "output"), "before_attn": ("", "input")}
    if adapter is not None:
        taps |= _taps(adapter, config.get_text_config())
    wanted = {"blocks": BLOCKS, "sublayers": SUBLAYERS, "entrances": ENTRANCES}[names]
    # Layers may differ: one that mixes tokens by recurrence has no attention, one with experts no linears of its MLP.
    present = {path for path, _ in module.named_modules()}
    collected = [
        Site(name, layer, f"{block}.{at}" if at else block, side, blocks[:layer].count(block))
        for layer, block in enumerate(blocks)
        for name in wanted
        if name in taps
        for at, side in [taps[name]]
        if not at or f"{block}.{at}" in present
    ]
    if names == "sublayers" and adapter is not None:
        collected.insert(0, Site("embedding", 0, blocks[0], "input"))
        base, dot, _ = blocks[0].rpartition(".")[0].rpartition(".")
        last = f"{base}{dot}{adapter.final_norm}"
        if adapter.final_norm and last in present:
            collected.append(Site("final_norm", len(blocks) - 1, last, "output"))
    return tuple(collected)


def _taps(adapter: Adapter, config: PreTrainedConfig) -> Mapping[str, tuple[str, Side]]:
    """Sites inside a block of this architecture: a module's path under the block, and which side of it.

    `Block` says in which order the parts of a block come.
    """
    norms, linears = adapter.norms(config), adapter.linears
    outputs = {
        "ln1": norms.get("attn_norm"),
        "attn_out": linears["o"],
        "ln1_post": norms.get("attn_post") or norms.get("attn_sum"),
        "ln2": norms.get("mlp_norm"),
        "mlp_gate": linears.get("gate"),
        "mlp_in": linears.get("in"),
        "mlp_out": linears.get("out") or adapter.mlp_path,
        "ln2_post": norms.get("mlp_post"),
    }
    # Without a norm before the MLP, its first linear takes the residual stream as it is.
    meets_mlp = norms.get("mlp_norm") or linears.get("in") or adapter.mlp_path
    inputs = {
        "resid_mid": None if adapter.parallel(config) else norms.get("attn_sum") or meets_mlp,
        "mlp_act": linears.get("out"),
        "resid_post": norms.get("mlp_sum"),
        "before_mlp": meets_mlp,
    }
    taps: dict[str, tuple[str, Side]] = {name: (path, "output") for name, path in outputs.items() if path}
    return taps | {name: (path, "input") for name, path in inputs.items() if path}


@torch.no_grad()
def observe(
    module: nn.Module, chosen: Sequence[Site], inputs: Mapping[str, Tensor], take: Callable[[Site, Tensor], None]
) -> Any:
    """One forward pass that hands over every site's activation, (n, T, width), while the model computes.

    `take` must use or copy what it is given before it returns: the model may go on to change it.

    Returns
    -------
    The library's output, with the logits if the module has a head.
    """
    batch, config = len(next(iter(inputs.values()))), cast(Any, module.config)

    def handed(site: Site, hidden: Tensor) -> None:
        if hidden.ndim == 4:  # several versions of the residual stream, of which attention and MLP read one (AltUp)
            hidden = hidden[getattr(config.get_text_config(), "altup_active_idx", 0)]
        # Some of the library's blocks (OPT) run their MLP on a flattened batch.
        take(site, hidden.unflatten(0, (batch, -1)) if hidden.ndim == 2 else hidden)

    def before(site: Site) -> Callable[..., None]:
        calls = count()
        return lambda _, args, kwargs: handed(site, entering(args, kwargs)) if next(calls) == site.call else None

    def after(site: Site) -> Callable[..., None]:
        calls = count()
        return lambda _, __, output: handed(site, leaving(output)) if next(calls) == site.call else None

    handles = []
    try:
        for site in chosen:
            at = module.get_submodule(site.path)
            if site.side == "input":
                handles.append(at.register_forward_pre_hook(before(site), with_kwargs=True))
            else:
                handles.append(at.register_forward_hook(after(site)))
        return module(**inputs, **uncached(module))
    finally:
        for handle in handles:
            handle.remove()
