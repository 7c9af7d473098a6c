"""Correlation graphs of a communities result as GraphML, which NetworkX, Gephi, Cytoscape and igraph read."""

import re
from collections.abc import Iterator
from io import BytesIO
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np

from engine.printable import printable

if TYPE_CHECKING:
    import xarray as xr

UNITS = ("participation", "within_degree_z", "degree", "column_norm")


def graphs(ds: "xr.Dataset") -> Iterator[tuple[str, bytes]]:
    """A name and the GraphML for each model, site and layer that was computed.

    Nodes are the units that vary, named by their number, with `community` (by descending size), the values of `UNITS`
    and the position `x`, `y`; what is NaN is left out. Edges have the signed `weight` and its `sign`.
    """
    for m, label in enumerate(ds["model"].values):
        for site in ds["site"].values:
            for layer in ds["layer"].values:
                snapshot = ds.isel(model=m).sel(site=site, layer=layer)
                if np.isfinite(snapshot["membership"].values).any():
                    name = f"{_in_a_name(label)}-{_in_a_name(site)}-layer-{int(layer):03d}.graphml"
                    yield name, _graphml(snapshot, str(label))


def _in_a_name(value: object) -> str:
    """What a coordinate says, as part of a file's name."""
    return re.sub(r"[^\w.@-]+", "_", str(value)).strip("_")


def _graphml(snapshot: "xr.Dataset", label: str) -> bytes:
    graph = nx.Graph(model=printable(label), site=printable(str(snapshot["site"].values)), layer=int(snapshot["layer"]))
    values = {name: snapshot[name].values for name in UNITS}
    at, membership = snapshot["position"].values, snapshot["membership"].values
    for unit in np.flatnonzero(np.isfinite(membership)).tolist():
        numbers = {name: float(value[unit]) for name, value in values.items()}
        numbers |= {"x": float(at[unit, 0]), "y": float(at[unit, 1])}
        attributes: dict[str, Any] = {name: number for name, number in numbers.items() if np.isfinite(number)}
        graph.add_node(unit, community=int(membership[unit]), **attributes)
    present = snapshot["edge_source"].values >= 0
    ends = (snapshot[f"edge_{end}"].values[present].tolist() for end in ("source", "target", "weight"))
    for source, target, weight in zip(*ends, strict=True):
        graph.add_edge(source, target, weight=weight, sign=1 if weight > 0 else -1)
    written = BytesIO()
    nx.write_graphml_xml(graph, written)
    return written.getvalue()
