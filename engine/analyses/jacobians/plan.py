"""Jacobians of attention, MLP and block at one token of each sample: exact, per sample and in the mean (methods §6)."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from engine.analyses.base import Params, Unit
from engine.analyses.samples import require_readable, sample_length
from engine.errors import UserError
from engine.request import DataSpec, Request
from engine.studies import cited

if TYPE_CHECKING:
    from engine.models.info import ModelInfo

Component = Literal["attn", "mlp", "block", "residual"]
# A reference Jacobian takes as many backward passes as the residual stream has dimensions.
VERIFIED_WIDTH = 1024
# On a CPU, all layers of a model are begun without being asked twice where this many seconds are enough for them.
PATIENCE = 3600


class JacobiansParams(Params):
    """Which Jacobians, at which token of which samples, and what is made of their means."""

    context: Literal["in_context", "isolated"] = Field(
        "in_context",
        title="Context",
        description=cited(
            "The other tokens held as in the forward pass (S0 §4.2), or the token alone at position 0 (S3 A.2)"
        ),
    )
    components: tuple[Component, ...] = Field(
        ("attn", "mlp", "block", "residual"),
        title="Components",
        description="attn and mlp without their skip, the block with its skips, residual = block − I",
        min_length=1,
    )
    layers: str = Field("all", title="Layers", description="all, or some of them, such as 0, 4-7, -1 (the last)")
    samples: Literal["sentences", "windows"] = Field(
        "sentences", title="Samples", description="Sentences of the text, or windows of equal length"
    )
    position: int = Field(
        -1,
        title="Token",
        description="Where the Jacobian is taken: from 0, or from the end, −1 being the last",
        le=2**20,
    )
    kappa: bool = Field(True, title="Condition number", description="κ of every sample, by one factorisation each")
    spectra: bool = Field(
        False, title="All singular values", description="Of every sample, by a full decomposition each"
    )
    k: int = Field(64, title="Subspace width", description="Leading singular vectors in alignments", ge=1, le=4096)
    rank: int = Field(256, title="Rank", description="Of the truncated product of all layers", ge=1, le=16384)
    surgery: bool = Field(
        False, title="Schur surgery", description="Dose response of the product to the non-normal part, with controls"
    )
    surgery_of: Literal["block", "residual"] = Field(
        "block", title="Surgery on", description=cited("The block's Jacobian, or J − I (mode R of S3 C.1)")
    )
    verify: bool = Field(
        True,
        title="Verify",
        description="Compare the closed form with automatic differentiation on one sample of every layer; "
        f"residual streams wider than {VERIFIED_WIDTH:,} are passed over, as this would take minutes a layer",
    )

    @field_validator("layers")
    @classmethod
    def _spelled(cls, text: str) -> str:
        _ranges(text)
        return text

    def chosen(self, n_layers: int) -> list[int]:
        """The layers to measure, in order.

        Raises
        ------
        UserError
            If the model has fewer layers than one of them says.
        """
        layers: set[int] = set()
        for first, last in _ranges(self.layers) or [(0, -1)]:
            ends = [end + n_layers if end < 0 else end for end in (first, last)]
            if not 0 <= ends[0] <= ends[1] < n_layers:
                raise UserError(
                    f"Layers {self.layers} cannot be had of a model whose layers are 0 to {n_layers - 1}; name others."
                )
            layers.update(range(ends[0], ends[1] + 1))
        return sorted(layers)


def _ranges(text: str) -> list[tuple[int, int]]:
    """The first and last layer of each part of ``0, 4-7, -1``; none for ``all``."""
    if text.strip() == "all":
        return []
    parts = [re.fullmatch(r"(-?\d+)(?:\s*-\s*(-?\d+))?", part.strip()) for part in text.split(",")]
    if not all(parts):
        raise ValueError("layers are written all, or as numbers and ranges such as 0, 4-7, -1")
    return [(int(part[1]), int(part[2] or part[1])) for part in parts if part]


def units(request: Request, params: JacobiansParams, models: Sequence["ModelInfo"]) -> list[Unit]:
    for info in models:
        require_readable(info, request.data or DataSpec())
    planned = []
    for m, info in enumerate(models):
        cost = float(info.d_model) ** 3
        chosen = params.chosen(info.n_layers)
        planned += [Unit(layer_key(m, i), f"Layer {i}", m, i, cost) for i in chosen]
        if "block" in params.components and len(chosen) == info.n_layers:
            planned.append(Unit(depth_key(m), "Product of all layers", m, None, cost * (4 if params.surgery else 1)))
    return planned


def estimate_bytes(request: Request, params: JacobiansParams, model: "ModelInfo") -> int:
    data = request.data or DataSpec()
    stream = 4 * data.samples * sample_length(data, model) * model.d_model
    means = 8 * model.d_model**2 * (len(params.components) + 4) + 4 * model.d_model**2 * model.n_layers
    spectra = 8 * data.samples * model.d_model * len(params.components) if params.spectra else 0
    return model.load_bytes + 2 * stream + means + spectra + (1 << 30)


def check(request: Request, params: JacobiansParams, models: Sequence["ModelInfo"], device: str) -> None:
    from engine.spectra.cost import seconds

    for info in models:
        if params.layers != "all" or device != "cpu" or info.d_model <= VERIFIED_WIDTH:
            continue  # whoever names layers has been told, or knows
        samples = (request.data or DataSpec()).samples
        each = seconds("eigenvalues", info.d_model) + seconds("svd", info.d_model)
        each += samples * seconds("lu", info.d_model) * params.kappa
        layer = each * len(params.components)
        if (whole := layer * info.n_layers) > PATIENCE:
            last = info.n_layers - 1
            raise UserError(
                f"The decompositions of {info.n_layers} layers of {info.label}, {info.d_model} wide, would take "
                f"about {_duration(whole)} on this CPU, {_duration(layer)} a layer. Choose a GPU, fewer components "
                f"or no condition numbers, or name layers, such as {last // 2},{last} (about "
                f"{_duration(2 * layer)}); 0-{last} means all of them, however long it takes."
            )


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def layer_key(model: int, layer: int) -> str:
    """Names the unit of one layer."""
    return f"m{model}-layer-{layer:03d}"


def depth_key(model: int) -> str:
    """Names the unit of the product of a model's layers."""
    return f"m{model}-depth"
