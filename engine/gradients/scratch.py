"""Scratch storage for a matrix of few rows and very many columns: written by rows, read by blocks of columns."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.errors import UserError
from engine.models.memory import gigabytes

BLOCK_BYTES = 2**26  # memory budget of one block of columns in fp64


class Scratch:
    """Rows on disk, or in memory below `memory` bytes; the file is deleted with the object.

    Parameters
    ----------
    rows, columns : int
    dtype : torch.dtype
        float32 or float64.
    memory : int
        Memory budget in bytes before spilling to disk.
    """

    def __init__(self, rows: int, columns: int, dtype: torch.dtype, memory: int = 2**26) -> None:
        self._rows, self._columns = rows, columns
        self._dtype = np.dtype(str(dtype).removeprefix("torch."))
        self._width = min(columns, max(1, BLOCK_BYTES // (8 * rows)))
        self._file = tempfile.SpooledTemporaryFile(max_size=memory, dir=folder())  # noqa: SIM115
        # Reserve the full size: unwritten rows read as zeros.
        self._file.seek(rows * columns * self._dtype.itemsize - 1)
        self._file.write(b"\0")

    def write(self, row: int, values: Tensor) -> None:
        """Write one row, replacing what it held."""
        flat = values.detach().reshape(-1).cpu().numpy().astype(self._dtype, copy=False)
        try:
            for start in range(0, self._columns, self._width):
                piece = flat[start : start + self._width]
                self._file.seek((self._rows * start + row * len(piece)) * self._dtype.itemsize)
                self._file.write(piece.tobytes())
        except OSError as error:
            raise _full(error) from error

    def blocks(self, rows: Sequence[int]) -> Iterator[Tensor]:
        """The chosen rows by blocks of columns, (len(rows), w) each."""
        chosen = np.asarray(rows, dtype=np.intp)
        for start in range(0, self._columns, self._width):
            width = min(self._width, self._columns - start)
            self._file.seek(self._rows * start * self._dtype.itemsize)
            raw = self._file.read(self._rows * width * self._dtype.itemsize)
            block = np.frombuffer(raw, self._dtype).reshape(self._rows, width)
            yield torch.from_numpy(block[chosen])

    def close(self) -> None:
        """Free the space."""
        self._file.close()


def folder() -> str:
    """Folder for large temporary files; not /tmp, which is often in memory."""
    return os.environ.get("TMPDIR") or ("/var/tmp" if Path("/var/tmp").is_dir() else tempfile.gettempdir())


def require_space(needed: int) -> None:
    """Refuse gradients that do not fit on the disk during the run.

    Raises
    ------
    UserError
        If `needed` bytes are more than is free.
    """
    free = shutil.disk_usage(folder()).free
    if needed > free:
        raise UserError(
            f"The gradients need {gigabytes(needed)} of temporary space and {folder()} has {gigabytes(free)}. Choose "
            "fewer samples or a single layer's weight, or set TMPDIR to a folder with more space."
        )


def _full(error: OSError) -> UserError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            f"The disk of {folder()} is full, so the gradients could not be kept there. Free space, or set TMPDIR to "
            "another folder, and resume the run.",
            str(error),
        )
    return UserError(f"Gradients could not be written to {folder()}: {error.strerror or error}.", str(error))
