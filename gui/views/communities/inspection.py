"""What the inspector says of the selected unit."""

from typing import TYPE_CHECKING

from gui.plots.selection import Selection
from gui.views.communities.data import NAME, CommunitiesSlice
from gui.views.inspection import Inspection, Row

if TYPE_CHECKING:
    import xarray as xr


def inspect_unit(dataset: "xr.Dataset", selection: Selection) -> Inspection:
    """The selected unit among the communities of the selected layer, at both sites."""
    model = min(selection.model, dataset.sizes["model"] - 1)
    layer, unit = min(selection.layer, dataset.sizes["layer"] - 1), min(selection.unit, dataset.sizes["unit"] - 1)
    label = str(dataset["model"].values[model])
    columns = ("", "before attention", "before the MLP")
    title = f"Layer {layer}, unit {unit}"
    if layer not in CommunitiesSlice(dataset, model).arrived:
        return Inspection(title, label, columns, verdict="This layer has not been computed yet.", help=NAME)
    one = dataset.isel(model=model, layer=layer)
    names = {
        "membership": ("community", "Number by descending size"),
        "participation": ("participation", "P: how evenly its edges spread over communities"),
        "within_degree_z": ("degree within", "z-score of its degree within its community"),
        "column_norm": ("‖J eᵢ‖", "Column norm of the mean Jacobian: how strongly the unit is passed on"),
    }
    rows = [Row(short, long, *map(float, one[name].values[:, unit])) for name, (short, long) in names.items()]
    effects = {
        "cohens_d": ("Cohen’s d", "Column norms of boundary units against the others, of this layer"),
        "q_value": ("q", "False discovery rate over the layers"),
        "n_communities": ("communities", "Of at least 3 units, of this layer"),
    }
    rows += [Row(short, long, *map(float, one[name].values)) for name, (short, long) in effects.items()]
    return Inspection(title, label, columns, tuple(rows), help=NAME)
