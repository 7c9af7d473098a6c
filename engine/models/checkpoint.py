"""The safetensors files of a checkpoint: their headers, and one tensor at a time."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from engine.errors import UserError, reason
from engine.files import open_file
from engine.gate import parse
from engine.models.folder import LFS, entries, lfs_pointer, present, read_json, unreadable
from engine.models.header import MOST_SHARDS, MOST_TENSORS, Entry, declared, end_of, require_few
from engine.models.memory import require

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
DTYPES = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
# What the format's own reader accepts; a longer header is not a header.
MAX_HEADER = 100_000_000
LARGE_HEADER = 1_000_000
PARSED = 20
"""Bytes of memory that a byte of a header takes when it is read."""
STAMPED = 512
"""Bytes of each place of a tensor that a stamp covers."""


@dataclass(frozen=True)
class Stored:
    """One tensor as a header names it; `offsets` are bytes after `start`, and `dtype` is the format's spelling.

    What is made of several stored tensors when it is read is a subclass (`engine/models/derived.py`).
    """

    file: Path
    key: str
    dtype: str
    shape: tuple[int, ...]
    offsets: tuple[int, int]
    start: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return self.offsets[1] - self.offsets[0]

    @property
    def storage(self) -> str:
        """The format of its values on disk."""
        return self.dtype

    @property
    def parts(self) -> "tuple[Stored, ...]":
        """The stored tensors that are read for it."""
        return (self,)

    @property
    def rule(self) -> str:
        """How it is made of its parts; empty where it is what is stored."""
        return ""

    def read(self) -> Tensor:
        """Read it as it is stored, unchecked."""
        os.close(open_file(self.file))  # or it could wait for a pipe
        # pread, not mmap: mapped pages would count as ours, and a file cut short meanwhile would kill the process.
        with safe_open(self.file, framework="pt", backend="pread") as file:
            tensor: Tensor = file.get_tensor(self.key)
        return tensor


def read_headers(folder: Path) -> dict[str, Stored]:
    """Read the header of every safetensors file of a checkpoint, and no weights.

    Raises
    ------
    UserError
        If there are no safetensors weights, a shard is missing, or a file is a Git LFS pointer, truncated or damaged.
    """
    stored: dict[str, Stored] = {}
    if present(folder / SINGLE):
        return read_header(folder / SINGLE)
    if not present(folder / INDEX):
        raise UserError(no_weights(folder))
    weight_map = read_json(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise UserError(f"{folder / INDEX} has no weight_map: it is not a shard index. Download it again.")
    if not all(isinstance(name, str) for name in weight_map.values()):
        raise UserError(f"{folder / INDEX} has a weight_map whose entries are not names of files. Download it again.")
    require_few(len(weight_map), MOST_TENSORS, "tensors", folder / INDEX)
    shards = sorted(set(weight_map.values()))
    require_few(len(shards), MOST_SHARDS, "shards", folder / INDEX)
    # A shard lies beside its index: a name with a path in it could point anywhere.
    missing = [name for name in shards if not plain_name(name) or not present(folder / name)]
    if missing:
        raise UserError(
            f"Of {len(shards)} shards named in {INDEX}, {listed(missing, 'shard')} missing from {folder}: the download "
            "is incomplete. Download the model again."
        )
    for name in shards:
        stored.update(read_header(folder / name))
        require_few(len(stored), MOST_TENSORS, "tensors", folder / name)
    absent = sorted(key for key, name in weight_map.items() if key not in stored or stored[key].file.name != name)
    if absent:
        raise UserError(
            f"{INDEX} in {folder} and its shards do not belong together: {listed(absent, 'tensor')} not in the shard "
            "that it names. Download the model again."
        )
    return stored


def read_header(file: Path) -> dict[str, Stored]:
    """Read the header of one safetensors file and check it against the file's size."""
    try:
        with os.fdopen(open_file(file), "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            start = stream.read(8)
            if start == LFS[:8]:
                raise UserError(lfs_pointer(file))
            length = int.from_bytes(start, "little")
            if len(start) < 8 or size < 8 + length or length > MAX_HEADER:
                what = "is empty" if size == 0 else f"ends inside its header, at {size} bytes"
                if length > MAX_HEADER:
                    what = "does not begin with a safetensors header"
                raise UserError(f"{file} {what}: it is truncated or damaged. Download it again.")
            if length > LARGE_HEADER:
                require(PARSED * length, "cpu", f"The header of {file}")
            header = parse(stream.read(length))
    except OSError as error:
        raise UserError(unreadable(file, error)) from error
    except ValueError as error:
        raise UserError(f"{file} has a damaged header ({reason(error)}). Download it again.", str(error)) from error
    tensors = declared(file, header)
    expected = 8 + length + end_of(tensors, file)
    if size != expected:
        what = (
            f"is truncated: it holds {size:,} bytes of {expected:,}"
            if size < expected
            else "is longer than its header says"
        )
        raise UserError(f"{file} {what}. Download it again.")
    return stored_in(file, tensors, 8 + length)


def stored_in(file: Path, tensors: Mapping[str, Entry], start: int = 0) -> dict[str, Stored]:
    """The tensors of a header as those of a file whose data begin at `start`."""
    return {
        key: Stored(file, key, entry.dtype, tuple(entry.shape), (entry.data_offsets[0], entry.data_offsets[1]), start)
        for key, entry in tensors.items()
    }


def read_tensor(stored: Stored) -> Tensor:
    """Read one tensor into its own memory, in the dtype `stored` names, and check that every entry is finite.

    Raises
    ------
    UserError
        If the file cannot be read, or an entry is NaN or infinite.
    """
    try:
        tensor = stored.read()
    except OSError as error:
        raise UserError(unreadable(stored.file, error)) from error
    except SafetensorError as error:
        raise UserError(
            f"Tensor {stored.key} cannot be read: {stored.file} is damaged or changed while it was open. "
            "Download it again.",
            str(error),
        ) from error
    if (tuple(tensor.shape), tensor.dtype) != (stored.shape, DTYPES.get(stored.dtype, tensor.dtype)):
        raise UserError(f"{stored.file} changed while it was open: tensor {stored.key} is another. Open it again.")
    if not all_finite(tensor):
        raise UserError(
            f"Tensor {stored.key} in {stored.file} holds values that are not finite (NaN or infinite), so no number "
            "computed from it would mean anything. Use another checkpoint."
        )
    return tensor


def all_finite(tensor: Tensor) -> bool:
    """Whether a tensor holds no NaN and no infinity. Both show in the extremes, which take no second copy."""
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return True
    low, high = torch.aminmax(tensor)
    return bool(torch.isfinite(low) and torch.isfinite(high))


def digest(tensor: Tensor) -> bytes:
    """BLAKE2b of a CPU tensor's dtype, shape and bytes."""
    hasher = blake2b(f"{tensor.dtype}{tuple(tensor.shape)}".encode(), digest_size=32)
    hasher.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return hasher.digest()


def identity(config: Mapping[str, Any], stored: Mapping[str, Stored]) -> str:
    """Hash of a config and of headers: names, dtypes, shapes, places. It costs no read of the weights."""
    entries = sorted({(t.file.name, t.key, t.dtype, t.shape, t.offsets) for s in stored.values() for t in s.parts})
    rules = sorted((key, tensor.rule) for key, tensor in stored.items() if tensor.rule)
    text = json.dumps([config, entries, *([rules] if rules else [])], sort_keys=True)
    return blake2b(text.encode(), digest_size=16).hexdigest()


def stamp(stored: Mapping[str, Stored]) -> str:
    """Hash of a few bytes from the start, middle and end of every tensor: it tells weights of the same shapes apart.

    Raises
    ------
    UserError
        If a file cannot be read.
    """
    hasher = blake2b(digest_size=16)
    by_file: dict[Path, list[Stored]] = {}
    for part in dict.fromkeys(part for tensor in stored.values() for part in tensor.parts):
        by_file.setdefault(part.file, []).append(part)
    for file, tensors in sorted(by_file.items()):
        try:
            with os.fdopen(open_file(file), "rb", buffering=0) as stream:
                for tensor in sorted(tensors, key=lambda tensor: tensor.offsets):
                    first, last = tensor.offsets
                    for start in (first, (first + last) // 2, max(first, last - STAMPED)):
                        stream.seek(tensor.start + start)
                        hasher.update(stream.read(min(STAMPED, last - start)))
        except OSError as error:
            raise UserError(unreadable(file, error)) from error
    return hasher.hexdigest()


def no_weights(folder: Path) -> str:
    """Why a folder without safetensors is refused."""
    names = entries(folder)
    if any(name.endswith((".bin", ".pt", ".pth", ".ckpt")) for name in names):
        pickled = next(name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt")))
        return (
            f"{folder} holds only pickled weights ({pickled}), which can run code when they are read, so Eigenscope "
            "does not open them. Convert them where you trust them: AutoModel.from_pretrained(FOLDER)"
            ".save_pretrained(NEW_FOLDER) of transformers writes model.safetensors."
        )
    other = next((name for name in names if name.endswith((".gguf", ".h5", ".msgpack", ".onnx", ".safetensors"))), None)
    held = f"only {other}" if other else "no weights"
    return (
        f"{folder} holds {held}: {SINGLE} or {INDEX} is needed. Choose a folder that save_pretrained of transformers "
        "wrote, or tick the random twin, which needs only config.json."
    )


def plain_name(name: str) -> bool:
    """Whether a name is that of a file in the same folder, on every platform."""
    return name not in ("", ".", "..") and not set(name) & set("/\\:\0")


def listed(names: list[str], kind: str, most: int = 3) -> str:
    """Name a few of several culprits, with the verb they need: ``tensors a, b and 4 more are``."""
    shown = ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
    return f"{kind} {shown} is" if len(names) == 1 else f"{kind}s {shown} are"
