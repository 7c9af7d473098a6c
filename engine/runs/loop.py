"""The one way a request becomes a result: plan, compute unit by unit, commit each, put them together.

The command line calls it in its own process, the window through the compute process, a cluster worker as it is.
"""

import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from engine.analyses.base import Unit, unit_rng
from engine.analyses.header import assemble
from engine.analyses.parameters import validate
from engine.analyses.registry import get_analysis
from engine.errors import Cancelled, UserError
from engine.events import Event, Failed, Finished, Notice, Progress, Snapshot, Started, Stopped
from engine.models.info import ModelInfo
from engine.models.memory import is_out_of_memory, release, require
from engine.models.opening import OpenModel, describe, open_model
from engine.request import ModelSpec, Request
from engine.runs.memory import PeakMemory
from engine.runs.tuning import fine_tuned
from engine.sessions.provenance import collect
from engine.sessions.store import DamagedUnit, Run, Session
from engine.training.tuning import check_tuning

if TYPE_CHECKING:
    import xarray as xr

SNAPSHOT_SECONDS = 0.5


class Opened:
    """The last opened model, kept between the units of a run and between runs: one model is in memory at a time."""

    def __init__(self) -> None:
        self._key: tuple[ModelSpec, int, str, Path | None] | None = None
        self._model: OpenModel | None = None

    def get(self, spec: ModelSpec, seed: int, device: str, planned: ModelInfo, tuned: Path | None = None) -> OpenModel:
        """Open the model, or return it if it is the open one; refuse it if it is not the one that was planned for.

        `tuned` is the folder of the weights of a spec with `tuning`.
        """
        key = (spec, seed, device, tuned)
        if self._model is None or self._key != key or describe(spec).identity != self._model.info.identity:
            self.close()
            self._model, self._key = open_model(spec, seed=seed, device=device, tuned=tuned), key
        if self._model.info.identity != planned.identity:
            raise UserError(
                f"{planned.label} is not the model that this run began with: its files have changed since. "
                "Bring the old files back to resume the run, or start a new run."
            )
        return self._model

    def close(self) -> None:
        """Let the model go."""
        if self._model is not None:
            self._model.close()
        self._model = self._key = None


def start(session: Session, request: Request) -> Run:
    """Check a request, plan it, and write it into the session as a new run without units.

    Raises
    ------
    UserError
        For parameters, models or memory with which the run could not succeed. Nothing is written then.
    """
    analysis = get_analysis(request.analysis)
    params = validate(analysis, request.params)
    # The run keeps the defaults of today, so that a later version resumes what was asked for.
    request = request.model_copy(update={"params": params.model_dump(mode="json")})
    labels = [spec.label for spec in request.models]
    for label in labels:
        if labels.count(label) > 1:
            raise UserError(f"Two of the models are called “{label}”: name each model once, and folders differently.")
    device = resolve_device(request.device)
    request, models, left_out = _found(request)
    for spec in request.models:
        if spec.tuning:
            session.require_writable()
            check_tuning(spec, device)
    for model in models:
        require(analysis.estimate_bytes(request, params, model), device, f"{analysis.title} of {model.label}")
    analysis.check(request, params, models, device)
    units = analysis.units(request, params, models)
    record = collect() | {"device": _device_name(device), "threads": torch.get_num_threads()}
    if left_out:
        record["left_out"] = left_out
    return session.new_run(request, models, [unit.key for unit in units], record)


def _found(request: Request) -> tuple[Request, list[ModelInfo], list[str]]:
    """The request without the models that cannot be opened, the facts of the others, and why each was left out.

    Raises
    ------
    UserError
        If no model is left, or nothing but twins.
    """
    models: list[ModelInfo] = []
    specs: list[ModelSpec] = []
    refused: dict[ModelSpec, UserError] = {}
    for spec in request.models:
        try:
            models.append(describe(spec))
            specs.append(spec)
        except UserError as error:
            refused[spec] = error
    if refused and all(spec.twin for spec in specs):
        first = next(iter(refused.values()))
        if len(refused) > 1:
            raise UserError(f"None of these models can be opened. The first: {first.message}", first.detail)
        raise first
    left_out = [f"{spec.label} was left out: {error.message}" for spec, error in refused.items()]
    return request.model_copy(update={"models": tuple(specs)}), models, left_out


def carry_out(
    session: Path,
    work: Request | str,
    emit: Callable[[Event], None],
    cancelled: Callable[[], bool],
    opened: Opened,
) -> None:
    """Start or resume a run in a session that the caller has locked; every outcome is an event."""
    failed = None
    try:
        with Session.open(session, lock=False) as store:
            run = store.run(work) if isinstance(work, str) else start(store, work)
            execute(store, run, emit, cancelled, opened)
    except Exception as error:
        failed = _failed(work if isinstance(work, str) else "", error)
    if failed:
        emit(failed)


def execute(
    session: Session,
    run: Run,
    emit: Callable[[Event], None],
    cancelled: Callable[[], bool],
    opened: Opened | None = None,
) -> None:
    """Compute what a run still lacks. It ends with exactly one Finished, Stopped or Failed, and never raises.

    `opened` keeps the model for the next run; without it the model is closed at the end.
    """
    models = opened or Opened()
    began = time.monotonic()
    end: Event
    exhausted = False
    try:
        session.require_writable()
        missing = _complete(run, emit, cancelled, models)
        end = Finished(run.id, time.monotonic() - began, missing)
    except Cancelled:
        end = Stopped(run.id, len(run.committed()), len(run.plan))
    except Exception as error:
        end = _failed(run.id, error)
        exhausted = is_out_of_memory(error)
    # Only out here are the frames gone that kept the failed unit's tensors alive.
    if opened is None or exhausted:
        models.close()
    if exhausted:
        release()
    emit(end)


def _complete(
    run: Run, emit: Callable[[Event], None], cancelled: Callable[[], bool], opened: Opened
) -> tuple[str, ...]:
    """Compute, commit and put together what is lacking. A model that fails is passed over if there are others.

    Returns
    -------
    tuple of str
        One sentence for each model that is not wholly in the result.
    """
    request = run.request
    analysis = get_analysis(request.analysis)
    params = validate(analysis, request.params)
    units = analysis.units(request, params, run.models)
    if [unit.key for unit in units] != list(run.plan):
        raise UserError(
            "This run was planned by another version of Eigenscope, which divides the work differently. "
            "Start a new run; what this one has stays readable."
        )
    compute = analysis.compute()
    done = _committed(run, units, emit)
    title = f"{analysis.title} · {', '.join(info.label for info in run.models)}"
    emit(Started(run.id, analysis.name, title, len(done), len(units)))
    for info in run.models:
        for notice in info.notices:
            emit(Notice(run.id, f"{info.label}: {notice}"))
    left_out = [str(sentence) for sentence in run.provenance.get("left_out", ())]
    for sentence in left_out:
        emit(Notice(run.id, sentence))

    waiting = [unit for unit in units if unit.key not in done]
    device = resolve_device(request.device) if waiting else "cpu"
    spent = paid = 0.0
    left = sum(unit.cost for unit in waiting)
    next_snapshot = 0.0
    failed: dict[int, Failed] = {}
    at = -1  # the model that is open
    model: OpenModel | None = None
    tuned: Path | None = None
    before = len(done)
    for unit in waiting:
        for wanted in (unit.model, *unit.also):
            if wanted in failed:
                continue
            if cancelled():
                raise Cancelled
            planned = run.models[wanted]
            remaining = spent / paid * left if paid else None
            try:
                if model is None or wanted != at:
                    emit(Progress(run.id, len(done), len(units), f"{planned.label} · opening the model", remaining))
                    spec, tuned = request.models[wanted], None
                    if spec.tuning:
                        opened.close()  # one model is in memory at a time
                        tell = partial(_tell, run, (len(done), len(units)), planned.label, remaining, emit)
                        tuned = fine_tuned(run, spec, device, tell, cancelled)
                    model, at = opened.get(spec, request.seed, device, planned, tuned), wanted
                emit(Progress(run.id, len(done), len(units), f"{planned.label} · {unit.title}", remaining))
                began = time.monotonic()
                with PeakMemory(device) as peak:
                    found = compute(unit, request, params, model, unit_rng(request, unit), done)
                weights_hash = model.layer_hash(unit.layer) if unit.layer is not None else None
            except Cancelled:  # in the middle of fine-tuning
                raise
            except Exception as error:
                error.add_note(f"{unit.title} of {planned.label}")
                if len(run.models) == 1 or is_out_of_memory(error):
                    raise
                failed[wanted], model = _failed(run.id, error), None
                why = f"{planned.label} failed and is passed over: {failed[wanted].message}"
                emit(Notice(run.id, why, failed[wanted].detail))
                continue
            meta = {
                "seconds": time.monotonic() - began,
                "device": device,
                "peak_bytes": peak.bytes,
                "peak_gpu_bytes": peak.gpu_bytes,
                "weights_hash": weights_hash,
            }
            if tuned is not None:
                meta["tuned"] = tuned.name
            run.commit_unit(unit.key, found, meta)
            done[unit.key] = found
            spent, paid = spent + time.monotonic() - began, paid + unit.cost
            break
        left -= unit.cost
        if time.monotonic() >= next_snapshot and before < len(done) < len(units):
            began = time.monotonic()
            emit(Snapshot(run.id, assemble(analysis, request, params, run.models, done), final=False))
            # Where putting together is slow it is done less often: it takes at most a fifth of the time.
            next_snapshot = time.monotonic() + max(SNAPSHOT_SECONDS, 4 * (time.monotonic() - began))

    if len(failed) == len(run.models):
        first = failed[min(failed)]
        raise UserError(f"Every model failed. {run.models[min(failed)].label}: {first.message}", first.detail)
    missing = (*left_out, *(f"{run.models[m].label} failed: {end.message}" for m, end in sorted(failed.items())))
    result = _sound_result(run, emit)
    if result is not None and len(done) > before:  # put together when a model was missing that is there now
        run.set_aside(None, "outdated")
        result = None
    if result is None:
        emit(Progress(run.id, len(done), len(units), "Putting the result together", 0.0))
        # From the disk, not from memory: a run that was interrupted and one that was not go through the same bytes.
        stored = {unit.key: run.read_unit(unit.key) for unit in units if unit.key in done}
        run.commit_result(assemble(analysis, request, params, run.models, stored, missing))
        result = run.result()
        assert result is not None
    emit(Snapshot(run.id, result, final=True))
    return missing


def _tell(
    run: Run, units: tuple[int, int], label: str, remaining: float | None, emit: Callable[[Event], None], doing: str
) -> None:
    emit(Progress(run.id, *units, f"{label} · {doing}", remaining))


def _sound_result(run: Run, emit: Callable[[Event], None]) -> "xr.Dataset | None":
    try:
        return run.result()
    except DamagedUnit as damage:
        run.set_aside(None)
        emit(Notice(run.id, f"{damage.message} That is done now."))
        return None


def _committed(run: Run, units: Sequence[Unit], emit: Callable[[Event], None]) -> dict[str, "xr.Dataset"]:
    """Read what an earlier session committed; damaged units are set aside, to be computed again."""
    committed = run.committed()
    done = {}
    for unit in units:
        if unit.key in committed:
            try:
                done[unit.key] = run.read_unit(unit.key)
            except DamagedUnit as damage:
                run.set_aside(unit.key)
                emit(Notice(run.id, f"{damage.message} That is done now."))
    return done


def resolve_device(wanted: str) -> str:
    """``auto`` is the GPU where there is one; ``cuda`` without one is an error, never a silent CPU."""
    if wanted == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if wanted == "cuda":
        build = f"is built for CUDA {torch.version.cuda}" if torch.version.cuda else "is built without CUDA"
        raise UserError(f"There is no usable GPU: PyTorch {torch.__version__} {build}. Use the CPU, or run doctor.")
    return "cpu"


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "cpu"


def _failed(run: str, error: Exception) -> Failed:
    if isinstance(error, UserError):
        return Failed(run, error.message, error.detail)
    detail = "".join(traceback.format_exception(error))
    where = ", ".join(getattr(error, "__notes__", ())) or "The run"
    if is_out_of_memory(error):
        message = (
            f"{where} ran out of memory and was given up. What was committed is kept: free memory, or choose the CPU "
            "or a smaller model, and resume the run."
        )
    else:
        what = f"{type(error).__name__}: {str(error).splitlines()[0]}" if str(error) else type(error).__name__
        message = (
            f"{where} failed unexpectedly ({what}). What was committed is kept and the run can be resumed; the details "
            "are for a bug report."
        )
    return Failed(run, message, detail)
