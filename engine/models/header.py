"""What the header of a safetensors file says of its tensors, and whether it can be true."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from engine.errors import UserError

METADATA = "__metadata__"
MOST_TENSORS = 250_000
MOST_SHARDS = 10_000
# Of one entry in every dtype of the format.
BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6} | {
    dtype: bits
    for bits, dtypes in {
        8: "BOOL U8 I8 F8_E5M2 F8_E4M3 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ",
        16: "I16 U16 F16 BF16",
        32: "I32 U32 F32",
        64: "I64 U64 F64 C64",
    }.items()
    for dtype in dtypes.split()
}
Extent = Annotated[int, Field(ge=0, lt=2**62)]


class Entry(BaseModel):
    """One tensor: `data_offsets` are its first byte after the header and the one behind its last."""

    model_config = ConfigDict(strict=True, extra="forbid")

    dtype: str
    shape: Annotated[list[Extent], Field(max_length=64)]
    data_offsets: Annotated[list[Extent], Field(min_length=2, max_length=2)]


_ENTRIES = TypeAdapter(dict[str, Entry])


def declared(file: Path, header: Any) -> dict[str, Entry]:
    """What a header says of its tensors, by name, if it says it in the format's way.

    Raises
    ------
    UserError
        For a value of another kind, a shape that does not take the bytes given to it, more tensors than any model has.
    """
    entries = {key: entry for key, entry in header.items() if key != METADATA} if isinstance(header, dict) else header
    try:
        tensors = _ENTRIES.validate_python(entries)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = " → ".join(map(str, wrong["loc"]))
        what = f"{where}: {wrong['msg']}" if where else "it is no JSON object"
        raise UserError(f"{file} has a damaged header ({what}). Download it again.", str(error)) from error
    require_few(len(tensors), MOST_TENSORS, "tensors", file)
    for key, entry in tensors.items():
        first, last = entry.data_offsets
        bits = math.prod(entry.shape) * BITS.get(entry.dtype, 0)
        if last < first or (entry.dtype in BITS and bits != 8 * (last - first)):
            raise UserError(
                f"{file} has a damaged header: tensor {key} of shape {entry.shape} does not take the bytes that are "
                "given to it. Download it again."
            )
    return tensors


def require_few(count: int, most: int, what: str, file: Path) -> None:
    """Refuse a file that names more than any model has: matching names takes a time in proportion.

    Raises
    ------
    UserError
        If `count` is larger than `most`.
    """
    if count > most:
        raise UserError(
            f"{file} names {count:,} {what}, and no model has more than {most:,}: it is damaged, or no model's. Choose "
            "another model."
        )


def end_of(tensors: Mapping[str, Entry], file: Path) -> int:
    """Where the last tensor of a file ends, if they lie one behind the other from the start.

    Raises
    ------
    UserError
        If some overlap or leave a gap.
    """
    end = 0
    for key, entry in sorted(tensors.items(), key=lambda item: item[1].data_offsets):
        if entry.data_offsets[0] != end:
            raise UserError(
                f"{file} has a damaged header: tensor {key} does not begin where the one before it ends. Download it "
                "again."
            )
        end = entry.data_offsets[1]
    return end
