"""Is this machine ready? One check for each thing that commonly is not."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import psutil

from engine.resources import MODELS

LOW_DISK = 5e9
OPEN_A_WINDOW = "from PySide6.QtWidgets import QApplication; QApplication([])"


@dataclass(frozen=True)
class Check:
    """What was looked at, how it is, and in a sentence what follows from it."""

    name: str
    state: Literal["ok", "warning", "problem"]
    text: str


def examine() -> list[Check]:
    """Run every check; none of them raises."""
    checks: tuple[Callable[[], Check], ...] = (python, qt, pytorch, memory, builtin, cache, disk)
    return [_guarded(check) for check in checks]


def _guarded(check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as error:  # a doctor who faints helps nobody
        return Check(check.__name__, "problem", f"could not be looked at ({type(error).__name__}: {error})")


def python() -> Check:
    installed = ".".join(map(str, sys.version_info[:3]))
    if not (3, 11) <= sys.version_info < (3, 14):
        return Check("Python", "problem", f"{installed}; Eigenscope is tested on 3.11 to 3.13")
    return Check("Python", "ok", installed)


def qt() -> Check:
    try:
        installed = version("PySide6-Essentials")
    except PackageNotFoundError:
        return Check("Qt", "problem", "PySide6 is not installed: run make setup")
    if error := _window_error({"QT_QPA_PLATFORM": "offscreen"}):
        return Check("Qt", "problem", f"PySide6 {installed} does not start ({error}): run make setup for the libraries")
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return Check("Qt", "warning", f"PySide6 {installed}; no display here, so no window, but the command line works")
    if error := _window_error({}):
        return Check("Qt", "problem", f"PySide6 {installed} cannot open a window ({error}): run make setup")
    return Check("Qt", "ok", f"PySide6 {installed}")


def _window_error(environment: dict[str, str]) -> str:
    """Open and close an application elsewhere: where a library is missing, Qt aborts its process."""
    command = [sys.executable, "-c", OPEN_A_WINDOW]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=60)
    if done.returncode == 0:
        return ""
    return next((line for line in reversed(done.stderr.splitlines()) if line.strip()), f"exit {done.returncode}")


def pytorch() -> Check:
    import torch

    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU only"
    have = f"PyTorch {torch.__version__} ({build}, {torch.get_num_threads()} threads)"
    driver = _driver()
    if driver is None:
        return Check("GPU", "ok", f"{have}; no NVIDIA GPU here, so the CPU computes")
    name, supports, capability = driver
    if not torch.version.cuda:
        return Check("GPU", "warning", f"{have}, but there is a {name}: install the CUDA build of torch to use it")
    if not torch.cuda.is_available():
        text = f"{have}, but its driver supports up to CUDA {supports}, so the {name} is not used: update the driver"
        return Check("GPU", "problem", text)
    # Binaries for X.y run on every X.z with z >= y.
    built = [(int(arch[3:-1]), int(arch[-1])) for arch in torch.cuda.get_arch_list() if arch[3:].isdigit()]
    if not any(major == capability[0] and minor <= capability[1] for major, minor in built):
        text = f"{have} is not built for the {name} (compute capability {capability[0]}.{capability[1]}): use the CPU"
        return Check("GPU", "problem", text)
    free, total = torch.cuda.mem_get_info()
    return Check("GPU", "ok", f"{have}; {name}, {_gb(free)} of {_gb(total)} free")


def _driver() -> tuple[str, str, tuple[int, int]] | None:
    """The first NVIDIA GPU: its name, the newest CUDA that its driver supports, its compute capability."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        if pynvml.nvmlDeviceGetCount() == 0:
            return None
        gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
        cuda = pynvml.nvmlSystemGetCudaDriverVersion()
        supports = f"{cuda // 1000}.{cuda % 1000 // 10}"
        return pynvml.nvmlDeviceGetName(gpu), supports, tuple(pynvml.nvmlDeviceGetCudaComputeCapability(gpu))
    finally:
        pynvml.nvmlShutdown()


def memory() -> Check:
    now = psutil.virtual_memory()
    state: Literal["ok", "warning"] = "ok" if now.available > 2e9 else "warning"
    return Check("Memory", state, f"{_gb(now.available)} of {_gb(now.total)} free")


def builtin() -> Check:
    complete = [name for name in ("builtin", "builtin-encoder") if any((MODELS / name).glob("*/model.safetensors"))]
    if len(complete) < 2:
        return Check("Models", "problem", "the built-in models are not all there: fetch the whole project again")
    return Check("Models", "ok", "the built-in models are there")


def cache() -> Check:
    from huggingface_hub.constants import HF_HUB_CACHE, HF_HUB_OFFLINE

    folder = Path(HF_HUB_CACHE)
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    offline = "; the hub is switched off (HF_HUB_OFFLINE)" if HF_HUB_OFFLINE else ""
    if not os.access(existing, os.W_OK):
        return Check("Cache", "problem", f"{folder} cannot be written, so no hub model can be fetched: set HF_HOME")
    models = len(list(folder.glob("models--*"))) if folder.exists() else 0
    return Check("Cache", "ok", f"{folder}: {models} hub models{offline}")


def disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free
    state: Literal["ok", "warning"] = "ok" if free > LOW_DISK else "warning"
    return Check("Disk", state, f"{_gb(free)} free in {Path.cwd()}")


def _gb(count: float) -> str:
    return f"{count / 1e9:.1f} GB"
