"""How an analysis declares the variables of its results: once, for the engine, the views, the reports and the help."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import xarray as xr

Role = Literal["statistic", "spectrum", "null", "test", "error", "detail"]
Reduction = Literal["mean", "median", "sum", "significant"]


@dataclass(frozen=True)
class Variable:
    """One variable of a result.

    Parameters
    ----------
    name : str
        Its name on disk, which never changes.
    dims : tuple of str
    symbol : str
        As formulas and narrow columns write it.
    long_name : str
        As axes and tables write it: a noun phrase.
    of : str
        What it belongs to, where several things of a result have one: ``W_QK``.
    unit : str
        ``nats``, ``tokens`` …; empty for a pure number.
    log : bool
        Whether its axis is logarithmic.
    role : str
        ``statistic``: a number of a layer, head, sample or model that is worth following; ``spectrum``: values along
        `mode`; ``null``, ``test`` (p, q, verdicts) and ``error`` (standard errors, intervals) belong to another
        variable; ``detail``: everything else that views need.
    samples, heads, models : str
        How it is reduced over samples, over heads, and over the models of one condition.
    summary : str, optional
        How the short table of a finished run, a row for each layer, takes it over heads and samples: their mean, median
        or sum, or how many are below 0.05; None leaves it out.
    reading : str
        How to read its values, for a tooltip: “1 when all are equal”.
    when : callable, optional
        Whether a run with these parameters has it; None: every run has.
    uneven : bool
        Whether only a result has it in which the heads of a model differ in width.
    """

    name: str
    dims: tuple[str, ...]
    symbol: str
    long_name: str
    unit: str = ""
    of: str = ""
    log: bool = False
    role: Role = "statistic"
    samples: Reduction = "median"
    heads: Reduction = "mean"
    models: Reduction = "mean"
    summary: Reduction | None = None
    reading: str = ""
    when: Callable[[Any], bool] | None = None
    uneven: bool = False

    @property
    def full_name(self) -> str:
        """The long name with what it belongs to."""
        return f"{self.long_name} of {self.of}" if self.of else self.long_name

    @property
    def label(self) -> str:
        """The full name with its symbol and unit, for an axis."""
        return self.full_name + self._suffix

    @property
    def short_label(self) -> str:
        """The label without what the variable belongs to, for small panels under a title that says it."""
        return self.long_name + self._suffix

    @property
    def _suffix(self) -> str:
        symbol = f", {self.symbol}" if self.symbol and self.symbol not in self.long_name else ""
        return symbol + (f" ({self.unit})" if self.unit else "")


def declared(variables: Iterable[Variable], params: Any, uneven: bool = False) -> dict[str, Variable]:
    """The variables that the result of a run with these parameters has, by name; `uneven` as in `Variable`."""
    return {v.name: v for v in variables if (uneven or not v.uneven) and (v.when is None or v.when(params))}


def describe(ds: "xr.Dataset", variables: Iterable[Variable], params: Any) -> None:
    """Write the declarations into the variables of `ds` as xarray's ``long_name`` and ``units``.

    Raises
    ------
    KeyError
        If `ds` has a variable that is not declared.
    """
    table = declared(variables, params, uneven=True)
    for name, array in ds.data_vars.items():
        variable = table[str(name)]
        array.attrs["long_name"] = variable.full_name
        if variable.unit:
            array.attrs["units"] = variable.unit
