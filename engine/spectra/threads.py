"""Many small computations at once on the CPU, each in one thread."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def over_threads(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """``list(map(function, items))``, each item in a thread that computes alone.

    LAPACK on such matrices gains nothing from threads of its own, and loses much where cores are shared.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        return [*map(function, items)]
    gradients = torch.is_grad_enabled()

    def alone(item: T) -> R:
        with torch.set_grad_enabled(gradients):  # each thread has its own
            return function(item)

    torch.set_num_threads(1)
    try:
        futures = [_pool(threads).submit(alone, item) for item in items]
        wait(futures)  # for all, so that none goes on and keeps its memory when another has failed
        return [future.result() for future in futures]
    finally:
        torch.set_num_threads(threads)  # parts of torch keep one number for the whole process


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    # Kept, because starting threads that compute takes longer than many a small decomposition.
    return ThreadPoolExecutor(threads, "spectra", initializer=torch.set_num_threads, initargs=(1,))
