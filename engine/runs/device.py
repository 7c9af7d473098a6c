"""Which device a job computes on."""

import torch

from engine.errors import UserError
from engine.request import Device


def resolve_device(wanted: Device) -> str:
    """Return ``cpu`` or ``cuda``; ``auto`` is the GPU where there is one.

    Raises
    ------
    UserError
        For ``cuda`` without a usable GPU: it never silently becomes the CPU.
    """
    if wanted == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if wanted == "cuda":
        build = f"is built for CUDA {torch.version.cuda}" if torch.version.cuda else "is built without CUDA"
        raise UserError(f"There is no usable GPU: PyTorch {torch.__version__} {build}. Use the CPU, or run doctor.")
    return "cpu"


def device_record(device: str) -> dict[str, str | int]:
    """What the provenance of a run says of its device: the name, and the threads that PyTorch uses."""
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
    }
