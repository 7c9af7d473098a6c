"""A small real analysis for the tests of the run loop, and a compute process that knows it."""

import ctypes
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import psutil
import torch
import xarray as xr
from pydantic import Field

from engine.analyses import registry
from engine.analyses.base import Analysis, Computation, Params, Result, Unit
from engine.analyses.variables import Variable
from engine.models.info import ModelInfo
from engine.models.opening import OpenModel
from engine.request import Request
from engine.runs.jobs.inspect import Inspect
from engine.runs.jobs.job import Context
from engine.runs.jobs.serve import serve

LAYERS = 4


class StepsParams(Params):
    draws: int = Field(4, title="Draws", ge=1, le=100)
    seconds: float = Field(0.0, title="Seconds", description="How long a unit takes at least", ge=0)


def units(request: Request, params: StepsParams, models: Sequence[ModelInfo]) -> list[Unit]:
    return [
        Unit(key=f"m{index}-l{layer}", title=f"Layer {layer}", model=index, layer=layer)
        for index, model in enumerate(models)
        for layer in range(model.n_layers)
    ]


class Steps(Computation[StepsParams]):
    """Singular values of every W_Q, and random draws: enough to see whether a resumed run is the same run."""

    def __call__(
        self,
        unit: Unit,
        request: Request,
        params: StepsParams,
        model: OpenModel,
        rng: np.random.Generator,
        done: Mapping[str, xr.Dataset],
    ) -> xr.Dataset:
        assert unit.layer is not None
        values = torch.linalg.svdvals(model.block(unit.layer).heads.w_q.double()).numpy()
        time.sleep(params.seconds)
        return xr.Dataset({"singular": (("head", "mode"), values), "noise": (("draw",), rng.normal(size=params.draws))})


def result(
    request: Request, params: StepsParams, models: Sequence[ModelInfo], units: Mapping[str, xr.Dataset]
) -> Result:
    first = next(iter(units.values()))
    absent = first.map(lambda values: values * np.nan)
    whole = xr.concat(
        [
            xr.concat([units.get(f"m{index}-l{layer}", absent) for layer in range(model.n_layers)], "layer")
            for index, model in enumerate(models)
        ],
        "model",
    )
    return Result(whole.assign(leading=whole.singular.isel(mode=0)).assign_coords(model=[m.label for m in models]))


HEAD = ("model", "layer", "head")
STEPS = Analysis(
    name="steps",
    title="Steps",
    summary="For tests.",
    definition="singular values of W_Q",
    params=StepsParams,
    variables=(
        Variable("singular", (*HEAD, "mode"), "σ", "singular values of W_Q", role="spectrum"),
        Variable("noise", ("model", "layer", "draw"), "", "random draws", role="detail"),
        Variable("leading", HEAD, "σ₁", "leading singular value", summary="mean"),
    ),
    units=units,
    estimate_bytes=lambda request, params, model: 1000,
    compute=Steps,
    result=result,
)


def make_model(folder: Path, seed: int = 0, width: int = 16) -> Path:
    """A small GPT-2 as the library saves it."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    config = GPT2Config(n_layer=LAYERS, n_embd=width, n_head=2, vocab_size=32, n_positions=16)
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def all_end(processes: Sequence[psutil.Process], within: float) -> bool:
    """Whether all have ended after so many seconds at most; whoever inherits an orphan may leave it a zombie."""
    deadline = time.monotonic() + within
    while living := [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]:
        if time.monotonic() > deadline:
            return False
        psutil.wait_procs(living, timeout=0.05)
    return True


def register() -> None:
    registry.ANALYSES["steps"] = STEPS  # in a process of its own


def serve_steps(connection: Connection) -> None:
    """What `engine.runs.jobs.serve.serve` is, in a process that also knows `steps`."""
    register()
    serve(connection)


@dataclass(frozen=True)
class Stuck(Inspect):
    """An inspection that hangs in a library, as one of a hostile config may: no other thread of its process can run."""

    time_limit: ClassVar[float | None] = 1.0

    def run(self, context: Context, tell: Callable[[Any], None], cancelled: Callable[[], bool]) -> ModelInfo:
        ctypes.PyDLL(None).sleep(600)
        raise AssertionError("it was killed before")


@dataclass(frozen=True)
class Panicking(Inspect):
    """An inspection in which a library in Rust panics, which is no `Exception`."""

    def run(self, context: Context, tell: Callable[[Any], None], cancelled: Callable[[], bool]) -> ModelInfo:
        raise type("PanicException", (BaseException,), {})("index out of bounds")
