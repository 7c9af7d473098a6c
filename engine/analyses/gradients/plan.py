"""Spectra of per-sequence gradients: heavy tails by layer, condition and seed (methods §4)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from engine.analyses.base import Params, Unit
from engine.analyses.samples import Splits, require_readable, sample_length, splits_of
from engine.data.splits import Split
from engine.gradients import ATTENTION_OUTPUT, LAYER, layers_of
from engine.request import DataSpec, Request
from engine.spectra.power_law import window

if TYPE_CHECKING:
    from engine.models.info import ModelInfo

CHUNK = 32  # sequences per unit
# Tokens per batch; larger batches on a CPU would only leave its caches.
BATCH_TOKENS = {"cpu": 2**10, "cuda": 2**14}
# Memory budget for gradients before spilling to disk, in bytes.
MEMORY = 2**28


class GradientsParams(Params):
    """Weight, parts of the text, and window of the power law."""

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


def units(request: Request, params: GradientsParams, models: Sequence["ModelInfo"]) -> list[Unit]:
    data = request.data or DataSpec()
    window(data.samples, params.fit_start, params.fit_stop)
    planned = []
    for m, info in enumerate(models):
        require_readable(info, data)
        work = 6.0 * info.n_parameters * sample_length(data, info)
        for split in splits_of(params.splits, info):
            for chunk in range(-(-data.samples // CHUNK)):
                first, last = chunk * CHUNK, min((chunk + 1) * CHUNK, data.samples)
                title = f"Sequences {first + 1} to {last}{_of(split)}"
                planned.append(Unit(chunk_key(m, split, chunk), title, m, None, work * (last - first)))
            cost = 2.0 * data.samples**2 * info.d_model**2
            layers = layers_of(params.weight, info)
            for i, layer in enumerate(layers):
                title = f"Layer {layer}{_of(split)}" if len(layers) > 1 else f"Spectrum{_of(split)}"
                planned.append(Unit(weight_key(m, split, i), title, m, layer, cost))
    return planned


def estimate_bytes(request: Request, params: GradientsParams, model: "ModelInfo") -> int:
    data = request.data or DataSpec()
    tokens = max(BATCH_TOKENS["cpu"], sample_length(data, model))
    # What a block's backward pass looks back at, attention weights included, and the logits three times.
    kept = model.n_layers * (34 * model.d_model + 3 * model.n_heads * sample_length(data, model)) + 3 * model.vocab_size
    return model.load_bytes + 4 * tokens * kept + 32 * data.samples**2 + MEMORY + (1 << 29)


def check(request: Request, params: GradientsParams, models: Sequence["ModelInfo"], device: str) -> None:
    from engine.gradients.weights import choose
    from engine.models.checks import check

    # Seeds, twins and fine-tuned forms of a checkpoint have its names.
    checkpoints = {(spec.source, spec.revision): m for m, spec in enumerate(request.models)}
    for m in checkpoints.values():
        checked = check(request.models[m], weights=False)
        choose(checked.skeleton, params.weight, models[m].n_layers, checked.rehearsal.projections)


def chunk_key(model: int, split: Split, chunk: int) -> str:
    """Names the unit of some sequences' gradients."""
    return f"m{model}-{split}-chunk-{chunk:04d}"


def weight_key(model: int, split: Split, number: int) -> str:
    """Names the unit of one weight's spectrum."""
    return f"m{model}-{split}-weight-{number:03d}"


def _of(split: Split) -> str:
    return "" if split == "all" else f", {split} split"
