"""How soon the window is on screen, and how long it ever stands still."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.harness import Result

STARTS = 5
ON_SCREEN_SECONDS = 1.5
STALL_SECONDS = 0.05


def startup() -> Result:
    """Process start to first paint, in fresh processes; then the event loop's stalls during a whole run."""
    _probe("paint")  # the first one reads the libraries from the disk
    starts = [_probe("paint") for _ in range(STARTS)]
    seconds = median(start["painted"] - start["began"] for start in starts)
    heavy = sorted({name for start in starts for name in start["heavy"]})
    visit = _probe("run")
    return Result(
        "startup",
        ours=seconds,
        demands={
            f"window on screen within {ON_SCREEN_SECONDS} s of process start": seconds <= ON_SCREEN_SECONDS,
            "no heavy library imported before that": not heavy,
            "torch never imported by the window": not visit["torch"],
            "the run in the window finished": visit["outcome"] == "done",
        },
        facts={
            "processor time to first paint (s)": median(start["cpu"] for start in starts),
            "imported before first paint": ", ".join(heavy) or "none of torch, transformers, xarray, pyqtgraph …",
            "longest GUI-thread stall during a run (ms)": 1000 * visit["longest_gap"],
            "… of which the GUI thread's own work, at most (ms)": 1000 * visit["longest_busy"],
            "99th percentile of the event loop's lateness (ms)": 1000 * visit["p99_gap"],
            f"stretches of own work over {1000 * STALL_SECONDS:.0f} ms": f"{visit['over_50_ms']} of {visit['ticks']}",
            "load average of the machine": os.getloadavg()[0],
        },
    )


def _probe(what: str) -> dict[str, Any]:
    """Measure one process that has settings and sessions of its own."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"XDG_CONFIG_HOME": folder, "XDG_DATA_HOME": folder}
        if not any(name in os.environ for name in ("DISPLAY", "WAYLAND_DISPLAY")):
            environment.setdefault("QT_QPA_PLATFORM", "offscreen")
        began = time.time()
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.window_probe", what],
            cwd=Path(__file__).parent.parent,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=600,
        )
    return {"began": began, **json.loads(done.stdout.splitlines()[-1])}
