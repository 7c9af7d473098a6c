"""Read a sentence with every head of a model, while somebody types it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from engine.errors import UserError
from engine.request import Device, ModelSpec
from engine.runs.jobs.job import Context, Job

if TYPE_CHECKING:
    import xarray as xr

    from engine.models.info import ModelInfo


@dataclass(frozen=True)
class Attend(Job):
    """Compute the attention of `text` in every head of a model.

    The answer is a dataset like that of a run of the attention analysis with one sample.
    """

    spec: ModelSpec
    text: str
    device: Device
    seed: int

    after_loss: ClassVar[str] = "Type again."

    def run(self, context: Context, tell: Callable[[Any], None], cancelled: Callable[[], bool]) -> "xr.Dataset":
        from engine.models.opening import describe
        from engine.runs.device import resolve_device

        if self.spec.tuning is not None:
            raise UserError("A sentence is read by a model as it is. Fine-tune it into a folder first, and load that.")
        model = context.models.get(self.spec, self.seed, resolve_device(self.device), describe(self.spec))
        from engine.analyses.attention.sentence import attend

        return _as_result(attend(model, self.text), model.info, self.seed)

    @property
    def failure(self) -> str:
        return f"{self.spec.label} cannot read this"


def _as_result(sentence: "xr.Dataset", info: "ModelInfo", seed: int) -> "xr.Dataset":
    """The same numbers with the dimensions of a result, so that the same views draw them."""
    import xarray as xr

    from engine.analyses.attention.analysis import ATTENTION
    from engine.analyses.header import Header

    leading = {"matrices": ("layer", "head", "shown", "query", "key"), "token": ("shown", "query")}
    ds = xr.Dataset(coords={"model": [info.label], "sample": [0]})
    for name, variable in sentence.data_vars.items():
        dims = leading.get(str(name), (*variable.dims[:2], "sample", *variable.dims[2:]))
        added = [i for i, dim in enumerate(dims) if dim not in variable.dims]
        ds[name] = ("model", *dims), variable.expand_dims([dims[i] for i in added], added).values[None]
    ds["sample_text"] = ("model", "sample"), [[sentence.attrs["text"]]]
    ds["tokens"] = ("model", "sample"), [[sentence.sizes["query"]]]
    notes = tuple(json.loads(sentence.attrs["notes"]))
    settings = {"spectrum": sentence.attrs["spectrum"]}
    ds.attrs = Header(ATTENTION.name, (info,), None, seed, ATTENTION.definition, notes, (), settings).attributes()
    return ds
