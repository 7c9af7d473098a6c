"""Communities of the residual stream's units, and their coupling to the mean Jacobian (methods §7; S3)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from engine.analyses.base import Params, Unit
from engine.analyses.samples import require_readable, sample_length
from engine.errors import UserError
from engine.request import DataSpec, Request
from engine.studies import cited

if TYPE_CHECKING:
    from engine.models.info import ModelInfo

Detector = Literal["cpm", "modularity", "infomap"]
DETECTORS = {"cpm": "signed Leiden CPM", "modularity": "signed Leiden modularity", "infomap": "Infomap"}
# Fewer samples have no distribution of r to speak of.
FEWEST_SAMPLES = 4


class CommunitiesParams(Params):
    """How the graphs are made and divided, and how much is drawn for the nulls."""

    samples: Literal["sentences", "windows"] = Field(
        "sentences", title="Samples", description="Sentences of the text, or windows of equal length; their last token"
    )
    top_k: int = Field(20, title="Edges of a unit", description="The strongest |r| that each unit keeps", ge=1, le=4096)
    detector: tuple[Detector, ...] = Field(
        ("cpm", "modularity", "infomap"),
        title="Detectors",
        description="The first one makes the communities; the others stand beside it in the table of detectors",
        min_length=1,
        json_schema_extra={"labels": {**DETECTORS}},
    )
    gamma_positive: float | None = Field(
        None, title="γ⁺", description="Resolution of CPM on positive edges; empty: from the stability profile", gt=0
    )
    gamma_negative: float = Field(0.0, title="γ⁻", description="Resolution of CPM on negative edges", ge=0)
    restarts: int = Field(10, title="Restarts", description="Of a detector; the best quality is kept", ge=1, le=1000)
    permutations: int = Field(
        5000, title="Permutations", description="Of the units in the two tails of participation", ge=99, le=10**6
    )
    partitions: int = Field(
        999, title="Random partitions", description="Of the same sizes, for captured variance", ge=10, le=10**5
    )
    context: Literal["in_context", "isolated"] = Field(
        "isolated",
        title="Context of J",
        description=cited(
            "The token alone at position 0 (S3 A.2), or the other tokens held as in the forward pass (S0 §4.2)"
        ),
    )
    k: int = Field(64, title="Subspace width", description="Leading singular vectors in self-alignment", ge=1, le=4096)


def units(request: Request, params: CommunitiesParams, models: Sequence["ModelInfo"]) -> list[Unit]:
    data = request.data or DataSpec()
    if data.samples < FEWEST_SAMPLES:
        raise UserError(f"{data.samples} samples make no correlations; take at least {FEWEST_SAMPLES}, better 1,000.")
    planned = []
    for m, info in enumerate(models):
        require_readable(info, data)
        if params.gamma_positive is None and "cpm" in params.detector:
            planned.append(Unit(resolution_key(m), "Resolution", m))
        planned += [Unit(layer_key(m, i), f"Layer {i}", m, i) for i in range(info.n_layers)]
    return planned


def estimate_bytes(request: Request, params: CommunitiesParams, model: "ModelInfo") -> int:
    data = request.data or DataSpec()
    stream = 4 * data.samples * sample_length(data, model) * model.d_model
    # J and its decomposition in fp64; z-scores of both sites; partitions that are drawn at a time are bounded.
    unit = 8 * model.d_model**2 * 6 + 16 * data.samples * model.d_model
    return model.load_bytes + 2 * stream + unit + (1 << 30)


def layer_key(model: int, layer: int) -> str:
    """Names the unit of one layer."""
    return f"m{model}-layer-{layer:03d}"


def resolution_key(model: int) -> str:
    """Names the unit that chooses a model's γ⁺."""
    return f"m{model}-resolution"
