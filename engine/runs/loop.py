"""The one way a request becomes a result: plan, compute unit by unit, commit each, put them together.

The command line calls it in its own process, the window through the compute process, a cluster worker as it is.
"""

import time
from collections.abc import Callable
from pathlib import Path

from engine.analyses.abilities import require_able
from engine.analyses.parameters import validate
from engine.analyses.registry import get_analysis
from engine.analyses.samples import settled
from engine.data.drawing import DRAWING
from engine.data.texts import source_hash, text_notes
from engine.errors import Cancelled, UserError, is_failure
from engine.events import Event, Failed, Finished, Stopped
from engine.models.info import ModelInfo
from engine.models.memory import is_out_of_memory, release, require
from engine.models.opening import describe
from engine.request import DataSpec, ModelSpec, Request
from engine.runs.completion import complete
from engine.runs.device import device_record, resolve_device
from engine.runs.failure import describe_failure
from engine.runs.model_cache import ModelCache
from engine.sessions.provenance import collect
from engine.sessions.store import Run, Session
from engine.training.tuning import check_tuning

End = Finished | Stopped | Failed


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
    request, models, left_out = _openable(request)
    if request.data is not None:
        request = request.model_copy(update={"data": settled(request.data, models)})
    for spec in request.models:
        if spec.tuning:
            session.require_writable()
            check_tuning(spec, request.data or DataSpec(), device)
    for model in models:
        require(analysis.estimate_bytes(request, params, model), device, f"{analysis.title} of {model.label}")
    analysis.check(request, params, models, device)
    units = analysis.units(request, params, models)
    record = collect() | device_record(device)
    if left_out:
        record["left_out"] = left_out
    if request.data is not None:  # notes first: they refuse what cannot be read before all of it is hashed
        record |= {"text_notes": list(text_notes(request.data)), "text_drawing": DRAWING}
    if request.data is not None and (text := source_hash(request.data)) is not None:
        record["text_hash"] = text
    return session.new_run(request, models, [unit.key for unit in units], record)


def _openable(request: Request) -> tuple[Request, list[ModelInfo], list[str]]:
    """The request without models that cannot be opened or lack what its analysis needs, and why each was left out.

    Between them stand the facts of the others.

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
            info = describe(spec)
            require_able(get_analysis(request.analysis), info)
            models.append(info)
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
    models: ModelCache,
) -> End:
    """Start a request, or resume the run with an id, in a session that the caller has locked; see `execute`."""
    try:
        with Session.open(session, lock=False) as store:
            run = store.run(work) if isinstance(work, str) else start(store, work)
            return execute(store, run, emit, cancelled, models)
    except BaseException as error:
        if not is_failure(error):
            raise
        failed = describe_failure(work if isinstance(work, str) else "", error)
    emit(failed)
    return failed


def execute(
    session: Session,
    run: Run,
    emit: Callable[[Event], None],
    cancelled: Callable[[], bool],
    models: ModelCache | None = None,
) -> End:
    """Compute what a run still lacks; never raises.

    Parameters
    ----------
    emit : callable
        Called with every event, the last of which is how the run ended.
    cancelled : callable
        Asked between units; the run stops when it says True.
    models : ModelCache, optional
        Keeps the model for the next run; without it the model is closed at the end.

    Returns
    -------
    Finished, Stopped or Failed
        How the run ended.
    """
    cache = models or ModelCache()
    began = time.monotonic()
    end: End
    exhausted = False
    try:
        session.require_writable()
        missing = complete(run, emit, cancelled, cache)
        end = Finished(run.id, time.monotonic() - began, missing)
    except Cancelled:
        end = Stopped(run.id, len(run.committed()), len(run.plan))
    except BaseException as error:
        if not is_failure(error):
            raise
        end = describe_failure(run.id, error)
        exhausted = is_out_of_memory(error)
    # Only out here are the frames gone that kept the failed unit's tensors alive.
    if models is None or exhausted:
        cache.close()
    if exhausted:
        release()
    emit(end)
    return end
