"""Spectra of W_QK and W_OV of every head, beside their random-matrix nulls (methods §2)."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from engine.analyses.base import Params, Unit
from engine.errors import UserError
from engine.request import Request

if TYPE_CHECKING:
    from engine.models.info import ModelInfo


class WeightsParams(Params):
    """Treatment of the heads' weights, and the number of null draws."""

    fold_norm: bool = Field(
        False,
        title="Fold the norm",
        description="Multiply the gain of the norm before attention into W_Q, W_K and W_V (and centre, for LayerNorm). "
        "Every layer then has a null of its own, which takes longer.",
    )
    offset: int = Field(
        0,
        title="Relative position",
        description="Δ of W_Qᵀ R_Δ W_K for rotary models: key position minus query position, so a key eight "
        "tokens back is −8.",
        ge=-1_000_000,
        le=1_000_000,
        json_schema_extra={"unit": "tokens"},
    )
    null_draws: int = Field(
        10_000,
        title="Null draws",
        description="Monte Carlo draws of Gaussian weights of the same shapes; the smallest possible p is "
        "2/(1 + draws).",
        ge=40,
        le=1_000_000,
        json_schema_extra={"unit": "draws"},
    )
    shuffled: bool = Field(
        True,
        title="Shuffled weights",
        description="Also take the spectrum of W_QK with the entries of W_Q and W_K in random order.",
    )


def units(request: Request, params: WeightsParams, models: Sequence["ModelInfo"]) -> list[Unit]:
    for info in models:
        if not info.headed_layers:
            raise UserError(f"No layer of {info.label} has softmax heads; choose a model that has some.")
    if params.offset and not any(info.rotary for info in models):
        raise UserError("A relative position needs a model with rotary positions; set it to 0.")
    planned, shapes = [], set()
    for m, info in enumerate(models):
        layers = [
            Unit(layer_key(m, layer), f"Layer {layer}", m, layer, _layer_cost(info, layer, params))
            for layer in info.headed_layers
        ]
        null = []
        for width in () if params.fold_norm else info.head_widths:
            if (width, info.d_model) in shapes:
                continue
            shapes.add((width, info.d_model))
            keys, chunks = null_keys(params, width, info.d_model), null_chunks(params, width)
            also = tuple(
                n
                for n, other in enumerate(models)
                if n > m and width in other.head_widths and other.d_model == info.d_model
            )
            what = f"Null of width {width}, {{}} of {{}}" if len(info.head_widths) > 1 else "Null {} of {}"
            null += [
                Unit(key, what.format(i, len(keys)), m, None, draws * _draw_cost(width), also)
                for i, (key, draws) in enumerate(zip(keys, chunks, strict=True), 1)
            ]
        # The first layer appears at once, its p-values as soon as the null is there.
        planned += layers[:1] + null + layers[1:]
    return planned


def estimate_bytes(request: Request, params: WeightsParams, model: "ModelInfo") -> int:
    head = model.d_head * model.d_model
    n_weights = 2 * (model.n_heads + model.n_kv_heads) * head
    stored = {"float64": 8, "bfloat16": 2, "float16": 2}.get(model.storage_dtype, 4)
    # The layer's tensors and a copy in head order; per thread a key/value head and one query head at a time in
    # fp64, with what the QR and the moments need, about twelve such matrices; the null's factors.
    threads = min(model.n_kv_heads, os.cpu_count() or 1)
    working = threads * 12 * head * 8
    if request.device != "cpu":
        working = max(working, 4 * (1 << 29))
    return 2 * n_weights * stored + working + (256 << 20)


def layer_key(model: int, layer: int) -> str:
    return f"m{model}-layer-{layer:03d}"


def null_keys(params: WeightsParams, d_head: int, d_model: int) -> list[str]:
    """Keys of the units that hold the null of heads of this shape, if no norm is folded."""
    return [f"null-{d_head}x{d_model}-{i}" for i in range(len(null_chunks(params, d_head)))]


def null_part(key: str) -> tuple[int, int]:
    """The width of the heads that a null unit is for, and its number: what `null_keys` wrote into its key."""
    _, shape, part = key.split("-")
    return int(shape.partition("x")[0]), int(part)


def null_chunks(params: WeightsParams, d_head: int) -> list[int]:
    """Draws of each null unit: about a second of work, so that cancelling stays quick."""
    most = max(100, int(1 / _draw_cost(d_head)))
    whole, rest = divmod(params.null_draws, most)
    return [most] * whole + [rest] * (rest > 0)


def folded_draws(params: WeightsParams, d_head: int, d_model: int) -> int:
    """Null draws for one layer with a folded norm, at least 200; each takes whole matrices, all a few seconds."""
    return min(params.null_draws, max(200, 50_000_000 // (d_head * d_model)))


def _draw_cost(d_head: int) -> float:
    """Rough seconds for one draw: an eigenvalue problem of d_h rows."""
    return 2e-5 + 4e-4 * (d_head / 64) ** 3


def _layer_cost(info: "ModelInfo", layer: int, params: WeightsParams) -> float:
    """Rough seconds for one layer: entries of W_QK, QR, eigenvalue problems; if folded, a null of its own."""
    shape = info.heads_at(layer)
    if shape is None:
        return 0.0
    d, r = info.d_model, shape.d_head
    head = min(d, 4096) * d * (r + 100) * 2e-11 + 8 * d * r**2 * 2e-10 + 30 * r**3 * 1e-9 + 1e-3
    null = folded_draws(params, r, d) * (d * r**2 * 1e-9 + _draw_cost(r)) if params.fold_norm else 0.0
    return shape.n_heads * head + null
