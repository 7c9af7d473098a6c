"""Where a unit stands among the communities of a graph (methods §7.4; Guimerà and Amaral 2005)."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array

from engine.graphs.correlation import SignedGraph

Array = NDArray[np.float64]


def participation(graph: SignedGraph, labels: NDArray[np.int64]) -> tuple[Array, Array]:
    """Participation coefficient and within-community degree of every unit.

    P_i = 1 − Σ_c (k_ic/k_i)², with k_ic the sum of |weight| of unit i's edges into community c and k_i that of all:
    0 if all its edges stay in one community, towards 1 if they spread over many. The degree within its own community
    is given as a z-score over the units of that community.

    Parameters
    ----------
    labels : int array, (n,)
        From 0, every unit in one community.

    Returns
    -------
    P : (n,)
        NaN for units without edges.
    z : (n,)
        NaN where a community has one unit or all of its units are alike.
    """
    size = np.abs(graph.weight)
    units = np.concatenate([graph.source, graph.target])
    others = np.concatenate([graph.target, graph.source])
    count = int(labels.max(initial=-1)) + 1
    into = coo_array((np.tile(size, 2), (units, labels[others])), (graph.n, count)).tocsr()  # sums repeated entries
    degree = np.asarray(into.sum(1)).ravel()
    with np.errstate(invalid="ignore", divide="ignore"):
        p = np.where(degree > 0, 1 - np.asarray(into.power(2).sum(1)).ravel() / degree**2, np.nan)
        within = np.bincount(units, np.tile(size, 2) * (labels[units] == labels[others]), graph.n)
        members = np.bincount(labels, minlength=count)
        mean = (np.bincount(labels, within, count) / members)[labels]
        spread = np.sqrt(np.bincount(labels, (within - mean) ** 2, count) / members)[labels]
        z = np.where(spread > 1e-12 * np.abs(mean), (within - mean) / spread, np.nan)
    return np.clip(p, 0, 1), z
