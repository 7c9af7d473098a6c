"""The header of a result: which analysis of which models it is, and what has to be said about it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from engine.analyses.base import AnyAnalysis, Params
from engine.analyses.claims import Claim, from_json, to_json
from engine.analyses.variables import describe
from engine.models.info import ModelInfo
from engine.request import Request

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Header:
    """What every result says of itself: read by `Header.of`, written by `attributes`, and by nothing else.

    `request` is None in results that no request made, such as the attention of a typed sentence. `settings` are the
    analysis's own attributes: the window of a fit, the context of a Jacobian.
    """

    analysis: str
    models: tuple[ModelInfo, ...]
    request: Request | None
    seed: int
    definition: str
    notes: tuple[str, ...]
    claims: tuple[Claim, ...]
    settings: Mapping[str, str | int]

    @classmethod
    def of(cls, ds: "xr.Dataset") -> "Header":
        """Read the header of a dataset."""
        return _read(tuple((str(name), value) for name, value in ds.attrs.items() if isinstance(value, str | int)))

    def attributes(self) -> dict[str, str | int]:
        """What `of` reads, less the claims, which are judged on a dataset that has its header already."""
        return {
            "analysis": self.analysis,
            **({} if self.request is None else {"request": self.request.model_dump_json()}),
            "models": json.dumps([info.model_dump(mode="json") for info in self.models]),
            "seed": self.seed,
            **self.settings,
            "definition": self.definition,
            "notes": json.dumps(list(self.notes), ensure_ascii=False),
        }


KEYS = ("analysis", "request", "models", "seed", "definition", "notes", "claims")


@lru_cache(maxsize=32)
def _read(attrs: tuple[tuple[str, str | int], ...]) -> Header:
    values = dict(attrs)
    text = {name: str(values.get(name, "")) for name in KEYS}
    return Header(
        analysis=text["analysis"],
        models=tuple(map(ModelInfo.model_validate, json.loads(text["models"] or "[]"))),
        request=Request.model_validate_json(text["request"]) if text["request"] else None,
        seed=int(values.get("seed", 0)),
        definition=text["definition"],
        notes=tuple(json.loads(text["notes"] or "[]")),
        claims=from_json(text["claims"] or "[]"),
        settings={name: value for name, value in attrs if name not in KEYS},
    )


def assemble(
    analysis: AnyAnalysis,
    request: Request,
    params: Params,
    models: Sequence[ModelInfo],
    units: Mapping[str, "xr.Dataset"],
    missing: Sequence[str] = (),
    remarks: Sequence[str] = (),
) -> "xr.Dataset":
    """Make the labelled Dataset of all or some committed units; what is absent is NaN.

    Every variable carries its declared ``long_name`` and ``units``. The coordinates `step` and `held_out_loss`
    (nats a token) say how far each model was trained, NaN where nothing does. `missing`, one sentence for each model
    that is not wholly in it, joins the notes, and `remarks` too.
    """
    result = analysis.result(request, params, models, units)
    ds = result.dataset
    describe(ds, analysis.variables, params)
    ds = ds.assign_coords(
        step=("model", np.array([np.nan if info.step is None else info.step for info in models], float)),
        held_out_loss=(
            "model",
            np.array([np.nan if info.held_out_loss is None else info.held_out_loss for info in models], float),
        ),
    )
    ds.attrs = Header(
        request.analysis,
        tuple(models),
        request,
        request.seed,
        analysis.definition,
        (*result.notes, *remarks, *missing),
        (),
        result.settings or {},
    ).attributes()
    if result.claims is not None:
        ds.attrs["claims"] = to_json(result.claims(ds))
    return ds
