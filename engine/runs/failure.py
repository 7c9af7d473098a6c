"""What is said of a run that failed."""

import traceback

from engine.errors import UserError, reason
from engine.events import Failed
from engine.models.memory import is_out_of_memory


def describe_failure(run: str, error: BaseException) -> Failed:
    """Put an error into a sentence; `run` is the id of the run, empty where it has none yet."""
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
        name, what = type(error).__name__, reason(error)
        what = what if what == name else f"{name}: {what}"
        message = (
            f"{where} failed unexpectedly ({what}). What was committed is kept and the run can be resumed; the details "
            "are for a bug report."
        )
    return Failed(run, message, detail)
