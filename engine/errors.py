"""Errors that a person reads."""

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from engine.printable import printable

LONGEST_MESSAGE = 1200
LONGEST_REASON = 200


class UserError(Exception):
    """A failure that the user can act on.

    Parameters
    ----------
    message : str
        One clear sentence (or two): what happened, why, what to do. Shown without a traceback; control characters,
        lone surrogates and what is too long for a sentence are taken out, since it may quote what somebody else wrote.
    detail : str, optional
        What a bug report would need; shown one click away.
    """

    def __init__(self, message: str, detail: str = "") -> None:
        message = quotable(message, LONGEST_MESSAGE)
        super().__init__(message)
        self.message = message
        self.detail = detail

    def __reduce__(self) -> tuple[type["UserError"], tuple[str, str]]:
        return type(self), (self.message, self.detail)


class Cancelled(Exception):
    """The user asked a job to stop; everything committed is kept."""


def one_sentence(error: BaseException, failure: str, remedy: str = "The details are for a bug report.") -> UserError:
    """Put an error that nobody foresaw into a sentence, with its traceback as the detail.

    Parameters
    ----------
    error : BaseException
        A `UserError` is returned as it is.
    failure : str
        The beginning of a sentence: what could not be done, such as ``The model cannot be opened``.
    remedy : str
        A sentence: what to do.
    """
    if isinstance(error, UserError):
        return error
    return UserError(f"{failure}: {reason(error)}. {remedy}", "".join(traceback.format_exception(error)))


@contextmanager
def boundary(failure: str, remedy: str = "The details are for a bug report.") -> Iterator[None]:
    """Let nothing out of the block but what a person can read, and requests to stop.

    Raises
    ------
    UserError
        For whatever else the block raises, as `one_sentence` puts it.
    """
    try:
        yield
    except (UserError, Cancelled):
        raise
    except BaseException as error:
        if not is_failure(error):
            raise
        raise one_sentence(error, failure, remedy) from error


def is_failure(error: BaseException) -> bool:
    """Whether something failed, and nobody asked the program to stop.

    A panic of a library in Rust is no `Exception`, and its class cannot be imported.
    """
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def reason(error: BaseException) -> str:
    """What an error says in its first line, for the middle of a sentence."""
    match error:
        case MemoryError():
            return "memory ran out"
        case RecursionError():
            return "it is nested too deep"
        case UnicodeError():
            return "it holds text that is not valid Unicode"
        case OSError(strerror=str(text)) if text:
            pass
        case _:
            text = str(error) or type(error).__name__
    return quotable((text.strip().splitlines() or [""])[0], LONGEST_REASON).rstrip(".: ") or type(error).__name__


def quotable(text: str, most: int) -> str:
    """`text` as it can be printed anywhere, at most so long: the middle of a long name gives way, then that of all."""
    text = _LONG_NAME.sub(lambda name: f"{name[0][:160]}…{name[0][-80:]}", text)
    if len(text) > most:
        text = f"{text[: 2 * most // 3]} … {text[-most // 3 :]}"
    return printable(" ".join(text.splitlines()), most + 10)


_LONG_NAME = re.compile(r"\S{251,}")
