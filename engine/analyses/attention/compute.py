"""Units of the attention analysis; a layer's matrices are in memory only while it is measured."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from engine.analyses.attention.plan import (
    CHUNK,
    AttentionParams,
    lengths_key,
    planned_lengths,
    shown_samples,
    sweep_key,
)
from engine.analyses.base import Computation, Unit
from engine.analyses.samples import draw, tokenizer_if_any
from engine.data.encoding import frame
from engine.errors import UserError
from engine.models.attention_hooks import AttentionHooks, LayerAttention
from engine.models.memory import halve_on_oom
from engine.request import DataSpec, Request
from engine.spectra import attention as spectra
from engine.spectra import power_law
from engine.spectra.sparsify import DOSES, MEASURED, sweep

if TYPE_CHECKING:
    from engine.models.opening import OpenModel

# Memory budget of a batch, for one layer's matrices and derived arrays of their size, in bytes.
BATCH_BYTES = 2**28
# Kinds of rotary embedding whose angles depend on text length, so that a cut text is no part of the whole one.
BY_LENGTH = {"dynamic", "longrope"}


def measure_chunk(model: "OpenModel", tokens: np.ndarray, size: int, params: AttentionParams, shown: int) -> xr.Dataset:
    """Every statistic of some samples, padded with NaN to `size` samples and to the longest one."""
    info = model.info
    longest = tokens.shape[1]
    head = (info.n_layers, info.n_heads)
    names = [name for name in spectra.STATISTICS if params.singular_values or name not in spectra.SPECTRAL]
    values_by_name = {name: np.full((*head, size), np.nan) for name in names}
    eigen_type = np.float32 if info.causal else np.complex64
    curves = {"eigenvalues": np.full((*head, size, longest), np.nan, eigen_type)}
    if params.singular_values:
        curves["singular_values"] = np.full((*head, size, longest), np.nan, np.float32)
    kept = np.full((*head, shown, longest, longest), np.nan, np.float32)
    lost: set[int] = set()
    row_error = 0.0

    def take(samples: Tensor, lengths: Tensor, at: LayerAttention) -> None:
        nonlocal row_error
        matrices, bad = prepared(at, lengths, model)
        heads = matrices.shape[1]
        row_error = max(row_error, _row_error(matrices, lengths))
        lost.update(samples[bad].tolist())
        eigen = spectra.eigenvalues(matrices, info.causal)
        singular = spectra.singular_values(matrices) if params.singular_values else None
        measured = spectra.statistics(
            matrices, lengths.to(matrices.device), info.causal,
            epsilon=params.sparsity_epsilon, window=at.window, eigen=eigen, singular=singular,
        )  # fmt: skip
        for name, values in measured.items():
            values_by_name[name][at.layer][:heads, samples.numpy()] = _host(values).T
        for row, (sample, length) in enumerate(zip(samples.tolist(), lengths.tolist(), strict=True)):
            curves["eigenvalues"][at.layer, :heads, sample, :length] = _host(eigen[row, :, :length])
            if singular is not None:
                curves["singular_values"][at.layer, :heads, sample, :length] = _host(singular[row, :, :length])
            if sample < shown:
                kept[at.layer, :heads, sample, :length, :length] = _host(matrices[row, :, :length, :length])

    through(model, tokens, take)
    for values in (*values_by_name.values(), *curves.values()):
        values[:, :, sorted(lost)] = np.nan
    ds = xr.Dataset({name: (("layer", "head", "sample"), values) for name, values in values_by_name.items()})
    ds = ds.assign({name: (("layer", "head", "sample", "mode"), values) for name, values in curves.items()})
    if params.singular_values:
        real = (tokens >= 0).sum(1).tolist()
        ds = ds.assign(_fits(curves["singular_values"], real, params, _eps(model)))
    texts, strings = _texts(model, tokens)
    ds["sample_text"] = "sample", np.array(texts + [""] * (size - len(texts)))
    ds["tokens"] = "sample", np.array([len(row) for row in strings] + [0] * (size - len(strings)))
    if shown:
        padded = [row + [""] * (longest - len(row)) for row in strings[:shown]]
        padded += [[""] * longest] * (shown - len(padded))
        ds["token"] = ("shown", "query"), np.array(padded)
        ds["matrices"] = ("layer", "head", "shown", "query", "key"), kept
    ds.attrs = {"lost": sorted(lost), "row_error": row_error}
    return ds


def measure_sweep(model: "OpenModel", tokens: np.ndarray) -> xr.Dataset:
    """Statistics of each head with its smallest weights removed: mean and standard deviation over samples."""
    info = model.info
    names = (*MEASURED, "expressivity")
    values_by_name = {name: np.full((info.n_layers, info.n_heads, len(tokens), len(DOSES)), np.nan) for name in names}

    def take(samples: Tensor, lengths: Tensor, at: LayerAttention) -> None:
        matrices, bad = prepared(at, lengths, model)
        n = lengths.to(matrices.device)
        permitted = spectra.allowed(n, matrices.shape[-1], info.causal, at.window)
        values = None if at.values is None else at.values.to(matrices.dtype)
        measured = sweep(matrices, permitted, values)
        measured["expressivity"] = measured["erank"] / n[:, None, None]
        for name, array in measured.items():
            array[bad] = torch.nan
            values_by_name[name][at.layer][: array.shape[1], samples.numpy()] = _host(array.transpose(0, 1))

    through(model, tokens, take, share=0.25)
    ds = xr.Dataset(coords={"dose": list(DOSES)})
    for name, values in values_by_name.items():
        count = np.isfinite(values).sum(2)
        mean = np.where(count > 0, np.nansum(values, 2) / np.maximum(count, 1), np.nan)
        square = np.nansum((values - mean[:, :, None]) ** 2, 2) / np.maximum(count - 1, 1)
        ds[f"sweep_{name}"] = ("layer", "head", "dose"), mean
        ds[f"sweep_{name}_std"] = ("layer", "head", "dose"), np.where(count > 1, np.sqrt(square), np.nan)
    ds.attrs = {"samples": len(tokens)}
    return ds


def measure_lengths(
    model: "OpenModel", data: DataSpec, params: AttentionParams, lengths: Sequence[int], seed: int
) -> xr.Dataset:
    """‖A‖_F and ‖A‖₂ of the same texts cut to several lengths.

    A causal token does not see what follows it, so the matrix of a text cut to n tokens is the leading n × n block of
    the matrix of the whole text. Other models read every cut text anew, with its special tokens at the ends.
    """
    info = model.info
    tokens, short = _long_texts(model, data, min(params.length_samples, data.samples), lengths, seed)
    lengths = [n for n in lengths if n <= tokens.shape[1]]
    size = (info.n_layers, info.n_heads, len(tokens), len(lengths))
    norms_by_name = {name: np.full(size, np.nan) for name in ("norm_frobenius", "norm_spectral")}
    real = torch.from_numpy((tokens >= 0).sum(1))
    closing = [] if data.is_ids else frame(model.tokenizer())[1]

    def put(samples: Tensor, whole: Tensor, bad: Tensor, layer: int, column: int) -> None:
        norms = {
            "norm_frobenius": torch.linalg.vector_norm(whole, dim=(-2, -1)),
            "norm_spectral": spectra.spectral_norms(whole),
        }
        for name, values in norms.items():
            values[bad | (real[samples] < lengths[column]).to(bad.device)] = torch.nan
            norms_by_name[name][layer, : values.shape[1], samples.numpy(), column] = _host(values)

    def nested(samples: Tensor, own: Tensor, at: LayerAttention) -> None:
        matrices, bad = prepared(at, own, model)
        for column, n in enumerate(lengths):
            if n <= matrices.shape[-1]:
                put(samples, matrices[..., :n, :n].contiguous(), bad, at.layer, column)

    if info.causal and not closing and not _by_length(model):
        through(model, tokens, nested)
    else:
        for column, n in enumerate(lengths):
            cut = np.concatenate([tokens[:, : n - len(closing)], np.tile(closing, (len(tokens), 1))], 1).astype(int)

            def take(samples: Tensor, own: Tensor, at: LayerAttention, column: int = column) -> None:
                put(samples, *prepared(at, own, model), at.layer, column)

            through(model, cut, take)
    ds = xr.Dataset({name: (("layer", "head", "sample", "length"), values) for name, values in norms_by_name.items()})
    ds = ds.assign_coords(length=lengths)
    ds["length_text"] = "sample", np.array(_texts(model, tokens)[0])
    ds.attrs = {"short": short}
    return ds


def _by_length(model: "OpenModel") -> bool:
    ropes = getattr(model.config.get_text_config(), "rope_parameters", None) or {}
    kinds = [ropes.get("rope_type"), *(rope.get("rope_type") for rope in ropes.values() if isinstance(rope, dict))]
    return bool(BY_LENGTH & set(kinds))


def _long_texts(
    model: "OpenModel", data: DataSpec, count: int, lengths: Sequence[int], seed: int
) -> tuple[np.ndarray, int]:
    """Texts of the longest length with enough data, and that length if shorter than planned, else 0."""
    for length in reversed(lengths):
        wanted = data.model_copy(update={"samples": count, "length": length})
        try:
            texts = draw(wanted, "windows", model, seed)
        except UserError:  # most likely too short a text; other errors surface at the shortest length
            if length == lengths[0]:
                raise
            continue
        return texts, 0 if length == lengths[-1] else length
    raise ValueError("no lengths")


def through(
    model: "OpenModel", tokens: np.ndarray, take: Callable[[Tensor, Tensor, LayerAttention], None], share: float = 1.0
) -> None:
    """Run the samples through the model in batches of similar length, and call `take` for each layer of each batch.

    `take` gets the numbers of the samples, their lengths, and the layer's matrices. A batch that runs out of memory is
    repeated in halves, so that `take` may see a sample twice.
    """
    hooks = AttentionHooks(model.module(), model.info.label)
    ids = torch.from_numpy(tokens)
    lengths = (ids >= 0).sum(1)

    def run(samples: Tensor) -> None:
        own = lengths[samples]
        hooks.run(ids[samples, : int(own.max())], own, lambda at: take(samples, own, at))

    def alone(sample: Tensor) -> str:
        return f"The attention matrices of one sample of {int(lengths[sample].max())} tokens do"

    order = lengths.argsort(descending=True, stable=True)
    while len(order):
        longest = int(lengths[order[0]])
        each = 4 * 4 * max(model.info.n_heads, 1) * longest**2
        size = max(1, int(share * BATCH_BYTES) // each)
        for _ in halve_on_oom(run, order[:size], alone):
            pass
        order = order[size:]


def prepared(at: LayerAttention, lengths: Tensor, model: "OpenModel") -> tuple[Tensor, Tensor]:
    """A layer's matrices in float32 or float64 without padding, and a mask of samples that are not finite, zeroed."""
    info = model.info
    if at.matrices.shape[1] != (said := info.head_count(at.layer)):
        raise UserError(
            f"Layer {at.layer} of {info.label} has {at.matrices.shape[1]} heads where its config says {said}; "
            "choose another model."
        )
    matrices = at.matrices if at.matrices.dtype == torch.float64 else at.matrices.float()
    if info.causal and matrices[0].triu(1).any():
        raise UserError(
            f"{info.label} is said to be causal, and a token of layer {at.layer} reads what comes after it; its "
            "eigenvalues would not be the diagonal. Choose another model."
        )
    matrices = spectra.without_padding(matrices, lengths.to(matrices.device))
    bad = ~matrices.isfinite().all(3).all(2).all(1)
    return (matrices.masked_fill(bad[:, None, None, None], 0) if bad.any() else matrices), bad


def _row_error(matrices: Tensor, lengths: Tensor) -> float:
    """The largest deviation of a row sum from 1."""
    real = torch.arange(matrices.shape[-1]) < lengths[:, None]
    off = (matrices.sum(-1) - 1).abs().amax(1).cpu()
    return float(off.where(real & off.ne(1), 0).max())


def _host(values: Tensor) -> np.ndarray:
    return values.cpu().numpy()


def _eps(model: "OpenModel") -> float:
    return float(torch.finfo(next(model.module().parameters()).dtype).eps)


def _fits(sigma: np.ndarray, lengths: list[int], params: AttentionParams, eps: float) -> dict[str, Any]:
    """σ_i ∝ i^−α of every head and sample, over ranks up to T/2 unless the parameters say otherwise."""
    names = ("alpha_rank", "alpha_rank_se", "r2")
    fits = {name: np.full(sigma.shape[:3], np.nan) for name in names}
    for length in set(lengths):
        rows = [row for row, own in enumerate(lengths) if own == length]
        values = sigma[:, :, rows, :length].astype(float)
        # Values below the rounding of the weights have no slope: end the window there.
        values[values < max(eps, 1e-7) * length * values[..., :1]] = 0
        try:
            fitted = power_law.fit(values, params.fit_start, params.fit_stop or length // 2)
        except UserError:  # fewer ranks than a fit needs
            continue
        for name, array in zip(names, (fitted.alpha, fitted.se, fitted.r2), strict=True):
            fits[name][:, :, rows] = array
    return {name: (("layer", "head", "sample"), values) for name, values in fits.items()}


def _texts(model: "OpenModel", tokens: np.ndarray) -> tuple[list[str], list[list[str]]]:
    """Texts of the samples, whole and token by token; ids where the model has no tokenizer."""
    rows = [row[row >= 0].tolist() for row in tokens]
    tokenizer = tokenizer_if_any(model)
    if tokenizer is None:
        strings = [[str(i) for i in row] for row in rows]
        return [" ".join(row) for row in strings], strings
    return [str(tokenizer.decode(row)) for row in rows], [[str(tokenizer.decode([i])) for i in row] for row in rows]


class Compute(Computation[AttentionParams]):
    """Chunks of samples, then thinned samples, then texts of several lengths."""

    def __init__(self) -> None:
        self._drawn: WeakKeyDictionary[OpenModel, tuple[str, np.ndarray]] = WeakKeyDictionary()

    def __call__(
        self,
        unit: Unit,
        request: Request,
        params: AttentionParams,
        model: "OpenModel",
        rng: np.random.Generator,
        done: Mapping[str, "xr.Dataset"],
    ) -> "xr.Dataset":
        data = request.data or DataSpec()
        seed = request.seeds[unit.model]
        if unit.key == lengths_key(unit.model):
            return measure_lengths(model, data, params, planned_lengths(params, model.info), seed)
        key = f"{data!r} {seed} {params.samples}"
        drawn_for, tokens = self._drawn.get(model, ("", None))
        if tokens is None or drawn_for != key:
            tokens = draw(data, params.samples, model, seed)
            self._drawn[model] = key, tokens
        if unit.key == sweep_key(unit.model):
            return measure_sweep(model, tokens[: params.sweep_samples])
        first = CHUNK * int(unit.key[-3:])
        size = min(CHUNK, data.samples - first)
        shown = shown_samples(params, data, model.info) if first == 0 else 0
        return measure_chunk(model, tokens[first : first + size], size, params, shown)
