"""Compute what a run lacks, unit by unit, commit each, and put the result together."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from engine.analyses.base import Params, Unit, unit_rng
from engine.analyses.header import assemble
from engine.analyses.parameters import validate
from engine.analyses.registry import get_analysis
from engine.data.drawing import DRAWING, drawn_anew
from engine.data.texts import source_hash
from engine.errors import Cancelled, UserError, is_failure
from engine.events import Event, Notice, Progress, Snapshot, Started
from engine.models.opening import OpenModel
from engine.runs.device import resolve_device
from engine.runs.memory import PeakMemory
from engine.runs.model_cache import ModelCache
from engine.runs.reporting import Reporter, Snapshots
from engine.runs.run_models import RunModels
from engine.runs.weights_read import WeightsRead
from engine.sessions.recovery import SessionGone
from engine.sessions.store import DamagedUnit, Run

if TYPE_CHECKING:
    import xarray as xr

Emit = Callable[[Event], None]


def complete(run: Run, emit: Emit, cancelled: Callable[[], bool], cache: ModelCache) -> tuple[str, ...]:
    """Compute, commit and put together what is lacking. A model that fails is passed over if there are others.

    Returns
    -------
    tuple of str
        One sentence for each model that is not wholly in the result.

    Raises
    ------
    Cancelled
        Between two units.
    UserError
        If the run cannot be resumed, or every model failed.
    """
    request = run.request
    analysis = get_analysis(request.analysis)
    params = validate(analysis, request.params)
    units = analysis.units(request, params, run.models)
    _require_same_plan(run, units)
    done = _read_committed(run, units, emit)
    records: dict[str, Mapping[str, Any]] = {key: run.unit_meta(key) for key in done}
    with _rescued(run, done, records):
        return _complete(run, units, params, done, records, emit, cancelled, cache)


def _complete(
    run: Run,
    units: Sequence[Unit],
    params: Params,
    done: dict[str, "xr.Dataset"],
    records: dict[str, Mapping[str, Any]],
    emit: Emit,
    cancelled: Callable[[], bool],
    cache: ModelCache,
) -> tuple[str, ...]:
    """Go on from the units that are `done`; `records` has what is kept beside each. Both grow on the way."""
    request = run.request
    analysis = get_analysis(request.analysis)
    computation = analysis.compute()
    left_out = [str(sentence) for sentence in run.provenance.get("left_out", ())]
    title = f"{analysis.title} · {', '.join(info.label for info in run.models)}"
    emit(Started(run.id, analysis.name, title, len(done), len(units)))
    _announce(run, left_out, emit)

    waiting = [unit for unit in units if unit.key not in done]
    before = len(done)
    if waiting:
        _require_same_text(run)
    reporter = Reporter(run.id, emit, units, done)
    device = resolve_device(request.device) if waiting else "cpu"
    models = RunModels(run, device, cache, reporter, cancelled, WeightsRead.of(units, records))
    assembled = partial(assemble, analysis, request, params, run.models, remarks=_text_notes(run))
    snapshots = Snapshots(run.id, emit, lambda: assembled(done))

    def compute(unit: Unit, model: OpenModel) -> "xr.Dataset":
        return computation(unit, request, params, model, unit_rng(request, unit), done)

    for unit in waiting:
        for index in models.able(unit):
            if cancelled():
                raise Cancelled
            label = run.models[index].label
            try:
                model = models.open(index)
                reporter.progress(f"{label} · {unit.title}")
                began = time.monotonic()
                dataset, record = _measured(compute, unit, model, models)
            except Cancelled:  # in the middle of fine-tuning
                raise
            except BaseException as error:
                if not is_failure(error):
                    raise
                error.add_note(f"{unit.title} of {label}")
                if not models.pass_over(index, error):
                    raise
                continue
            run.commit_unit(unit.key, dataset, record, _known(done, records))
            done[unit.key], records[unit.key] = dataset, record
            reporter.timed(unit, time.monotonic() - began)
            break
        reporter.passed(unit)
        if before < len(done) < len(units):
            snapshots.offer()

    missing = (*left_out, *models.missing())
    result = _kept_result(run, emit, outdated=len(done) > before)
    if result is None:
        emit(Progress(run.id, len(done), len(units), "Putting the result together", 0.0))
        # From the disk, not from memory: a run that was interrupted and one that was not go through the same bytes.
        whole = assembled({unit.key: run.read_unit(unit.key) for unit in units if unit.key in done}, missing=missing)
        run.commit_result(whole, _known(done, records))
        result = run.result()
        assert result is not None
    emit(Snapshot(run.id, result, final=True))
    return missing


def _known(
    done: Mapping[str, "xr.Dataset"], records: Mapping[str, Mapping[str, Any]]
) -> dict[str, tuple["xr.Dataset", Mapping[str, Any]]]:
    return {key: (done[key], records[key]) for key in done}


@contextmanager
def _rescued(run: Run, done: Mapping[str, "xr.Dataset"], records: Mapping[str, Mapping[str, Any]]) -> Iterator[None]:
    """Where a run ends because its session is gone, keep all that is known of it and say where."""
    try:
        yield
    except SessionGone:
        raise
    except (Exception, KeyboardInterrupt):
        if run.session.is_present():
            raise
        raise run.rescue(_known(done, records)) from None


def _require_same_plan(run: Run, units: Sequence[Unit]) -> None:
    if [unit.key for unit in units] != list(run.plan):
        raise UserError(
            "This run was planned by another version of Eigenscope, which divides the work differently. "
            "Start a new run; what this one has stays readable."
        )


def _require_same_text(run: Run) -> None:
    """Refuse to go on with another text under the same name; older versions did not write down which it was."""
    data, recorded = run.request.data, run.provenance.get("text_hash")
    if data is not None and recorded is not None and source_hash(data) != recorded:
        raise UserError(
            f"“{data.source}” is not the text that this run began with: the file has changed since. Bring the old file "
            "back to resume the run, or start a new run."
        )
    sentences = run.request.params.get("samples") == "sentences"
    if data is not None and run.provenance.get("text_drawing") != DRAWING and drawn_anew(data, sentences=sentences):
        raise UserError(
            f"The samples of this run were drawn from “{data.source}” by another version of Eigenscope, and this one "
            "draws others. Start a new run; what this one has stays readable."
        )


def _read_committed(run: Run, units: Sequence[Unit], emit: Emit) -> dict[str, "xr.Dataset"]:
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


def _text_notes(run: Run) -> tuple[str, ...]:
    """What there is to say of how the run's text is read."""
    return tuple(map(str, run.provenance.get("text_notes", ())))


def _announce(run: Run, left_out: Sequence[str], emit: Emit) -> None:
    """Say what there is to know of the models, and which of those asked for are not in the run."""
    for info in run.models:
        for notice in info.notices:
            emit(Notice(run.id, f"{info.label}: {notice}"))
    for sentence in left_out:
        emit(Notice(run.id, sentence))
    for sentence in _text_notes(run):
        emit(Notice(run.id, f"{sentence}."))


def _measured(
    compute: Callable[[Unit, OpenModel], "xr.Dataset"], unit: Unit, model: OpenModel, models: RunModels
) -> tuple["xr.Dataset", Mapping[str, Any]]:
    """Compute a unit; also returns what is recorded beside it: time, memory, and the weights that it read."""
    began = time.monotonic()
    with PeakMemory(models.device) as peak:
        dataset = compute(unit, model)
    weights_hash = model.layer_hash(unit.layer) if unit.layer is not None else None
    # Again: files that change under a unit would leave it half of each.
    weights = models.require_unchanged(unit.layer, weights_hash)
    record = {
        "seconds": time.monotonic() - began,
        "device": models.device,
        "peak_bytes": peak.bytes,
        "peak_gpu_bytes": peak.gpu_bytes,
        "weights_hash": weights_hash,
        **weights,
    }
    return dataset, record | ({"tuned": models.tuned.name} if models.tuned is not None else {})


def _kept_result(run: Run, emit: Emit, *, outdated: bool) -> "xr.Dataset | None":
    """The result that an earlier session put together; a damaged or outdated one is set aside."""
    try:
        result = run.result()
    except DamagedUnit as damage:
        run.set_aside(None)
        emit(Notice(run.id, f"{damage.message} That is done now."))
        return None
    if result is not None and outdated:  # a model was missing then that is there now
        run.set_aside(None, "outdated")
        return None
    return result
