"""Jacobians of attention, MLP and block at one token of each sample: exact, per sample and in the mean (methods §6)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
from pydantic import Field

from engine.analyses.base import Analysis, Params, Unit
from engine.errors import UserError
from engine.request import DataSpec, Request

if TYPE_CHECKING:
    import xarray as xr

    from engine.jacobians.stream import ResidualStream
    from engine.models.info import ModelInfo
    from engine.models.opening import OpenModel

Component = Literal["attn", "mlp", "block", "residual"]
# A reference Jacobian takes as many backward passes as the residual stream has dimensions.
VERIFIED_WIDTH = 1024


class JacobiansParams(Params):
    """Which Jacobians, at which token of which samples, and what is made of their means."""

    context: Literal["in_context", "isolated"] = Field(
        "in_context",
        title="Context",
        description="The other tokens as in the forward pass, held fixed (S0), or the token alone at position 0 (S3)",
    )
    components: tuple[Component, ...] = Field(
        ("attn", "mlp", "block", "residual"),
        title="Components",
        description="attn and mlp without their skip, the block with its skips, residual = block − I",
        min_length=1,
    )
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
    k: int = Field(64, title="Subspace width", description="Leading singular vectors in alignments", ge=1, le=4096)
    rank: int = Field(256, title="Rank", description="Of the truncated product of all layers", ge=1, le=16384)
    surgery: bool = Field(
        False, title="Schur surgery", description="Dose response of the product to the non-normal part, with controls"
    )
    surgery_of: Literal["block", "residual"] = Field(
        "block", title="Surgery on", description="The block's Jacobian, or J − I (S3's mode R)"
    )
    verify: bool = Field(
        True,
        title="Verify",
        description="Compare the closed form with automatic differentiation on one sample of every layer; "
        f"residual streams wider than {VERIFIED_WIDTH:,} are passed over, as this would take minutes a layer",
    )


class Jacobians(Analysis[JacobiansParams]):
    """One unit for each layer, and one for the product of all layers of a model."""

    name = "jacobians"
    title = "Jacobians"
    summary = "How each layer passes on small changes: singular values of every sample, spectra of the mean operator."
    needs_data = True
    params = JacobiansParams

    def __init__(self) -> None:
        self._streams: WeakKeyDictionary[OpenModel, tuple[str, ResidualStream]] = WeakKeyDictionary()

    def units(self, request: Request, params: JacobiansParams, models: Sequence["ModelInfo"]) -> list[Unit]:
        for info in models:
            if info.vocab_size == 0:
                raise UserError(f"{info.label} does not read text, so it has no samples here; choose a language model.")
            if (length := (request.data or DataSpec()).length) > info.context:
                raise UserError(
                    f"Samples of {length} tokens are longer than {info.label} can read, which is {info.context}; "
                    "choose a smaller length."
                )
        planned = []
        for m, info in enumerate(models):
            cost = float(info.d_model) ** 3
            planned += [Unit(layer_key(m, i), f"Layer {i}", m, i, cost) for i in range(info.n_layers)]
            if "block" in params.components:
                planned.append(
                    Unit(depth_key(m), "Product of all layers", m, None, cost * (4 if params.surgery else 1))
                )
        return planned

    def estimate_bytes(self, request: Request, params: JacobiansParams, model: "ModelInfo") -> int:
        data = request.data or DataSpec()
        stream = 4 * data.samples * data.length * model.d_model
        means = 8 * model.d_model**2 * (len(params.components) + 4) + 4 * model.d_model**2 * model.n_layers
        return model.load_bytes + 2 * stream + means + (1 << 30)

    def compute(
        self,
        unit: Unit,
        request: Request,
        params: JacobiansParams,
        model: "OpenModel",
        rng: np.random.Generator,
        done: Mapping[str, "xr.Dataset"],
    ) -> "xr.Dataset":
        from engine.analyses.jacobians_units import measure_layer, through_depth

        if unit.layer is not None:
            return measure_layer(self._stream_at(unit.layer, request, params, model), model, params)
        layers = [done[layer_key(unit.model, i)] for i in range(model.info.n_layers)]
        return through_depth(
            [layer["mean_jacobian"].values for layer in layers], params, model.device, int(rng.integers(2**31))
        )

    def _stream_at(self, layer: int, request: Request, params: JacobiansParams, model: "OpenModel") -> "ResidualStream":
        """The residual stream at the entrance of `layer`; between the units of a run it only goes one block on."""
        from engine.jacobians.stream import ResidualStream

        data = request.data or DataSpec()
        key = f"{data!r} {request.seed} {params.samples} {params.position}"
        known, stream = self._streams.get(model, ("", None))
        if stream is None or known != key or stream.layer > layer:
            tokens = _tokens(data, params, model, request.seed)
            lengths = (tokens >= 0).sum(1)
            positions = params.position + (lengths if params.position < 0 else 0 * lengths)
            stream = ResidualStream(model.module(), tokens, positions.tolist())
            self._streams[model] = key, stream
        while stream.layer < layer:
            stream.advance()
        return stream

    def finish(
        self,
        request: Request,
        params: JacobiansParams,
        models: Sequence["ModelInfo"],
        units: Mapping[str, "xr.Dataset"],
    ) -> "xr.Dataset":
        from engine.analyses.jacobians_result import assemble

        return assemble(request, params, models, units)


def layer_key(model: int, layer: int) -> str:
    """Names the unit of one layer."""
    return f"m{model}-layer-{layer:03d}"


def depth_key(model: int) -> str:
    """Names the unit of the product of a model's layers."""
    return f"m{model}-depth"


def _tokens(data: DataSpec, params: JacobiansParams, model: "OpenModel", seed: int) -> Any:
    """Token ids of all samples, (N, T), −1 pads."""
    from engine.data.sentences import sentences
    from engine.data.tokens import tokens

    if params.samples == "sentences" and not data.source.endswith(".npy"):
        return sentences(data, model.tokenizer(), seed)
    known = None if data.source.endswith(".npy") else model.tokenizer()
    return tokens(data, known, seed, vocab_size=model.info.vocab_size)
