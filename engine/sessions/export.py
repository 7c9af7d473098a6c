"""Finished results in formats that other programs read. Names stay as they are in the Dataset."""

import json
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from engine.errors import UserError, boundary
from engine.sessions.files import replace_file
from engine.sessions.names import safe_name
from engine.sessions.store import Session

if TYPE_CHECKING:
    import xarray as xr

Format = Literal["csv", "npz", "netcdf", "graphml"]


def export(path: Path | str, format: Format, out: Path | str) -> list[Path]:
    """Write every finished run of a session.

    ``csv``: a folder for each run with one file for each variable, a row for each value after the columns of its
    coordinates, and ``dataset.json`` with attributes, dimensions and types. ``npz``: one file for each run with all
    variables and coordinates, and the content of ``dataset.json`` as the text ``dataset_json``. ``netcdf``: one
    netCDF-4 file for each run, attributes that are not text or a number as JSON. CSV and netCDF have no complex
    numbers: there ``name`` becomes ``name_re`` and ``name_im``. ``graphml``: of each run of ``communities`` a folder
    with one graph for each model, site and layer.

    Returns
    -------
    list of Path
        The files written; a file of the same name is replaced.

    Raises
    ------
    UserError
        If no run is finished (for ``graphml``, none that has graphs), a result is damaged, or `out` cannot be written.
    """
    out = Path(out).absolute()
    written: list[Path] = []
    with Session.open(path, readonly=True) as session:
        notices = session.notices
        for run in session.runs():
            if (ds := run.result()) is None:
                continue
            with boundary(
                f"The result of {run.id} cannot be written as {format}",
                "It was not made by Eigenscope, or was changed since; choose another format, or compute it again.",
            ):
                # Names of variables and coordinates are the author's, who may be a stranger.
                for name, content in _WRITERS[format](ds):
                    target = out / safe_name(f"{run.id}{name}")
                    replace_file(target, content)
                    written.append(target)
    if not written and format == "graphml":
        raise UserError(f"“{path}” has no graphs: GraphML is for finished runs of communities. Choose another format.")
    if not written:
        raise UserError(" ".join([f"“{path}” has no finished run to export. Resume it first.", *notices]))
    return written


def _csv(ds: "xr.Dataset") -> Iterator[tuple[str, bytes]]:
    yield "/dataset.json", _description(ds).encode()
    flat = ds.reset_coords()
    for name in flat.data_vars:
        single = _without_complex(flat[[name]])
        dims = list(flat[name].dims)
        # pandas has no frame for a single value, so that gets a row of its own.
        table = (
            single.to_dataframe(dim_order=dims).reset_index() if dims else single.expand_dims("value").to_dataframe()
        )
        yield f"/{name}.csv", table.to_csv(index=False, na_rep="NaN").encode()


def _npz(ds: "xr.Dataset") -> Iterator[tuple[str, bytes]]:
    # Text of fixed length: what varies in length would need pickle to be read.
    arrays: dict[str, Any] = {
        str(name): variable.values.astype(object).astype(str) if variable.dtype.kind in "OT" else variable.values
        for name, variable in ds.variables.items()
    }
    buffer = BytesIO()
    np.savez_compressed(buffer, dataset_json=np.array(_description(ds)), **arrays)
    yield ".npz", buffer.getvalue()


def _netcdf(ds: "xr.Dataset") -> Iterator[tuple[str, bytes]]:
    ds = _without_complex(ds)
    for attrs in (ds.attrs, *(variable.attrs for variable in ds.variables.values())):
        for key, value in attrs.items():
            if isinstance(value, bool) or not isinstance(value, str | int | float):
                attrs[key] = json.dumps(value, default=str)
    yield ".nc", bytes(ds.to_netcdf(engine="netcdf4", format="NETCDF4"))


def _graphml(ds: "xr.Dataset") -> Iterator[tuple[str, bytes]]:
    if "edge_source" in ds:
        from engine.graphs.graphml import graphs

        yield from ((f"/{name}", content) for name, content in graphs(ds))


_WRITERS: "dict[Format, Callable[[xr.Dataset], Iterator[tuple[str, bytes]]]]" = {
    "csv": _csv,
    "npz": _npz,
    "netcdf": _netcdf,
    "graphml": _graphml,
}


def _without_complex(ds: "xr.Dataset") -> "xr.Dataset":
    """Each complex variable as two real ones, with a sentence about it in the attributes."""
    for name in [name for name, variable in ds.variables.items() if variable.dtype.kind == "c"]:
        parts = {f"{name}_re": ds[name].real, f"{name}_im": ds[name].imag}
        is_coord = name in ds.coords
        ds = ds.drop_vars([name]).assign(parts)
        ds = ds.set_coords(list(parts)) if is_coord else ds
        ds.attrs["complex_numbers"] = "NAME_re and NAME_im are the real and imaginary parts of the variable NAME."
    return ds


def _description(ds: "xr.Dataset") -> str:
    """Attributes, dimensions and types of everything in the Dataset, as JSON."""
    return json.dumps(ds.to_dict(data=False), indent=1, default=str)
