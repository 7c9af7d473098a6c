"""Spectra of activation covariances: every block or sublayer, over the real positions of all sequences (methods §3)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from engine.analyses.base import Params, Unit
from engine.analyses.samples import Splits, require_readable, sample_length, splits_of
from engine.errors import UserError
from engine.request import DataSpec, Request

if TYPE_CHECKING:
    from engine.models.info import ModelInfo

# Forward operations that are worth a commit of their own: half a minute on two cores.
PART_OPERATIONS = 2e12
MOST_PARTS = 16
# Budget for the partial sums of a run until they are merged, on disk and in memory, in bytes.
PARTS_BYTES = 2**30
BATCH_TOKENS = 4096
LOGIT_BYTES = 2**29
# Variables of the density fit, and their fields in `density_fit.DensityFit`.
DENSITY = {
    "alpha_esd": "alpha", "alpha_esd_se": "se", "xmin": "xmin", "tail": "tail", "ks": "ks", "esd_p": "p",
    "lognormal_ratio": "lognormal_ratio", "lognormal_p": "lognormal_p",
}  # fmt: skip


class ActivationsParams(Params):
    """Sites, parts of the text, and the power laws fitted to the spectra."""

    sites: Literal["blocks", "sublayers"] = Field(
        "blocks", title="Sites", description="Outputs of the blocks, or these and every sublayer inside"
    )
    splits: Splits = ("all",)
    fit_start: int = Field(10, title="Fit from rank", description="First rank of the power law", ge=1)
    fit_stop: int = Field(100, title="Fit to rank", description="Last rank of the power law", ge=1)
    density: bool = Field(
        True, title="Density fit", description="Also the power law of the eigenvalues' density, by maximum likelihood"
    )
    bootstrap: int = Field(
        100, title="Bootstrap draws", description="For the p-value of each density fit; 0 leaves it out", ge=0, le=10000
    )


def units(request: Request, params: ActivationsParams, models: Sequence["ModelInfo"]) -> list[Unit]:
    from engine.spectra.power_law import window

    data = request.data or DataSpec()
    for info in models:
        require_readable(info, data)
        if not (info.d_model and info.n_layers):
            raise UserError(
                f"The config of {info.label} does not tell how wide and how deep it is, so its sites are unknown; "
                "choose another model."
            )
        window(min(info.d_model, data.samples * sample_length(data, info) - 1), params.fit_start, params.fit_stop)
    planned = []
    for m, info in enumerate(models):
        widths = site_widths(params, info)
        work = 2.0 * info.n_parameters * data.samples * sample_length(data, info)
        spectra = 10.0 * sum(width**3 for width in widths)
        parts = part_count(request, params, models, info)
        for split in splits_of(params.splits, info):
            what = "" if split == "all" else f", {split} split"
            for i in range(parts - 1):
                key = part_key(m, split, i, parts)
                planned.append(Unit(key, f"Part {i + 1} of {parts}{what}", m, None, work / parts))
            planned.append(Unit(split_key(m, split), f"Spectra{what}", m, None, work / parts + spectra))
    return planned


def estimate_bytes(request: Request, params: ActivationsParams, model: "ModelInfo") -> int:
    data = request.data or DataSpec()
    squares = sum(width**2 for width in site_widths(params, model))
    tokens = max(sample_length(data, model), batch_tokens(model))
    batch = 4 * tokens * (3 * model.vocab_size + 2 * model.n_heads * sample_length(data, model))
    divided = 2.0 * model.n_parameters * data.samples * sample_length(data, model) >= 2 * PART_OPERATIONS
    parts = 2 * min(PARTS_BYTES, 4 * squares * MOST_PARTS) if divided else 0  # stored, and read again at the end
    return model.load_bytes + 16 * squares + batch + parts + (1 << 29)  # sums of all batches and of the current one


def split_key(model: int, split: str) -> str:
    """Key of the last unit of one model on one part of the text."""
    return f"m{model}-{split}"


def part_key(model: int, split: str, part: int, parts: int) -> str:
    """Key of the unit of partial sums `part` of `parts`; the last part has none."""
    return f"{split_key(model, split)}-{part:02d}-{parts:02d}"


def site_widths(params: ActivationsParams, info: "ModelInfo") -> list[int]:
    """Widths of all sites, estimated from above: the facts about a model lack the width of its MLP."""
    d = info.d_model
    if params.sites == "blocks":
        return [d] * info.n_layers
    attention = 2 * d * info.d_head * (info.n_heads + info.n_kv_heads)
    mlp = ((info.n_parameters - info.vocab_size * d) / max(1, info.n_layers) - attention) / max(1, 2 * d)
    return ([d] * 8 + [max(d, round(mlp))] * 3) * info.n_layers


def batch_tokens(info: "ModelInfo") -> int:
    """Tokens per batch; longer samples run alone."""
    return min(BATCH_TOKENS, LOGIT_BYTES // (4 * max(1, info.vocab_size)))


def part_count(request: Request, params: ActivationsParams, models: Sequence["ModelInfo"], info: "ModelInfo") -> int:
    """Number of parts into which the sequences of one model are divided."""
    data = request.data or DataSpec()
    states = sum(
        4 * width**2 * len(splits_of(params.splits, other)) for other in models for width in site_widths(params, other)
    )
    by_work = int(2.0 * info.n_parameters * data.samples * sample_length(data, info) / PART_OPERATIONS)
    return max(1, min(by_work, 1 + PARTS_BYTES // states, MOST_PARTS, data.samples))
