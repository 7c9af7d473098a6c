"""Inspection of the selected head."""

from typing import TYPE_CHECKING

import numpy as np

from engine.analyses.attention.plan import SINK
from gui.plots.selection import Selection
from gui.views.attention.data import HEAD_STATISTICS, NAME, NOTHING, STATISTICS, VARIABLES, AttentionSlice
from gui.views.attention.scaling import growth_sentence
from gui.views.inspection import Inspection, Row

if TYPE_CHECKING:
    import xarray as xr


def inspect_head(dataset: "xr.Dataset", selection: Selection) -> Inspection:
    """Statistics of the selected head beside those of its random-init twin, with a verdict in words."""
    attention = AttentionSlice.of(dataset, selection)
    layer, head = attention.selected_head(selection)
    title, columns = f"Layer {layer}, head {head}", ("", "value", "twin")
    if reason := attention.no_heads(layer):
        return Inspection(f"Layer {layer}", attention.label, columns, verdict=reason, help=NAME)
    if np.isnan(attention.mean("spectral_norm")[layer, head]):
        return Inspection(title, attention.label, columns, verdict=NOTHING, help=NAME)
    twin = attention.twin
    rows = tuple(
        Row(
            VARIABLES[name].symbol,
            VARIABLES[name].long_name + ("; mean over the samples" if name in STATISTICS else ""),
            float(attention.mean(name)[layer, head]),
            float(twin.mean(name)[layer, head]) if twin is not None else float("nan"),
        )
        for name in HEAD_STATISTICS
        if np.isfinite(attention.mean(name)[layer, head])
    )
    sentences = (
        _verdict(attention, layer, head),
        growth_sentence(attention, (layer, head)),
        attention.sentence(attention.sample(selection), 160),
    )
    return Inspection(title, attention.label, columns, rows, " ".join(filter(None, sentences)), help=NAME)


def _verdict(attention: AttentionSlice, layer: int, head: int) -> str:
    """Sink weight of the head, and its spectral norm as a share of the bound √T."""
    norms = attention.sampled("spectral_norm")[layer, head]
    tokens = attention.tokens[: len(norms)]
    finite = np.isfinite(norms)
    share = float(np.mean(norms[finite] / np.sqrt(tokens[finite])))
    sink = attention.mean("sink")[layer, head]
    kind = "A sink head: its" if sink >= SINK else "Its"
    return f"{kind} tokens put {sink:.0%} of their weight on the first one; ‖A‖₂ is {share:.0%} of the bound √T."
