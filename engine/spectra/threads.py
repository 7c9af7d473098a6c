"""Many small computations in parallel on the CPU, each in one thread."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def over_threads(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """``list(map(function, items))``, each item in a thread of its own with single-threaded torch.

    LAPACK gains nothing from its own threads on small matrices, and loses much where cores are shared.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        return [*map(function, items)]
    gradients = torch.is_grad_enabled()

    def alone(item: T) -> R:
        with torch.set_grad_enabled(gradients):  # thread-local in torch
            return function(item)

    torch.set_num_threads(1)
    try:
        futures = [_pool(threads).submit(alone, item) for item in items]
        wait(futures)  # for all: after a failure none may go on and hold memory
        return [future.result() for future in futures]
    finally:
        torch.set_num_threads(threads)  # some parts of torch count threads per process


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    # Cached: starting threads takes longer than many a small decomposition.
    return ThreadPoolExecutor(threads, "spectra", initializer=torch.set_num_threads, initargs=(1,))
