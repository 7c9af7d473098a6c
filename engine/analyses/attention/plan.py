"""Attention matrices of any head on any text: spectra, norms against length, and thinned matrices (methods §5)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from engine.analyses.base import Params, Unit
from engine.analyses.samples import require_readable, sample_length
from engine.errors import UserError
from engine.request import DataSpec, Request

if TYPE_CHECKING:
    from engine.models.info import ModelInfo

CHUNK = 32
"""Samples per unit, which share one forward pass."""
FIRST_LENGTH = 16
SINK = 0.5
"""Mean weight on the first token from which a head counts as a sink head."""
# Memory budget at the longest length, for one layer's matrices and what is computed from them, in bytes.
LENGTH_BYTES = 2**31
# Budget for the kept matrices of one model, in bytes.
SHOWN_BYTES = 2**28


class AttentionParams(Params):
    """Samples, and what to compute from their attention matrices."""

    samples: Literal["windows", "sentences"] = Field(
        "windows", title="Samples", description="Windows of equal length, or sentences of the text"
    )
    sparsity_epsilon: float = Field(
        0.1, title="Small weight", description="A weight below ε/T counts as none in the sparsity", gt=0, le=1
    )
    singular_values: bool = Field(
        True,
        title="Singular values",
        description="All of them, for every head and sample; erank, (Σσ)²/Σσ² and α need them",
    )
    fit_start: int = Field(1, title="Fit from rank", description="First rank of the power law of σ", ge=1)
    fit_stop: int | None = Field(None, title="Fit to rank", description="Last rank; T/2 if empty", ge=5)
    shown: int = Field(4, title="Kept matrices", description="Samples whose matrices are kept to look at", ge=0, le=32)
    sweep_samples: int = Field(
        8, title="Thinned samples", description="Samples whose smallest weights are taken away step by step", ge=0
    )
    length_samples: int = Field(
        16, title="Texts for lengths", description="Texts that are cut to several lengths, for the norms", ge=0
    )
    lengths: tuple[int, ...] = Field(
        (), title="Lengths", description="In tokens; 16, 32, … up to the model's context if empty"
    )


def units(request: Request, params: AttentionParams, models: Sequence["ModelInfo"]) -> list[Unit]:
    data = request.data or DataSpec()
    if any(length < 2 for length in params.lengths):
        raise UserError("A text is cut to at least 2 tokens; choose longer lengths.")
    planned = []
    for m, info in enumerate(models):
        require_readable(info)
        heads = info.total_heads
        tokens = sample_length(data, info)
        cost_of_sample = heads * tokens**2 * (tokens + 64.0) + 2.0 * info.n_parameters * tokens
        for c in range(0, data.samples, CHUNK):
            last = min(c + CHUNK, data.samples)
            planned.append(
                Unit(chunk_key(m, c // CHUNK), f"Samples {c} to {last - 1}", m, None, cost_of_sample * (last - c))
            )
        if params.sweep_samples:
            planned.append(Unit(sweep_key(m), "Thinned matrices", m, None, 12 * cost_of_sample * params.sweep_samples))
        if params.length_samples and (lengths := planned_lengths(params, info)):
            cost = params.length_samples * sum(heads * n**2 * (n / 4 + 64.0) for n in lengths)
            planned.append(Unit(lengths_key(m), f"Norms up to {lengths[-1]} tokens", m, None, cost))
    return planned


def estimate_bytes(request: Request, params: AttentionParams, model: "ModelInfo") -> int:
    data = request.data or DataSpec()
    heads, tokens = model.n_layers * model.n_heads, sample_length(data, model)
    spectra = 12 * heads * data.samples * tokens * (1 + params.singular_values)
    kept = 4 * heads * tokens**2 * shown_samples(params, data, model)
    longest = max(tokens, *planned_lengths(params, model), 1) if params.length_samples else tokens
    layer = 12 * model.n_heads * longest**2 + 4 * longest * model.d_model * 8
    return model.load_bytes + 2 * spectra + 2 * kept + layer + (1 << 30)


def chunk_key(model: int, chunk: int) -> str:
    """Key of the unit of some samples."""
    return f"m{model}-samples-{chunk:03d}"


def sweep_key(model: int) -> str:
    """Key of the unit of the thinned matrices."""
    return f"m{model}-sweep"


def lengths_key(model: int) -> str:
    """Key of the unit of the norms against length."""
    return f"m{model}-lengths"


def shown_samples(params: AttentionParams, data: DataSpec, info: "ModelInfo") -> int:
    """Number of samples whose matrices are kept, as far as they fit into `SHOWN_BYTES`."""
    each = 4 * info.n_layers * info.n_heads * sample_length(data, info) ** 2
    return min(params.shown, data.samples, CHUNK, SHOWN_BYTES // max(each, 1))


def planned_lengths(params: AttentionParams, info: "ModelInfo") -> list[int]:
    """The sorted lengths in tokens that the model can read and whose matrices fit in memory."""
    most = min(int((LENGTH_BYTES / (12 * max(info.n_heads, 1))) ** 0.5), info.context or 2**30)
    doubling = [FIRST_LENGTH << i for i in range(20)]
    # End at the context even where it is no power of two.
    whole = [info.context] if doubling[0] < info.context <= most else []
    return sorted({n for n in (params.lengths or (*doubling, *whole)) if n <= most})
