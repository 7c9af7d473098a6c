"""A GGUF file: its header, checked before the library reads it, and its tensors, dequantised one at a time.

Names, shapes and values follow transformers' own reader (`gguf_file=` of `from_pretrained`), which needs the whole
model in memory; here a tensor is read when it is asked for.
"""

import copy
import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor
from transformers import CONFIG_MAPPING, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import is_gguf_available

from engine.errors import UserError, boundary, reason
from engine.files import open_file
from engine.models.checkpoint import MAX_HEADER, Stored
from engine.models.config import Architecture, architecture_of, quiet
from engine.models.config_values import require_sound
from engine.models.derived import derive
from engine.models.folder import LFS, lfs_pointer, present, unreadable
from engine.models.header import MOST_TENSORS

# What a vocabulary of a million tokens takes; a file with more is not a model's.
MAX_STRINGS = 5_000_000
WIDTHS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
# Facts that the library's reader passes over for some architectures, by the config's names for them.
LEFT_OUT = {"context_length": "max_position_embeddings", "attention.key_length": "head_dim"}
# Tables for rotary positions that the library computes from the config.
COMPUTED = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")


@dataclass(frozen=True)
class Blocks(Stored):
    """One tensor of a GGUF file; `dtype` is ggml's name for its blocks."""

    def read(self) -> Tensor:
        """Read the bytes of its blocks, row by row."""
        rows = math.prod(self.shape[:-1])
        with os.fdopen(open_file(self.file), "rb") as stream:
            data = np.fromfile(stream, np.uint8, self.nbytes, offset=self.start + self.offsets[0])
        return torch.from_numpy(data.reshape(rows, -1))


@dataclass(frozen=True)
class Header:
    """What a GGUF file says before its tensors: the values of its metadata (arrays left out), and the tensors."""

    metadata: Mapping[str, Any]
    tensors: Mapping[str, Blocks]


def read_architecture(file: Path) -> Architecture:
    """The config that the library makes of a GGUF file, after checks of the file and of its architecture.

    Raises
    ------
    UserError
        If the file is damaged, or the library has no reader for its architecture or for GGUF.
    """
    header = read_header(file)
    named = str(header.metadata.get("general.architecture"))
    if int(header.metadata.get("split.count", 1)) > 1:
        raise UserError(
            f"{file} is one part of a model in several files. Put them together with "
            "`llama-gguf-split --merge`, and open the one file."
        )
    status = file.stat()
    with (
        quiet(),
        boundary(
            f"transformers cannot read the GGUF file {file} of the architecture {named}",
            "Choose the safetensors version of the model.",
        ),
    ):
        raw = _config(file, status.st_size, status.st_mtime_ns)
    raw = copy.deepcopy(raw)
    config = CONFIG_MAPPING[raw["model_type"]]() if raw.get("model_type") in CONFIG_MAPPING else None
    for key, name in LEFT_OUT.items():
        value = header.metadata.get(f"{named}.{key}")
        if value is not None and hasattr(config, name):
            raw.setdefault(name, value)
    require_sound(raw, file)
    return architecture_of(raw, f"the metadata of {file}")


@lru_cache(maxsize=8)
def _config(file: Path, size: int, changed: int) -> dict[str, Any]:
    """The library's config of a file; its size and time of change tell when to read it anew."""
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    config: dict[str, Any] = load_gguf_checkpoint(str(file), return_tensors=False)["config"]
    return config


def read_tensors(
    file: Path, architecture: Architecture, skeleton: PreTrainedModel
) -> tuple[dict[str, Stored], tuple[str, ...]]:
    """The file's tensors under the library's names, each dequantised when it is read; and what the user should know."""
    from gguf import GGMLQuantizationType, dequantize
    from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor, get_gguf_hf_weights_map

    header = read_header(file)
    kind = str(header.metadata["general.architecture"])
    processor = TENSOR_PROCESSORS.get(kind, TensorProcessor)(config=architecture.raw)
    try:
        names = get_gguf_hf_weights_map(_Named(skeleton), processor)
    except (NotImplementedError, AttributeError) as error:
        raise UserError(
            f"The names of the tensors in {file} cannot be read: {reason(error)}. Choose the safetensors version "
            "of the model.",
            repr(error),
        ) from error
    wanted = {name: tuple(tensor.shape) for name, tensor in skeleton.state_dict().items()}
    parts: dict[str, list[Blocks]] = {}
    for key, blocks in header.tensors.items():
        if key not in COMPUTED:
            # An unknown tensor keeps its own name, and is refused by it.
            parts.setdefault(names.get(key) or names.get(key.removesuffix(".weight")) or key, []).append(blocks)

    def read_by(name: str, made_of: list[Blocks], shape: tuple[int, ...]) -> Stored:
        def make(*raw: Tensor) -> Tensor:
            collected: dict[str, dict[str, Tensor]] = {"tensors": {}}
            for blocks, data in zip(made_of, raw, strict=True):
                values = dequantize(data.numpy(), GGMLQuantizationType[blocks.dtype]).reshape(blocks.shape)
                result = processor.process(
                    weights=values, name=blocks.key, tensor_key_mapping=names, parsed_parameters=collected
                )
                if result.name is not None:
                    collected["tensors"][name] = torch.from_numpy(np.array(result.weights, np.float32))
            tensor = collected["tensors"][name].float()
            if tuple(tensor.shape) != shape:
                raise ValueError(f"it has shape {tuple(tensor.shape)} and not {shape}")
            return tensor.contiguous()

        return derive(name, made_of, shape, f"dequantising {made_of[0].dtype}", make)

    stored = {}
    for name, made_of in parts.items():
        shape, here = wanted.get(name), made_of[0].shape
        # The reader may turn a matrix, or put two into one: then it is the number of entries that must agree.
        fits = shape is not None and math.prod(shape) == sum(math.prod(blocks.shape) for blocks in made_of)
        stored[name] = read_by(name, made_of, shape if shape is not None and fits else here)
    return stored, notices(header)


class _Named:
    """The names of a model's tensors and of its base's, without the modules below, each of which the library asks."""

    def __init__(self, model: PreTrainedModel, *, whole: bool = True) -> None:
        self.config = model.config.get_text_config()
        self.state_dict = model.state_dict
        base = model.base_model_prefix
        self.children = [(base, _Named(getattr(model, base), whole=False))] if whole and hasattr(model, base) else []

    def named_children(self) -> list[tuple[str, "_Named"]]:
        return self.children


def notices(header: Header) -> tuple[str, ...]:
    """What the numbers leave out of what the file says."""
    scaling = [key for key in header.metadata if ".rope.scaling." in key and header.metadata[key] not in ("none", 1.0)]
    if any(key in header.tensors for key in COMPUTED) or scaling:
        return (
            "The file scales its rotary positions, which transformers' reader of GGUF leaves out: what runs the model "
            "differs from llama.cpp at a distance; its weights are the same.",
        )
    return ()


def load_tokenizer(file: Path) -> PreTrainedTokenizerFast:
    """The tokenizer in a GGUF file.

    Raises
    ------
    UserError
        If there is none that the library can read.
    """
    status = file.stat()
    with (
        quiet(),
        boundary(
            f"Data must be token ids (a .npy file), because the tokenizer in {file} cannot be loaded",
            "To read text, open the safetensors version of the model.",
        ),
    ):
        return copy.deepcopy(_tokenizer(file, status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=2)
def _tokenizer(file: Path, size: int, changed: int) -> PreTrainedTokenizerFast:
    """The library's tokenizer of a file; its size and time of change tell when to read it anew."""
    # Not by from_pretrained, which would take a tokenizer that lies beside the file for another model.
    return PreTrainedTokenizerFast(name_or_path=str(file.parent), gguf_file=file.name, local_files_only=True)


def read_header(file: Path) -> Header:
    """Read a GGUF file's header, with bounds on everything that it could claim to hold.

    Raises
    ------
    UserError
        If the package that reads GGUF is missing, or the file is not a GGUF file, damaged or truncated.
    """
    if not is_gguf_available():
        raise UserError(
            f"{file} is a GGUF file, and the package gguf that reads them is not installed. Install it with "
            "`pip install gguf`, or open the safetensors version of the model."
        )
    if not present(file):
        raise UserError(f"There is no file {file}. Check its name.")
    try:
        with os.fdopen(open_file(file), "rb") as stream:
            return _Reader(stream, file).header()
    except OSError as error:
        raise UserError(unreadable(file, error)) from error
    except (struct.error, UnicodeDecodeError, ValueError, OverflowError, KeyError) as error:
        raise UserError(f"{file} has a damaged header. Download it again.", repr(error)) from error


class _Reader:
    """Reads a header from a stream, and refuses one that no model has."""

    def __init__(self, stream: BinaryIO, file: Path) -> None:
        self.stream = stream
        self.file = file
        self.size = file.stat().st_size
        self.strings = 0

    def header(self) -> Header:
        magic = self.stream.read(4)
        if magic == LFS[:4]:
            raise UserError(lfs_pointer(self.file))
        if magic != b"GGUF":
            raise UserError(f"{self.file} is not a GGUF file: it does not begin like one. Download it again.")
        version, n_tensors, n_values = self.unpack("IQQ")
        if version not in (2, 3):
            raise UserError(f"{self.file} is of GGUF version {version}, and 2 or 3 is read. Convert the model again.")
        if max(n_tensors, n_values) > MOST_TENSORS:
            raise ValueError(f"{n_tensors} tensors and {n_values} values")
        metadata = {}
        for _ in range(n_values):
            key = self.string()
            metadata[key] = self.value(*self.unpack("I"))
        tensors = [self.tensor() for _ in range(n_tensors)]
        alignment = int(metadata.get("general.alignment") or 32)
        start = -(-self.stream.tell() // alignment) * alignment
        named = {key: Blocks(self.file, key, dtype, shape, at, start) for key, dtype, shape, at in tensors}
        if len(named) < len(tensors):
            raise ValueError("a tensor is there twice")
        expected = start + max((tensor.offsets[1] for tensor in named.values()), default=0)
        if not named or self.size < expected:
            what = f"is truncated: it holds {self.size:,} bytes of {expected:,}" if named else "holds no tensors"
            raise UserError(f"{self.file} {what}. Download it again.")
        return Header(metadata, named)

    def tensor(self) -> tuple[str, str, tuple[int, ...], tuple[int, int]]:
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize

        name = self.string()
        (rank,) = self.unpack("I")
        if not 1 <= rank <= 8:
            raise ValueError(f"{name} has {rank} dimensions")
        shape = tuple(reversed(self.unpack(f"{rank}Q")))
        number, offset = self.unpack("IQ")
        if number not in GGMLQuantizationType.__members__.values():
            raise UserError(
                f"Tensor {name} in {self.file} is of ggml type {number}, which the package gguf does not know. "
                "Update gguf, or choose another quantisation of the model."
            )
        kind = GGMLQuantizationType(number)
        per_block, block_bytes = GGML_QUANT_SIZES[kind]
        try:
            dequantize(np.zeros((1, block_bytes), np.uint8), kind)
        except NotImplementedError as error:
            raise UserError(
                f"Tensor {name} in {self.file} is stored as {kind.name}, which the package gguf cannot dequantise. "
                "Choose another quantisation of the model.",
                str(error),
            ) from error
        if shape[-1] % per_block or 0 in shape:
            raise ValueError(f"{name} of shape {shape} is not made of {kind.name} blocks")
        return name, kind.name, shape, (offset, offset + math.prod(shape) // per_block * block_bytes)

    def value(self, kind: int) -> Any:
        """One value of the metadata; None for an array, which is passed over."""
        if kind in WIDTHS:
            return self.unpack(WIDTHS[kind])[0]
        if kind == STRING:
            return self.string()
        if kind != ARRAY:
            raise ValueError(f"a value of type {kind}")
        of, count = self.unpack("IQ")
        if of in WIDTHS:
            self.skip(count * struct.calcsize(WIDTHS[of]))
        elif of == STRING:
            for _ in range(count):
                self.string(keep=False)
        else:
            raise ValueError(f"an array of type {of}")
        return None

    def string(self, *, keep: bool = True) -> str:
        self.strings += 1
        if self.strings > MAX_STRINGS:
            raise ValueError(f"more than {MAX_STRINGS} strings")
        (length,) = self.unpack("Q")
        if not keep:
            self.skip(length)
            return ""
        self.within(length)
        return self.stream.read(length).decode()

    def unpack(self, form: str) -> tuple[Any, ...]:
        return struct.unpack(f"<{form}", self.stream.read(struct.calcsize(f"<{form}")))

    def skip(self, count: int) -> None:
        self.within(count)
        self.stream.seek(count, 1)

    def within(self, count: int) -> None:
        """Refuse to go beyond the end of the file, or of what a header can be."""
        if self.stream.tell() + count > min(self.size, MAX_HEADER):
            raise ValueError("it goes on beyond the end")
