"""The one shape of an analysis: declare parameters, plan units, compute one, put them together."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar
from zlib import crc32

import numpy as np
from pydantic import BaseModel, ConfigDict

from engine.request import Request

if TYPE_CHECKING:
    import xarray as xr

    from engine.models.info import ModelInfo
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


class Analysis(ABC, Generic[P]):
    """One study. `compute` sees one unit and one open model; `finish` sees only committed units, never a model.

    `notable` names the variables (model, layer, ...) that a short table shows, and how it takes them over heads or
    samples: their mean, median, sum, or how many are below 0.05.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    needs_data: ClassVar[bool] = False
    params: type[P]
    notable: ClassVar[Mapping[str, Literal["mean", "median", "sum", "significant"]]] = {}

    @abstractmethod
    def units(self, request: Request, params: P, models: Sequence["ModelInfo"]) -> list[Unit]:
        """Plan the run, in the order in which results should appear."""

    @abstractmethod
    def estimate_bytes(self, request: Request, params: P, model: "ModelInfo") -> int:
        """Peak memory that one unit of `model` needs beyond the program itself."""

    def check(self, request: Request, params: P, models: Sequence["ModelInfo"], device: str) -> None:
        """Raise UserError, with what to do, where a new run could not succeed or would take too long on `device`.

        `units` plans, also of a run that is resumed; this may look at more than the facts of the models.
        """

    @abstractmethod
    def compute(
        self,
        unit: Unit,
        request: Request,
        params: P,
        model: "OpenModel",
        rng: np.random.Generator,
        done: Mapping[str, "xr.Dataset"],
    ) -> "xr.Dataset":
        """Carry out one unit. Everything random comes from `rng`, so that a resumed run is the same run.

        `done` has what is committed of the run: at least all units that stand before this one in the plan.
        """

    @abstractmethod
    def finish(
        self, request: Request, params: P, models: Sequence["ModelInfo"], units: Mapping[str, "xr.Dataset"]
    ) -> "xr.Dataset":
        """Put the committed units (all or some; absent ones become NaN) into one labelled Dataset."""


def unit_rng(request: Request, unit: Unit) -> np.random.Generator:
    """The unit's own stream of the run's seed: independent of the order in which units are computed."""
    return np.random.default_rng([request.seed, crc32(unit.key.encode())])


AnyAnalysis = Analysis[Any]
