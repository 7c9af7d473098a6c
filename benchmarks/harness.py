"""What a benchmark returns, how it is timed, and how it is printed."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib import import_module
from statistics import median
from typing import Any

import numpy as np

from benchmarks import BENCHMARKS


@dataclass(frozen=True)
class Result:
    """Times in seconds. `agreement` is the largest relative difference from the reference.

    `demands` says of each demand, in words, whether it was met; `facts` is whatever else is worth printing.
    """

    name: str
    ours: float
    reference: float | None = None
    agreement: float | None = None
    demands: dict[str, bool] = field(default_factory=dict)
    facts: dict[str, float | str] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """How many times faster ours is."""
        return None if self.reference is None else self.reference / self.ours

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"ratio": self.ratio}

    def lines(self) -> list[str]:
        """For people."""
        lines = [self.name, f"  ours       {self.ours:.4g} s"]
        if self.reference is not None:
            lines += [f"  reference  {self.reference:.4g} s", f"  ratio      {self.ratio:.1f}×"]
        if self.agreement is not None:
            lines.append(f"  agreement  {self.agreement:.2g} relative")
        for name, value in self.facts.items():
            lines.append(f"  {name}: {value if isinstance(value, str) else f'{value:.4g}'}")
        lines += [f"  {'met   ' if met else 'MISSED'}  {demand}" for demand, met in self.demands.items()]
        return lines


def run(name: str) -> Result:
    """Carry out the benchmark called `name`."""
    module, function = BENCHMARKS[name].split(":")
    result: Result = getattr(import_module(module), function)()
    return result


def seconds(function: Callable[[], object], repeats: int = 1, warm_up: bool = True) -> float:
    """Median wall time of `repeats` calls, after one that does not count."""
    if warm_up:
        function()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return median(times)


def largest_difference(ours: np.ndarray, reference: np.ndarray, where: np.ndarray) -> float:
    """Largest |ours − reference|/|reference| over the places `where` says; NaN anywhere there gives NaN."""
    return float((np.abs(ours - reference)[where] / np.abs(reference)[where]).max())
