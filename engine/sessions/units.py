"""A labelled dataset as the files of one Zarr format 3 group, and back.

In memory, so that exactly what is checksummed is written and exactly what was checked is opened.
"""

import math
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

from engine.errors import UserError
from engine.sessions.metadata import check_chunks

if TYPE_CHECKING:
    import xarray as xr

CHUNK_BYTES = 64 * 2**20


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
        If it is not what this program writes, does not hold what it declares, or needs more memory than is free: see
        `check_chunks`. `name` is how the message calls the group.
    """
    check_chunks(files, name)
    import xarray as xr
    from zarr.core.buffer import default_buffer_prototype
    from zarr.storage import MemoryStore

    buffer = default_buffer_prototype().buffer
    store = MemoryStore({key: buffer.from_bytes(data) for key, data in files.items()}, read_only=True)
    try:
        with xr.open_zarr(store, zarr_format=3, chunks=None) as ds:
            return ds.load().drop_encoding()
    except Exception as error:  # whatever the libraries make of content that somebody made up
        raise UserError(
            f"“{name}” cannot be opened: its content cannot be decoded. It was not made by Eigenscope, or was changed "
            "since.",
            repr(error),
        ) from error
