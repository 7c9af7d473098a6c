"""What memory there is, what a unit used, and what to say when there is not enough."""

import gc
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from engine.errors import UserError

SAMPLE_SECONDS = 0.02


def human(count: float) -> str:
    """Bytes as a person reads them: ``1.1 GB`` (powers of ten, as disks and GPUs are sold)."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} bytes"


def free_bytes(device: str) -> int:
    """Memory that a unit may still take on `device` (``cpu`` or ``cuda``)."""
    if device == "cuda":
        import torch

        return torch.cuda.mem_get_info()[0]
    available = psutil.virtual_memory().available
    return min([available, *_group_headroom()])


def _group_headroom() -> list[int]:
    """What its control groups leave this process: a container or a cluster job is killed there."""
    try:
        group = Path("/proc/self/cgroup").read_text().splitlines()[-1].split("::", 1)[1]
    except (OSError, IndexError):
        return []
    root = Path("/sys/fs/cgroup")
    here = root / group.lstrip("/")
    headroom = []
    for folder in (here, *here.parents):
        if folder.is_relative_to(root):
            try:
                limit = int((folder / "memory.max").read_text())
                headroom.append(max(0, limit - int((folder / "memory.current").read_text())))
            except (OSError, ValueError):  # no limit here ("max"), or the group is not visible from inside
                continue
    return headroom


def require(needed: int, device: str, what: str) -> None:
    """Refuse before starting what would run out of memory later.

    Raises
    ------
    UserError
        With both numbers, when `needed` bytes are not free on `device`.
    """
    free = free_bytes(device)
    if needed > free:
        where, advice = (
            ("on the GPU", "Run on the CPU instead, or free the GPU")
            if device == "cuda"
            else ("in this machine", "Close other programs, choose a smaller model, or use a machine with more memory")
        )
        raise UserError(f"{what} needs about {human(needed)} of memory and {human(free)} is free {where}. {advice}.")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` means that an allocation failed, on the CPU or on the GPU."""
    if isinstance(error, MemoryError):
        return True
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)  # torch's CPU allocator


def release() -> None:
    """Give back what no longer has an owner, the GPU's cached blocks included."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


class PeakMemory:
    """The highest memory of this process while a block runs: resident on the CPU, allocated on the GPU.

    The resident memory is sampled: the operating system's own high-water mark never falls, so it would charge a small
    unit with an earlier, larger one.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._process = psutil.Process()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.bytes = 0
        self.gpu_bytes = 0

    def _watch(self) -> None:
        while True:
            self._sample()
            if self._done.wait(SAMPLE_SECONDS):
                return

    def _sample(self) -> None:
        self.bytes = max(self.bytes, self._process.memory_info().rss)

    def __enter__(self) -> Self:
        if self._device == "cuda":
            sys.modules["torch"].cuda.reset_peak_memory_stats()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        self._sample()
        if self._device == "cuda":
            self.gpu_bytes = sys.modules["torch"].cuda.max_memory_allocated()
