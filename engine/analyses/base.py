"""The one shape of an analysis: parameters, units, how one is computed, and how all become a result."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from zlib import crc32

import numpy as np
from pydantic import BaseModel, ConfigDict

from engine.analyses.claims import Claim
from engine.analyses.variables import Variable
from engine.request import Request

if TYPE_CHECKING:
    import xarray as xr

    from engine.models.info import Fact, ModelInfo
    from engine.models.opening import OpenModel


class Params(BaseModel):
    """Base of every analysis's parameters: frozen, and closed to names it does not declare.

    Titles, descriptions, bounds and ``json_schema_extra={"unit": ...}`` of the fields make the form in the window, the
    options of the command line and the help.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")


P = TypeVar("P", bound=Params)


@dataclass(frozen=True)
class Unit:
    """The smallest piece of a run that is committed: it is either wholly there or not at all.

    `key` names it on disk (letters, digits, ``-``), `model` is an index into ``request.models``, `cost` is its
    expected share of the work in any unit, for the remaining time. `also` are other models that do as well, for a unit
    that several share, should that one fail.
    """

    key: str
    title: str
    model: int
    layer: int | None = None
    cost: float = 1.0
    also: tuple[int, ...] = ()


class Computation(ABC, Generic[P]):
    """Computes the units of one run, one at a time; holds what later units can use again, such as drawn samples."""

    @abstractmethod
    def __call__(
        self,
        unit: Unit,
        request: Request,
        params: P,
        model: "OpenModel",
        rng: np.random.Generator,
        done: Mapping[str, "xr.Dataset"],
    ) -> "xr.Dataset":
        """Compute one unit, as a dataset of any form that the analysis's `result` can put together.

        Everything random comes from `rng`, so that a resumed run is the same run. `done` holds what is committed of the
        run: at least all units that stand before this one in the plan.
        """


@dataclass(frozen=True)
class Result:
    """What an analysis makes of the committed units of a run.

    `dataset` has the declared variables, as large as the largest model, absent values NaN, and coordinates along its
    dimensions: `model` holds the models' labels. `settings` are further attributes of it, such as the
    window of a fit. `claims` judges published statements on the dataset once its header is written; None where the
    analysis has none, or not yet.
    """

    dataset: "xr.Dataset"
    notes: Sequence[str] = ()
    settings: Mapping[str, str | int] | None = None
    claims: Callable[["xr.Dataset"], Sequence[Claim]] | None = None


def _accept(request: Request, params: Any, models: Sequence["ModelInfo"], device: str) -> None:
    """Refuse nothing."""


@dataclass(frozen=True, eq=False)
class Analysis(Generic[P]):
    """The declaration of one analysis; the registry holds these.

    Parameters
    ----------
    name, title, summary : str
        As the command line, the tabs and the help call it; `name` is also the folder of the engine and of the views.
    definition : str
        What its main quantities are, in one line that is kept with every result.
    params : type
    variables : tuple of Variable
        Every variable that a result can have.
    units : callable
        Plans the run of a request: its units, in the order in which results should appear. Raises UserError where
        parameters and models do not go together.
    estimate_bytes : callable
        Peak memory in bytes that one unit of a model needs beyond the program itself.
    compute : callable
        Makes a `Computation` for one run.
    result : callable
        Puts all, some or none of the committed units together; sees no model.
    needs : tuple of Fact
        The facts that it needs of a model; `abilities` says which models have them.
    check : callable
        Raises UserError, with what to do, where a new run could not succeed or would take too long on a device.
        `units` plans resumed runs too; this one may look at more than the facts of the models.
    """

    name: str
    title: str
    summary: str
    definition: str
    params: type[P]
    variables: tuple[Variable, ...]
    units: Callable[[Request, P, Sequence["ModelInfo"]], list[Unit]]
    estimate_bytes: Callable[[Request, P, "ModelInfo"], int]
    compute: Callable[[], Computation[P]]
    result: Callable[[Request, P, Sequence["ModelInfo"], Mapping[str, "xr.Dataset"]], Result]
    needs: tuple["Fact", ...] = ()
    check: Callable[[Request, P, Sequence["ModelInfo"], str], None] = _accept

    @property
    def needs_data(self) -> bool:
        """Whether it reads a text."""
        return "text" in self.needs


def later(module: str, name: str) -> Callable[..., Any]:
    """A function or class that is imported when it is first called: what computes loads torch, a declaration must not.

    Parameters
    ----------
    module : str
        Such as ``engine.analyses.weights.compute``.
    name : str
        Of what it defines.
    """

    def call(*args: Any) -> Any:
        return getattr(import_module(module), name)(*args)

    return call


def unit_rng(request: Request, unit: Unit) -> np.random.Generator:
    """The unit's own stream of the run's seed: independent of the order in which units are computed."""
    return np.random.default_rng([request.seed, crc32(unit.key.encode())])


AnyAnalysis = Analysis[Any]
