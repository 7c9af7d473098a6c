"""The machine that a run is on: which device it uses, and what stands in the record."""

import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from engine.errors import UserError

PACKAGES = ("eigenscope", "torch", "transformers", "safetensors", "numpy", "scipy", "xarray", "zarr", "numcodecs")


def resolve_device(wanted: str) -> str:
    """``auto`` is the GPU where there is one; ``cuda`` without one is an error, never a silent CPU."""
    if wanted == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if wanted == "cuda":
        build = f"is built for CUDA {torch.version.cuda}" if torch.version.cuda else "is built without CUDA"
        raise UserError(
            f"There is no usable GPU: PyTorch {torch.__version__} {build}. Use --device cpu, or run doctor."
        )
    return "cpu"


def provenance(device: str) -> dict[str, Any]:
    """Where and with what a run was started, for the record."""

    def installed(package: str) -> str | None:
        try:
            return version(package)
        except PackageNotFoundError:
            return None

    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "versions": {package: installed(package) for package in PACKAGES},
    }
