"""Spectra of per-sequence gradients: heavy tails by layer, condition and seed (methods §4)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, cast
from weakref import WeakKeyDictionary

import numpy as np
from pydantic import Field

from engine.analyses.base import Analysis, Params, Unit
from engine.analyses.samples import Splits, require_readable, splits_of
from engine.data.splits import Split
from engine.gradients import ATTENTION_OUTPUT, LAYER, count
from engine.request import DataSpec, Request
from engine.spectra.power_law import window

if TYPE_CHECKING:
    import xarray as xr

    from engine.analyses.gradients_units import Collected
    from engine.models.info import ModelInfo
    from engine.models.opening import OpenModel

CHUNK = 32  # sequences in one unit
# Tokens that go through the model at a time; on a CPU more of them only leave its caches.
BATCH_TOKENS = {"cpu": 2**10, "cuda": 2**14}
# What gradients may take in memory before they go to the disk.
MEMORY = 2**28


class GradientsParams(Params):
    """Of which weight, on which part of the text, and where the power law is fitted."""

    weight: str = Field(
        ATTENTION_OUTPUT,
        title="Weight",
        description=f"“{ATTENTION_OUTPUT}”, or a parameter's name as the model spells it, with {LAYER} for the layer's "
        f"number: transformer.h.{LAYER}.mlp.c_fc.weight",
        min_length=1,
    )
    route: Literal["gram", "svd"] = Field(
        "gram",
        title="Route",
        description="From the Gram matrix of the gradients (fast; small σ are lost), or by orthogonal steps that keep "
        "small σ",
    )
    splits: Splits = ("all",)
    fit_start: int = Field(10, title="Fit from rank", description="First rank of the power law, from 1", ge=1)
    fit_stop: int = Field(100, title="Fit to rank", description="Last rank of the power law", ge=1)


class Gradients(Analysis[GradientsParams]):
    """Units of a few sequences, whose gradients are put aside, then one for each weight's spectrum.

    The gradients themselves are not committed: they take gigabytes. A run that is resumed in a new process forms
    those of its committed sequences again, to the same bits.
    """

    name = "gradients"
    title = "Gradients"
    summary = "Gradients of each sequence's loss: singular values and heavy tails, layer by layer."
    needs_data = True
    params = GradientsParams
    notable = {"alpha_rank": "mean", "noise_alpha_rank": "mean", "pr": "mean"}

    def __init__(self) -> None:
        self._collected: WeakKeyDictionary[OpenModel, tuple[str, Collected]] = WeakKeyDictionary()

    def units(self, request: Request, params: GradientsParams, models: Sequence["ModelInfo"]) -> list[Unit]:
        data = request.data or DataSpec()
        window(data.samples, params.fit_start, params.fit_stop)
        planned = []
        for m, info in enumerate(models):
            require_readable(info, data)
            work = 6.0 * info.n_parameters * data.length
            for split in splits_of(params.splits, info):
                for chunk in range(-(-data.samples // CHUNK)):
                    first, last = chunk * CHUNK, min((chunk + 1) * CHUNK, data.samples)
                    title = f"Sequences {first + 1} to {last}{_of(split)}"
                    planned.append(Unit(chunk_key(m, split, chunk), title, m, None, work * (last - first)))
                cost = 2.0 * data.samples**2 * info.d_model**2
                weights = count(params.weight, info.n_layers)
                for i in range(weights):
                    title = f"Layer {i}{_of(split)}" if weights > 1 else f"Spectrum{_of(split)}"
                    planned.append(Unit(weight_key(m, split, i), title, m, i, cost))
        return planned

    def estimate_bytes(self, request: Request, params: GradientsParams, model: "ModelInfo") -> int:
        data = request.data or DataSpec()
        tokens = max(BATCH_TOKENS["cpu"], data.length)
        # What a block's backward pass looks back at, attention weights included, and the logits three times.
        kept = model.n_layers * (34 * model.d_model + 3 * model.n_heads * data.length) + 3 * model.vocab_size
        return model.load_bytes + 4 * tokens * kept + 32 * data.samples**2 + MEMORY + (1 << 29)

    def check(self, request: Request, params: GradientsParams, models: Sequence["ModelInfo"], device: str) -> None:
        from engine.gradients.weights import choose
        from engine.models.checks import check

        # Seeds, twins and fine-tuned forms of a checkpoint have its names.
        checkpoints = {(spec.source, spec.revision): m for m, spec in enumerate(request.models)}
        for m in checkpoints.values():
            choose(check(request.models[m], weights=False).skeleton, params.weight, models[m].n_layers)

    def compute(
        self,
        unit: Unit,
        request: Request,
        params: GradientsParams,
        model: "OpenModel",
        rng: np.random.Generator,
        done: Mapping[str, "xr.Dataset"],
    ) -> "xr.Dataset":
        from engine.analyses.gradients_units import prepare, spectrum

        split, kind, number = _parse(unit.key)
        data = request.data or DataSpec()
        seed = request.seeds[unit.model]
        key = f"{data!r} {seed} {params.weight} {split}"
        known, collected = self._collected.get(model, ("", None))
        if collected is None or known != key:
            self._collected.pop(model, None)  # the old gradients go before the new ones come
            collected = prepare(model, data, params.weight, split, seed)
            self._collected[model] = key, collected
        chunks = [range(start, min(start + CHUNK, data.samples)) for start in range(0, data.samples, CHUNK)]
        if kind == "chunk":
            return collected.collect(chunks[number])
        for chunk in chunks:
            if not collected.there.issuperset(chunk):
                collected.collect(chunk)
        kept = np.concatenate([done[chunk_key(unit.model, split, i)]["kept"].values for i in range(len(chunks))])
        return spectrum(collected, number, np.flatnonzero(kept == 1).tolist(), params.route, rng)

    def finish(
        self,
        request: Request,
        params: GradientsParams,
        models: Sequence["ModelInfo"],
        units: Mapping[str, "xr.Dataset"],
    ) -> "xr.Dataset":
        from engine.analyses.gradients_result import assemble

        return assemble(request, params, models, units)


def chunk_key(model: int, split: Split, chunk: int) -> str:
    """Names the unit of some sequences' gradients."""
    return f"m{model}-{split}-chunk-{chunk:04d}"


def weight_key(model: int, split: Split, number: int) -> str:
    """Names the unit of one weight's spectrum."""
    return f"m{model}-{split}-weight-{number:03d}"


def _parse(key: str) -> tuple[Split, str, int]:
    _, split, kind, number = key.split("-")
    return cast(Split, split), kind, int(number)


def _of(split: Split) -> str:
    return "" if split == "all" else f", {split} split"
