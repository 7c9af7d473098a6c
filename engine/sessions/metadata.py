"""What a Zarr group declares, looked at before anything of it is built: codecs, types, shapes, chunks, sizes."""

import json
import math
from collections.abc import Collection, Iterator, Mapping
from itertools import product
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from engine.errors import UserError
from engine.gate import parse
from engine.printable import printable
from engine.sessions.tree import free_memory

# What a file may ask for when it is opened. A codec or a type outside these lists is code that somebody else chose.
CODECS = {"bytes", "vlen-utf8", "zstd", "crc32c"}
TEXT = "string"
ITEM_BYTES = {"bool": 1, TEXT: 16} | {
    f"{kind}{bits}": bits // 8
    for kind, sizes in {
        "int": (8, 16, 32, 64),
        "uint": (8, 16, 32, 64),
        "float": (16, 32, 64),
        "complex": (64, 128),
    }.items()
    for bits in sizes
}
NODE = "zarr.json"
V2 = {".zarray", ".zgroup", ".zattrs", ".zmetadata"}


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class _ChunkShape(_Strict):
    chunk_shape: list[PositiveInt] = Field(max_length=32)


class _Grid(_Strict):
    name: Literal["regular"]
    configuration: _ChunkShape


class _Separator(_Strict):
    separator: Literal["/"] = "/"


class _Keys(_Strict):
    name: Literal["default"]
    configuration: _Separator = _Separator()


class _Array(_Strict):
    """An array's ``zarr.json``, as far as it decides what is built."""

    shape: list[NonNegativeInt] = Field(max_length=32)
    data_type: str
    chunk_grid: _Grid
    chunk_key_encoding: _Keys

    @property
    def chunk_shape(self) -> list[int]:
        return self.chunk_grid.configuration.chunk_shape

    @property
    def chunk_bytes(self) -> int:
        return math.prod(self.chunk_shape) * ITEM_BYTES[self.data_type]

    @property
    def bytes(self) -> int:
        """What it takes up in memory while it is read."""
        return max(math.prod(self.shape) * ITEM_BYTES[self.data_type], self.chunk_bytes)

    @property
    def grid(self) -> list[int]:
        """How many chunks there are along each dimension."""
        return [-(-n // chunk) for n, chunk in zip(self.shape, self.chunk_shape, strict=True)]

    def chunk_names(self, name: str) -> Iterator[str]:
        """The files of its chunks, where the array is called `name`."""
        return ("/".join([name, "c", *map(str, index)]) for index in product(*map(range, self.grid)))


def check_metadata(metadata: Mapping[str, bytes], names: Collection[str], name: str) -> None:
    """Look at what a group declares before anything opens it.

    Parameters
    ----------
    metadata : mapping
        The content of its files of metadata: see `is_metadata`.
    names : collection of str
        All its files.
    name : str
        How the message calls it.

    Raises
    ------
    UserError
        If the metadata is not Zarr format 3, asks for a codec or a data type that this program does not write,
        disagrees with itself or with the files, or declares more than this machine's memory.
    """
    _arrays(metadata, names, name)


def check_chunks(files: Mapping[str, bytes], name: str) -> None:
    """Look at a group with all its content: as `check_metadata`, and at what its chunks would inflate to."""
    arrays = _arrays({key: data for key, data in files.items() if is_metadata(key)}, files.keys(), name)
    total = sum(array.bytes for array in arrays.values())
    for child, array in arrays.items():
        for key in array.chunk_names(child):
            inflated = inflated_bytes(files[key])
            if inflated is None or (array.data_type != TEXT and inflated != array.chunk_bytes):
                raise _refused(name, f"its file “{key}” does not hold what the metadata declares")
            total += inflated if array.data_type == TEXT else 0
    if total > free_memory():
        raise UserError(
            f"“{name}” cannot be opened: it needs {total / 1e9:.1f} GB, more than the memory that is free now. "
            "Close other programs and try again."
        )


def is_metadata(name: str) -> bool:
    """Whether a file of a group says how others are read."""
    return name.rsplit("/", 1)[-1].startswith((".z", NODE))


def inflated_bytes(frame: bytes) -> int | None:
    """How large the content of a Zstandard frame says it is (RFC 8878, 3.1.1.1); None if it does not say."""
    if len(frame) < 6 or frame[:4] != b"\x28\xb5\x2f\xfd":
        return None
    size_flag, single, dictionary = frame[4] >> 6, frame[4] >> 5 & 1, frame[4] & 3
    start = 5 + (not single) + (0, 1, 2, 4)[dictionary]
    length = (single, 2, 4, 8)[size_flag]
    if not length or len(frame) < start + length:
        return None
    return int.from_bytes(frame[start : start + length], "little") + (256 if length == 2 else 0)


def _arrays(metadata: Mapping[str, bytes], names: Collection[str], name: str) -> dict[str, _Array]:
    """The arrays of a group by their names, once they are found harmless."""
    if any(key.rsplit("/", 1)[-1] in V2 for key in metadata):
        raise _refused(name, "it is a Zarr format 2 store, which can name code to run")
    try:
        own = {key.removesuffix(NODE).rstrip("/"): parse(data) for key, data in metadata.items()}
        inside = (own.get("", {}).get("consolidated_metadata") or {}).get("metadata")
        groups = [{child: _array(node, name) for child, node in nodes.items()} for nodes in (own, inside or {})]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _refused(name, "its metadata cannot be understood") from error
    if "" not in own:
        raise _refused(name, "it is not a Zarr format 3 group")
    total = max(sum(array.bytes for array in group.values() if array) for group in groups)
    if total > _memory():
        raise UserError(f"“{name}” cannot be opened: it needs {total / 1e9:.1f} GB, more than this machine's memory.")
    del own[""]
    if inside is not None and _canonical(inside) != _canonical(own):
        raise _refused(name, "its metadata contradicts itself")
    arrays = {child: array for child, array in groups[0].items() if array}
    for child, array in arrays.items():
        if math.prod(array.grid) > len(names) or any(key not in names for key in array.chunk_names(child)):
            raise _refused(name, f"it declares parts of “{child}” that are not there")
    return arrays


def _array(node: dict[str, Any], name: str) -> _Array | None:
    """A node as an array; None for a group."""
    if node["zarr_format"] != 3:
        raise _refused(name, "it is not in Zarr format 3")
    if node["node_type"] == "group":
        return None
    codecs = [codec["name"] for codec in node["codecs"]]
    unknown = {str(codec) for codec in codecs} - CODECS
    unknown |= {str(node["data_type"])} - set(ITEM_BYTES)
    if unknown or node.get("storage_transformers"):
        what = "”, “".join(sorted(map(printable, unknown))) or "storage transformers"
        raise _refused(name, f"it asks for “{what}”, which this program never writes")
    array = _Array.model_validate(node)
    # Exactly these, so that nothing inflates twice and the size of a chunk can be read at its start.
    if codecs != ["vlen-utf8" if array.data_type == TEXT else "bytes", "zstd", "crc32c"]:
        raise ValueError("its codecs do not fit")
    if len(array.shape) != len(array.chunk_shape):
        raise ValueError("its chunks do not fit")
    return array


def _canonical(nodes: dict[str, Any]) -> str:
    return json.dumps(nodes, sort_keys=True)


def _memory() -> int:
    import psutil

    return int(psutil.virtual_memory().total)


def _refused(name: str, why: str) -> UserError:
    return UserError(f"“{name}” was not opened: {why}. It was not made by Eigenscope, or was changed since.")
