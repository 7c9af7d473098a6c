"""What a finished run says on standard output: a short table, or everything by head as JSON."""

import json
import math
from typing import TYPE_CHECKING, Any

from rich.table import Table

from engine.analyses import get_analysis
from engine.sessions.store import Run

if TYPE_CHECKING:
    import xarray as xr

    from engine.runs.verification import Outcome

BY_HEAD = ("model", "layer", "head")
SIGNIFICANT = 0.05


def as_json(run: Run, result: "xr.Dataset", seconds: float) -> dict[str, Any]:
    """Everything that has one number for each head (or fewer), as nested lists in the order of `dims`; NaN is null."""
    return {
        "session": str(run.session.path),
        "run": run.id,
        "result": str(run.path / "result.zarr"),
        "analysis": run.request.analysis,
        "seconds": seconds,
        "notes": notes(result),
        "models": [model.label for model in run.models],
        "variables": {
            str(name): {"dims": list(variable.dims), "values": _plain(variable.values.tolist())}
            for name, variable in result.data_vars.items()
            if set(variable.dims) <= set(BY_HEAD)
        },
    }


def verification_as_json(outcome: "Outcome") -> dict[str, Any]:
    """The largest relative error of every component and layer, in the order of `layers` and `components`."""
    first = outcome.found[0]
    return {
        "passed": outcome.passed,
        "tolerance": first.tolerance,
        "dtype": first.dtype,
        "layers": list(first.layers),
        "components": list(first.components),
        "errors": {context: _plain(rows) for context, rows in outcome.errors().items()},
    }


def notes(result: "xr.Dataset") -> list[str]:
    """What the analysis has to say about this result."""
    return list(json.loads(result.attrs.get("notes", "[]")))


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_table(run: Run, result: "xr.Dataset") -> Table:
    """One row for each layer of each model: the analysis's notable variables, over heads."""
    notable = {name: how for name, how in get_analysis(run.request.analysis).notable.items() if name in result}
    table = Table(box=None, pad_edge=False, title_justify="left")
    table.add_column("model", no_wrap=True)
    table.add_column("layer", justify="right")
    how_taken = {"mean": "mean", "sum": "sum", "significant": f"< {SIGNIFICANT}"}
    for name, how in notable.items():
        heading = name.replace("_", "_\n") + "\n" + how_taken[how]
        table.add_column(heading, justify="right")
    for index, model in enumerate(run.models):
        for layer in range(model.n_layers):
            here = result.isel(model=index, layer=layer)
            cells = []
            for name, how in notable.items():
                heads = here[name]
                if how == "mean":
                    cells.append(f"{float(heads.mean()):.4g}")
                else:
                    count = (heads < SIGNIFICANT).sum() if how == "significant" else heads.sum()
                    cells.append(f"{int(count)}")
            table.add_row(model.label, str(layer), *cells)
    return table
