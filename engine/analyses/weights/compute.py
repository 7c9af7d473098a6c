"""One unit of the weights analysis: the heads of a layer, or a part of the null."""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from engine.analyses.base import Computation, Unit
from engine.analyses.weights.plan import WeightsParams, folded_draws, null_chunks, null_part
from engine.models.adapters import Norm
from engine.models.opening import OpenModel
from engine.request import Request
from engine.spectra import factored, heads, random_matrix


class Compute(Computation[WeightsParams]):
    """Computes the heads of a layer, or a chunk of null draws."""

    def __call__(
        self,
        unit: Unit,
        request: Request,
        params: WeightsParams,
        model: OpenModel,
        rng: np.random.Generator,
        done: Mapping[str, xr.Dataset],
    ) -> xr.Dataset:
        info = model.info
        if unit.layer is None:
            width, part = null_part(unit.key)
            values = random_matrix.null_eigenvalues(rng, null_chunks(params, width)[part], width, info.d_model)
            return xr.Dataset({"null_eigenvalues": (("draw", "mode"), values)})

        block = model.block(unit.layer)
        h, borrowed = block.heads, block.borrowed
        fold = _fold(block.attn_norm, params)
        kv_fold = fold if borrowed is None else _fold(borrowed.norm, params)
        rotation = block.rotary.rotation(params.offset) if block.rotary and params.offset else None
        seed = int(rng.integers(2**63))
        arrays = heads.measure(
            h.w_q, h.w_k, h.w_v, h.w_o, folds=(fold, kv_fold), rotation=rotation, shuffle=params.shuffled, seed=seed
        )
        ds = xr.Dataset({name: (("head", *_more_dims(name)), values) for name, values in arrays.items()})
        ds.attrs = {"softcap": block.softcap or 0.0, "folded": fold is not None}
        if borrowed is not None:
            ds.attrs["keys_of_layer"] = borrowed.layer
        if params.fold_norm:
            d_head = h.w_q.shape[1]
            draws = folded_draws(params, d_head, info.d_model)
            for which, left in (("qk", fold), ("ov", None)):
                values = random_matrix.null_eigenvalues(rng, draws, d_head, info.d_model, (left, kv_fold))
                ds[f"{which}_null_eigenvalues"] = ("draw", "mode"), values
        return ds


def _fold(norm: Norm | None, params: WeightsParams) -> factored.Fold | None:
    return factored.Fold(norm.gain, norm.kind == "layernorm") if norm and params.fold_norm else None


def _more_dims(name: str) -> tuple[str, ...]:
    if name.endswith("eigenvalues"):
        return ("mode",)
    return ("probability",) if name.endswith("quantiles") else ()
