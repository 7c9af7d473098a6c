"""Token ids from a ``.npy`` file: its header is read first, then only the rows that are drawn."""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from engine.data.encoding import PAD
from engine.data.splits import Split, divide
from engine.data.texts import existing
from engine.errors import UserError
from engine.files import open_file
from engine.request import DataSpec

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def ids_shape(spec: DataSpec) -> tuple[int, int]:
    """How many rows a ``.npy`` file of token ids has, and how many ids a row; raises as `given_rows`."""
    rows, width = _mapped(existing(spec.source)).shape
    return rows, width


def given_rows(
    spec: DataSpec,
    vocab_size: int | None,
    split: Split = "all",
    *,
    most: int | None = None,
    width: int | None = None,
    seed: int = 0,
) -> NDArray[np.int64]:
    """The rows of a ``.npy`` file of token ids, checked, or those of one split, in the file's order.

    Parameters
    ----------
    vocab_size : int or None
        How many ids the model knows.
    most, width : int, optional
        Draw so many of them, from the seed; so many ids of each.

    Returns
    -------
    (N, T) int64 array
        Padded with −1.

    Raises
    ------
    UserError
        If it is no array of ids, or an id drawn is not one that the model knows.
    """
    path = existing(spec.source)
    mapped = _mapped(path)
    numbers = np.arange(len(mapped))
    if split != "all":
        if len(mapped) < 2:
            raise UserError(f"“{path.name}” has one row of token ids, so no part of it can be held out.")
        numbers = np.sort(divide(len(mapped))[split == "test"])
    if most is not None:
        numbers = numbers[np.sort(np.random.default_rng(seed).permutation(len(numbers))[:most])]
    ids = mapped[numbers, :width]
    return _checked(ids, numbers, path.name, vocab_size)


def _mapped(path: Path) -> NDArray[Any]:
    """The array of a file, mapped into memory: nothing is read or allocated for what its header declares."""
    with os.fdopen(open_file(path), "rb") as file:
        try:
            shape, fortran, dtype = _HEADERS[npy.read_magic(file)](file)
        except Exception as error:  # the header is a Python literal, which can fail in every way that a parser can
            raise UserError(
                f"“{path.name}” is not a NumPy array of numbers; save the ids with numpy.save.", repr(error)
            ) from None
        if dtype.kind not in "iu" or len(shape) != 2 or min(shape) < 1:
            shown = f"{dtype} of shape {shape}"
            shown = shown if len(shown) < 100 else "something else"
            raise UserError(
                f"“{path.name}” holds {shown}; it must be integers of shape samples × tokens, written by numpy.save."
            )
        start = file.tell()
        if math.prod(shape) * dtype.itemsize > os.fstat(file.fileno()).st_size - start:
            raise UserError(f"“{path.name}” was cut off: its header promises more ids than it holds.")
        return np.memmap(file, dtype, "r", start, shape, "F" if fortran else "C")


def _checked(ids: NDArray[Any], numbers: NDArray[np.int64], name: str, vocab_size: int | None) -> NDArray[np.int64]:
    """Rows `numbers` of the file, as int64."""

    def first(bad: Any) -> int | None:
        return int(np.flatnonzero(bad)[0]) if bad.any() else None

    known = vocab_size if vocab_size is not None else 2**63
    if (row := first((ids >= known).any(1))) is not None:
        raise UserError(
            f"Row {numbers[row]} of “{name}” has id {ids[row].max()}, but this model knows only 0 to {known - 1}; the "
            "ids were made with another tokenizer."
        )
    ids = np.ascontiguousarray(ids, np.int64)
    if (row := first((ids < PAD).any(1))) is not None:
        raise UserError(f"Row {numbers[row]} of “{name}” has a negative id other than −1, which pads; check the file.")
    pads = ids == PAD
    if (row := first(pads[:, 0] | (pads[:, :-1] & ~pads[:, 1:]).any(1))) is not None:
        raise UserError(f"Row {numbers[row]} of “{name}” is empty or has a token after a pad; −1 may only end a row.")
    return ids
