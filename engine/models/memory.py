"""Whether a model fits into memory, asked before it is loaded."""

import gc
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

import psutil
import torch

from engine.errors import UserError


class _Sliced(Protocol):
    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Any: ...


S = TypeVar("S", bound=_Sliced)
T = TypeVar("T")


def available_bytes(device: str) -> int:
    """Memory that can still be had on a device: what the system calls available, or free memory of the GPU."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def require(needed: int, device: str, what: str) -> None:
    """Refuse, with numbers, what cannot fit.

    Raises
    ------
    UserError
        If `needed` bytes are more than `device` has left.
    """
    free = available_bytes(device)
    if needed > free:
        where = "the GPU" if torch.device(device).type == "cuda" else "this machine"
        raise UserError(
            f"{what} needs {gigabytes(needed)} and {where} has {gigabytes(free)} free. Close other programs, choose "
            "bfloat16 or a smaller model, or use a machine with more memory."
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` means that an allocation failed, on the CPU or on the GPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)  # torch's CPU allocator


def halve_on_oom(work: Callable[[S], T], items: S, alone: Callable[[S], str] | None = None) -> Iterator[tuple[S, T]]:
    """Call `work` on `items`, or on halves of them in turn where memory runs out: each item once, in order.

    Parameters
    ----------
    work : callable
        Called with `items` or a slice of them.
    items : a sequence
        Its slices are of its own kind.
    alone : callable, optional
        Begins the sentence which says that a single item does not fit ("… do", "… does").

    Yields
    ------
    part, result
        A slice of `items`, and what `work` returned for it.

    Raises
    ------
    UserError
        If a single item does not fit and `alone` is there to say so; without it, the error itself.
    """
    result: tuple[T] | None
    try:
        result = (work(items),)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        if len(items) == 1:
            if alone is None:
                raise
            raise UserError(
                f"{alone(items)} not fit into the memory of the device. Choose shorter samples, or the CPU."
            ) from None
        result = None
    if result is not None:
        yield items, result[0]
        return
    release()  # outside of the handler, which would keep the failed tensors alive
    half = len(items) // 2
    for part in (items[:half], items[half:]):
        yield from halve_on_oom(work, part, alone)


def gigabytes(count: int) -> str:
    """Bytes as a person reads them."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def release() -> None:
    """Give back what no longer has an owner, the GPU's cached blocks included."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
