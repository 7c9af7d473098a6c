"""How a unit of the communities analysis keeps its many small variables on disk."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr

SITES = ("attn", "mlp")
NUMBERS = ("order", "edge_source", "edge_target")
# A unit keeps its many small variables as two: every variable of a unit on disk costs files of its own.
PACKED = {"of_site": ("site",), "of_unit": ("site", "unit")}


def pack(ds: "xr.Dataset") -> "xr.Dataset":
    """Variables of the same dimensions in one, for the disk."""
    for packed, dims in PACKED.items():
        names = [name for name, variable in ds.data_vars.items() if variable.dims == dims]
        ds = ds.drop_vars(names).assign({packed: ds[names].to_array(f"{packed}_name")})
    return ds


def unpack(ds: "xr.Dataset") -> "xr.Dataset":
    """The inverse of `pack`."""
    for packed in PACKED:
        ds = ds.drop_vars(packed).merge(ds[packed].to_dataset(f"{packed}_name"))
    return ds
