"""Whether a model fits into memory, asked before it is loaded."""

import gc

import psutil
import torch

from engine.errors import UserError


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


def gigabytes(count: int) -> str:
    """Bytes as a person reads them."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def release() -> None:
    """Give back what no longer has an owner, the GPU's cached blocks included."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
