"""A labelled dataset as the files of one Zarr format 3 group, and back.

In memory, so that exactly what is checksummed is written and exactly what was checked is opened.
"""

import json
import math
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from engine.errors import UserError

if TYPE_CHECKING:
    import xarray as xr

CHUNK_BYTES = 64 * 2**20
# What a file may ask for when it is opened. A codec or a type outside these lists is code that somebody else chose.
CODECS = {"bytes", "vlen-utf8", "zstd", "crc32c"}
ITEM_BYTES = {"bool": 1, "string": 16} | {
    f"{kind}{bits}": bits // 8
    for kind, sizes in {
        "int": (8, 16, 32, 64),
        "uint": (8, 16, 32, 64),
        "float": (16, 32, 64),
        "complex": (64, 128),
    }.items()
    for bits in sizes
}


def encode(ds: "xr.Dataset") -> dict[str, bytes]:
    """The files of a Zarr group that ``xarray.open_zarr`` opens in one line and without warnings.

    Every chunk is written (also empty ones, so that a missing file is always damage), compressed by zstd and then
    protected by crc32c. Metadata is consolidated. Text is stored with variable length: Zarr format 3 has no
    specification for text of a fixed length.
    """
    import numpy as np
    from zarr.codecs import Crc32cCodec, ZstdCodec
    from zarr.core.buffer import Buffer
    from zarr.errors import ZarrUserWarning
    from zarr.storage import MemoryStore

    ds = ds.drop_encoding()
    text = [name for name, variable in ds.variables.items() if variable.dtype.kind == "U"]
    ds = ds.assign_coords({name: ds[name].astype(np.dtypes.StringDType()) for name in text if name in ds.coords})
    ds = ds.assign({name: ds[name].astype(np.dtypes.StringDType()) for name in text if name in ds.data_vars})
    encoding = {
        name: {
            "compressors": (ZstdCodec(level=3), Crc32cCodec()),
            "chunks": _chunks(variable.shape, variable.dtype.itemsize),
        }
        for name, variable in ds.variables.items()
    }
    files: dict[str, Buffer] = {}
    with warnings.catch_warnings():
        # It says that consolidated metadata may change; readers that do not know it read the same store without.
        warnings.simplefilter("ignore", ZarrUserWarning)
        ds.to_zarr(
            MemoryStore(files),
            mode="w-",
            zarr_format=3,
            consolidated=True,
            write_empty_chunks=True,
            encoding=encoding,
        )
    return {name: files[name].to_bytes() for name in sorted(files)}


def _chunks(shape: tuple[int, ...], item_bytes: int) -> tuple[int, ...]:
    """One chunk for each array, or of at most CHUNK_BYTES: the leading dimensions are cut first."""
    chunks = [max(1, n) for n in shape]
    for axis in range(len(chunks)):
        rest = item_bytes * math.prod(chunks[axis + 1 :])
        chunks[axis] = max(1, min(chunks[axis], CHUNK_BYTES // rest))
    return tuple(chunks)


def decode(files: Mapping[str, bytes], name: str) -> "xr.Dataset":
    """Open the files of a group, in memory, once their metadata has been found harmless.

    Raises
    ------
    UserError
        If the metadata is not Zarr format 3, asks for a codec or a data type that this program does not write, or
        declares more than this machine's memory. `name` is how the message calls the group.
    """
    check_metadata(files, name)
    import xarray as xr
    from zarr.core.buffer import default_buffer_prototype
    from zarr.storage import MemoryStore

    buffer = default_buffer_prototype().buffer
    store = MemoryStore({key: buffer.from_bytes(data) for key, data in files.items()}, read_only=True)
    with xr.open_zarr(store, zarr_format=3, chunks=None) as ds:
        return ds.load().drop_encoding()


def check_metadata(files: Mapping[str, bytes], name: str) -> None:
    """Look at every ``zarr.json`` before anything opens it: see `decode`."""
    import psutil

    total = 0
    for key, data in files.items():
        base = key.rsplit("/", 1)[-1]
        if base in {".zarray", ".zgroup", ".zattrs", ".zmetadata"}:
            raise _refused(name, "it is a Zarr format 2 store, which can name code to run")
        if base == "zarr.json":
            try:
                total += _declared_bytes(json.loads(data), name)
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                raise _refused(name, "its metadata cannot be understood") from error
    if "zarr.json" not in files:
        raise _refused(name, "it is not a Zarr format 3 group")
    if total > psutil.virtual_memory().total:
        raise UserError(f"“{name}” cannot be opened: it needs {total / 1e9:.1f} GB, more than this machine's memory.")


def _declared_bytes(node: dict[str, Any], name: str) -> int:
    if node["zarr_format"] != 3:
        raise _refused(name, "it is not in Zarr format 3")
    if node["node_type"] == "group":
        inside = (node.get("consolidated_metadata") or {"metadata": {}})["metadata"]
        for child in inside.values():
            _declared_bytes(child, name)
        return 0
    unknown = {codec["name"] for codec in node["codecs"]} - CODECS
    unknown |= {str(node["data_type"])} - set(ITEM_BYTES)
    if unknown or node.get("storage_transformers"):
        what = "”, “".join(sorted(unknown)) or "storage transformers"
        raise _refused(name, f"it asks for “{what}”, which this program never writes")
    return math.prod(int(n) for n in node["shape"]) * ITEM_BYTES[node["data_type"]]


def _refused(name: str, why: str) -> UserError:
    return UserError(f"“{name}” was not opened: {why}. It was not made by Eigenscope, or was changed since.")
