"""The selected unit and its layer in numbers, at both sites, for the inspector."""

from typing import TYPE_CHECKING

from gui.plots.selection import Selection
from gui.views.communities.data import NAME, SITES, VARIABLES, CommunitiesSlice
from gui.views.inspection import Inspection, Row

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

OF_UNIT = ("membership", "participation", "within_degree_z", "column_norm")
OF_LAYER = ("cohens_d", "q_value", "n_communities")


def inspect_unit(dataset: "xr.Dataset", selection: Selection) -> Inspection:
    """The selected unit among the communities of the selected layer, at both sites."""
    model = min(selection.model, dataset.sizes["model"] - 1)
    layer, unit = min(selection.layer, dataset.sizes["layer"] - 1), min(selection.unit, dataset.sizes["unit"] - 1)
    label = str(dataset["model"].values[model])
    columns = ("", *SITES.values())
    title = f"Layer {layer}, unit {unit}"
    if layer not in CommunitiesSlice(dataset, model).arrived:
        return Inspection(title, label, columns, verdict="This layer has not been computed yet.", help=NAME)
    snapshots = dataset.isel(model=model, layer=layer)
    rows = [_row(name, snapshots[name].values[:, unit]) for name in OF_UNIT]
    rows += [_row(name, snapshots[name].values) for name in OF_LAYER]
    return Inspection(title, label, columns, tuple(rows), help=NAME)


def _row(name: str, values: "np.ndarray") -> Row:
    """A variable at both sites."""
    variable = VARIABLES[name]
    meaning = ": ".join(filter(None, (variable.long_name, variable.reading)))
    return Row(variable.symbol, meaning, *map(float, values))
