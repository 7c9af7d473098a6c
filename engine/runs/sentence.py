"""The attention of a sentence while somebody types it, for the window: the question, and the answer."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.errors import UserError
from engine.request import Device, ModelSpec

if TYPE_CHECKING:
    import xarray as xr

    from engine.runs.model_cache import ModelCache


@dataclass(frozen=True)
class Attend:
    """Read `text` with every head of `spec`, after the job in progress."""

    spec: ModelSpec
    text: str
    device: Device
    seed: int


@dataclass(frozen=True)
class Attended:
    """The answer to `Attend`: a dataset like that of a run of the attention analysis with one sample, or why not."""

    question: Attend
    dataset: "xr.Dataset | None"
    trouble: str = ""
    detail: str = ""


def attended(question: Attend, opened: "ModelCache") -> Attended:
    """Answer `question` with the model that is open, or open it; every outcome is an answer."""
    from engine.models.opening import describe
    from engine.runs.device import resolve_device

    spec = question.spec
    try:
        if spec.tuning is not None:
            raise UserError("A sentence is read by a model as it is. Fine-tune it into a folder first, and load that.")
        model = opened.get(spec, question.seed, resolve_device(question.device), describe(spec))
        from engine.analyses.attend import attend

        found = attend(model, question.text)
    except UserError as error:
        return Attended(question, None, error.message, error.detail)
    except Exception as error:  # the window must get an answer, whatever is in that model
        return Attended(question, None, f"{spec.label} cannot read this: {error}.", repr(error))
    return Attended(question, _as_result(found, model.info.model_dump(mode="json")))


def _as_result(found: "xr.Dataset", info: dict[str, object]) -> "xr.Dataset":
    """The same numbers with the dimensions of a result, so that the same views draw them."""
    import xarray as xr

    lead = {"matrices": ("layer", "head", "shown", "query", "key"), "token": ("shown", "query")}
    ds = xr.Dataset(coords={"model": [info["label"]], "sample": [0]})
    for name, variable in found.data_vars.items():
        dims = lead.get(str(name), (*variable.dims[:2], "sample", *variable.dims[2:]))
        added = [i for i, dim in enumerate(dims) if dim not in variable.dims]
        ds[name] = ("model", *dims), variable.expand_dims([dims[i] for i in added], added).values[None]
    ds["sample_text"] = ("model", "sample"), [[found.attrs["text"]]]
    ds["tokens"] = ("model", "sample"), [[found.sizes["query"]]]
    ds.attrs = {
        "analysis": "attention",
        "models": json.dumps([info]),
        "spectrum": found.attrs["spectrum"],
        "notes": found.attrs["notes"],
    }
    return ds
