"""Errors that a person reads."""


class UserError(Exception):
    """A failure that the user can act on.

    Parameters
    ----------
    message : str
        One clear sentence (or two): what happened, why, what to do. Shown as it is, without a traceback.
    detail : str, optional
        What a bug report would need; shown one click away.
    """

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail

    def __reduce__(self) -> tuple[type["UserError"], tuple[str, str]]:
        return type(self), (self.message, self.detail)


class Cancelled(Exception):
    """The user asked a job to stop; everything committed is kept."""
