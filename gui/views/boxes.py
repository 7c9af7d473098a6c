"""The five numbers of a box plot."""

import numpy as np

from gui.plots.figure import Floats

Box = tuple[Floats, Floats, Floats, Floats, Floats]


def box_of(values: Floats) -> Box:
    """Low whisker, quartiles and high whisker of every row's finite values, (rows, samples) → five of (rows,)."""
    boxes = np.full((5, len(values)), np.nan)
    for layer, row in enumerate(values):
        finite = row[np.isfinite(row)]
        if finite.size:
            q1, median, q3 = np.quantile(finite, [0.25, 0.5, 0.75])
            inside = finite[(finite >= q1 - 1.5 * (q3 - q1)) & (finite <= q3 + 1.5 * (q3 - q1))]
            boxes[:, layer] = inside.min(), q1, median, q3, inside.max()
    return (*boxes,)
