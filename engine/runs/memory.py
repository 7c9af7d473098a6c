"""What memory a unit used."""

import sys
import threading
from types import TracebackType
from typing import Self

import psutil

SAMPLE_SECONDS = 0.02


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
