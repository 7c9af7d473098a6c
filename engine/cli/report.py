"""What a finished run says on standard output: a short table, or everything by head as JSON."""

import math
from itertools import product
from typing import TYPE_CHECKING, Any

from engine.analyses.header import Header
from engine.analyses.registry import variables_of
from engine.cli.terminal import PlainTable
from engine.sessions.store import Run

if TYPE_CHECKING:
    import xarray as xr

    from engine.runs.verification import Outcome

BY_HEAD = ("model", "split", "site", "layer", "head")
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
        "sites": [str(name) for name in result["site"].values] if "site" in result.dims else [],
        "splits": [str(name) for name in result["split"].values] if "split" in result.dims else [],
        "variables": {
            str(name): {"dims": list(variable.dims), "values": _plain(variable.values.tolist())}
            for name, variable in result.data_vars.items()
            if set(variable.dims) <= set(BY_HEAD)
        },
    }


def verification_as_json(outcome: "Outcome") -> dict[str, Any]:
    """The largest relative error of every component and layer, in the order of `layers` and `components`."""
    first = outcome.verifications[0]
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
    return list(Header.of(result).notes)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_table(run: Run, result: "xr.Dataset") -> PlainTable:
    """One row for each layer of each model: the variables that are declared with a summary, over heads and samples.

    A variable that also has a component, a site or another named dimension gets a column for each.
    """
    table = PlainTable()
    table.add_column("model", no_wrap=True)
    table.add_column("layer", justify="right")
    columns = []
    for name, variable in variables_of(run.request.analysis).items():
        if (how := variable.summary) is None or name not in result:
            continue
        named = [dim for dim in result[name].dims[1:] if dim in result.coords and result[dim].dtype.kind in "UOT"]
        for labels in product(*(result[dim].values.tolist() for dim in named)):
            columns.append((result[name].sel(dict(zip(named, labels, strict=True))), how))
            heading = "\n".join((*labels, variable.symbol, f"< {SIGNIFICANT}" if how == "significant" else how))
            table.add_column(heading, justify="right")
    for index, model in enumerate(run.models):
        for layer in range(model.n_layers):
            here = [(column.isel(model=index, layer=layer), how) for column, how in columns]
            table.add_row(model.label, str(layer), *(_taken(values, how) for values, how in here))
    return table


def _taken(values: "xr.DataArray", how: str) -> str:
    if how == "significant":
        return f"{int((values < SIGNIFICANT).sum())}"
    return f"{int(values.sum())}" if how == "sum" else f"{float(getattr(values, how)()):.4g}"
