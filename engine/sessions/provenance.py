"""What a result carries about how it came to be."""

import json
import os
import platform
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from engine.sessions.manifest import DamagedUnit, read_manifest
from engine.sessions.tree import MODELS, Tree

LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "scipy", "xarray", "zarr", "numcodecs")


def collect() -> dict[str, Any]:
    """The program, the libraries and the machine as JSON values; reads the packages' metadata, imports none."""
    import psutil

    return {
        "versions": versions(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
    }


def versions() -> dict[str, str]:
    """Versions by name; a library that is not installed is left out.

    One that is loaded is asked itself: the metadata of torch do not say for which CUDA it was built, torch does.
    """
    versions = {"eigenscope": _own_version(), "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = str(getattr(sys.modules.get(name), "__version__", None) or version(name))
        except PackageNotFoundError:
            continue
    return versions


def made_how(
    tree: Tree, provenance: Mapping[str, Any], units: Mapping[str, Mapping[str, Any]]
) -> dict[str, str | float | int]:
    """Attributes that a finished Dataset has beside its header (methods §0): with what, and how long it took.

    Mappings are JSON text, so that every file format can hold them. `units` has the ``meta`` of each committed unit;
    ``tuned`` is there when weights were fine-tuned for the run: how, by the key of each.
    """
    keys = sorted({meta["tuned"] for meta in units.values() if meta.get("tuned")})
    tuned: dict[str, str | float | int] = {"tuned": json.dumps({key: _tuned_record(tree, key) for key in keys})}
    return (tuned if keys else {}) | {
        "versions": json.dumps(provenance.get("versions", {})),
        "provenance": json.dumps(dict(provenance)),
        "units": json.dumps(dict(units)),
        "seconds": float(sum(meta.get("seconds", 0.0) for meta in units.values())),
        "peak_bytes": int(max((meta.get("peak_bytes", 0) for meta in units.values()), default=0)),
    }


def _tuned_record(tree: Tree, key: str) -> dict[str, Any]:
    """How a committed fine-tuned model was made, as it was written down with it."""
    try:
        return read_manifest(tree, f"{MODELS}/{key}").meta
    except DamagedUnit as damage:
        return {"unreadable": damage.message}


@cache
def _own_version() -> str:
    """The version in pyproject.toml beside the package, or of the installed package."""
    project = Path(__file__).resolve().parents[2] / "pyproject.toml"
    if project.is_file():
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])
    return version("eigenscope")


@cache
def _cpu() -> str:
    """The processor's name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
