"""What the inspector says of the selected head."""

from typing import TYPE_CHECKING

import numpy as np

from gui.plots.selection import Selection
from gui.views.attention.data import NAME, NOTHING, OF_HEAD, SINK, STATISTICS, AttentionSlice
from gui.views.attention.scaling import growth_sentence
from gui.views.inspection import Inspection, Row

if TYPE_CHECKING:
    import xarray as xr


def inspect_head(dataset: "xr.Dataset", selection: Selection) -> Inspection:
    """The selected head's statistics, means over the samples, beside the random-init twin's; and what kind it is."""
    of = AttentionSlice.of(dataset, selection)
    layer, head = of.head(selection)
    title, columns = f"Layer {layer}, head {head}", ("", "value", "twin")
    if np.isnan(of.mean("spectral_norm")[layer, head]):
        return Inspection(title, of.label, columns, verdict=NOTHING, help=NAME)
    twin = of.twin
    rows = tuple(
        Row(
            symbol,
            f"{meaning}; mean over the samples" if name in STATISTICS else meaning,
            float(of.mean(name)[layer, head]),
            float(twin.mean(name)[layer, head]) if twin is not None else float("nan"),
        )
        for name, (symbol, meaning) in (STATISTICS | OF_HEAD).items()
        if np.isfinite(of.mean(name)[layer, head])
    )
    said = (_verdict(of, layer, head), growth_sentence(of, (layer, head)), of.sentence(of.sample(selection), 160))
    return Inspection(title, of.label, columns, rows, " ".join(filter(None, said)), help=NAME)


def _verdict(of: AttentionSlice, layer: int, head: int) -> str:
    """Where the head's spectral norm lies between its bounds, and whether it is a sink."""
    norms = of.sampled("spectral_norm")[layer, head]
    tokens = of.tokens[: len(norms)]
    there = np.isfinite(norms)
    share = float(np.mean(norms[there] / np.sqrt(tokens[there])))
    sink = of.mean("sink")[layer, head]
    kind = "A sink head: its" if sink >= SINK else "Its"
    return f"{kind} tokens put {sink:.0%} of their weight on the first one; ‖A‖₂ is {share:.0%} of the bound √T."
