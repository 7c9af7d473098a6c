"""What every result carries whatever the analysis: how far its models were trained, and which of them are missing."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from engine.analyses.base import AnyAnalysis, Params
from engine.sessions.store import Run

if TYPE_CHECKING:
    import xarray as xr


def assemble(
    analysis: AnyAnalysis,
    params: Params,
    run: Run,
    units: Mapping[str, "xr.Dataset"],
    missing: Sequence[str] = (),
) -> "xr.Dataset":
    """The analysis's Dataset of these units, with the coordinates `step` and `held_out_loss` of its models.

    They are NaN where nothing says. `missing`, one sentence for each model that is not wholly in it, joins the notes.
    """
    ds = analysis.finish(run.request, params, run.models, units)
    steps = np.array([np.nan if info.step is None else info.step for info in run.models], float)
    losses = np.array([np.nan if info.held_out_loss is None else info.held_out_loss for info in run.models], float)
    ds = ds.assign_coords(step=("model", steps), held_out_loss=("model", losses))
    if missing:
        notes = [*json.loads(ds.attrs.get("notes", "[]")), *missing]
        ds.attrs["notes"] = json.dumps(notes, ensure_ascii=False)
    return ds
