"""Dataset of the attention analysis from its committed units: merge, fits against length, crossings, notes."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.analyses.attention.claims import claims
from engine.analyses.attention.plan import (
    CHUNK,
    AttentionParams,
    chunk_key,
    lengths_key,
    planned_lengths,
    shown_samples,
    sweep_key,
)
from engine.analyses.base import Result
from engine.analyses.samples import sample_length
from engine.request import DataSpec, Request

if TYPE_CHECKING:
    import xarray as xr

    from engine.models.info import ModelInfo

SAMPLED = (
    "entropy", "exp_entropy", "sparsity", "erank", "r_l1l2", "stable_rank", "frobenius", "spectral_norm",
    "top_eigenvalue", "second_eigenvalue", "concentration", "alpha_rank", "alpha_rank_se", "r2", "sink",
)  # fmt: skip
NEEDS_SINGULAR = {"erank", "r_l1l2", "alpha_rank", "alpha_rank_se", "r2"}
SWEPT = ("erank", "r_l1l2", "spectral_norm", "output_error", "expressivity")


def result(
    request: Request, params: AttentionParams, models: Sequence["ModelInfo"], units: Mapping[str, "xr.Dataset"]
) -> Result:
    """Assemble all or some units; values absent, or beyond the shape of a smaller model, are NaN."""
    import xarray as xr

    data = request.data or DataSpec()
    arrived = [_units(m, units) for m in range(len(models))]
    chunks = [unit for chunk, *_ in arrived for unit in chunk.values()]
    longest = max((unit.sizes["mode"] for unit in chunks), default=max(sample_length(data, info) for info in models))
    shown = max(shown_samples(params, data, info) for info in models)
    lengths = sorted({n for info in models for n in planned_lengths(params, info)}) if params.length_samples else []
    head = {
        "model": len(models),
        "layer": max(info.n_layers for info in models),
        "head": max(info.n_heads for info in models),
    }
    ds = xr.Dataset(
        coords={
            "model": [info.label for info in models],
            "layer": np.arange(head["layer"]),
            "head": np.arange(head["head"]),
            "sample": np.arange(data.samples),
        }
    )
    sizes = head | {"sample": ds.sizes["sample"], "mode": longest, "shown": shown, "query": longest, "key": longest}
    eigen: Any = np.float32 if all(info.causal for info in models) else np.complex64
    arrays: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}

    def blank(name: str, *dims: str, dtype: Any = np.float64, fill: Any = np.nan) -> None:
        arrays[name] = dims, np.full([sizes[dim] for dim in dims], fill, dtype)

    for name in SAMPLED:
        if params.singular_values or name not in NEEDS_SINGULAR:
            blank(name, *head, "sample")
    blank("eigenvalues", *head, "sample", "mode", dtype=eigen)
    if params.singular_values:
        blank("singular_values", *head, "sample", "mode", dtype=np.float32)
    if shown:
        blank("matrices", *head, "shown", "query", "key", dtype=np.float32)
        blank("token", "model", "shown", "query", dtype=object, fill="")
    blank("sample_text", "model", "sample", dtype=object, fill="")
    blank("tokens", "model", "sample", dtype=np.int64, fill=-1)
    for m, (samples, _, _) in enumerate(arrived):
        for chunk, unit in samples.items():
            for name, (dims, array) in arrays.items():
                if name in unit:
                    start = {"sample": CHUNK * chunk}
                    values = unit[name].transpose(*dims[1:]).values
                    at = (
                        slice(start.get(d, 0), start.get(d, 0) + n) for d, n in zip(dims[1:], values.shape, strict=True)
                    )
                    array[m][tuple(at)] = values
    for name, (dims, array) in arrays.items():
        ds[name] = dims, array.astype(str) if array.dtype == object else array
    _add_sweep(ds, [sweep for _, sweep, _ in arrived], params)
    _add_lengths(ds, [length for _, _, length in arrived], lengths)
    if params.singular_values:
        _add_noise(ds, models, data, params, request.seed)
    ds["causal"] = "model", np.array([info.causal for info in models])
    kinds = {"diagonal" if info.causal else "general" for info in models}
    return Result(
        ds,
        notes=_notes(data, params, models, arrived),
        settings={"spectrum": kinds.pop() if len(kinds) == 1 else "mixed"},
        claims=partial(claims, models=models),
    )


Units = tuple[dict[int, "xr.Dataset"], "xr.Dataset | None", "xr.Dataset | None"]


def _units(m: int, units: Mapping[str, "xr.Dataset"]) -> Units:
    """One model's committed units: chunks of samples by number, thinned matrices, lengths."""
    chunks = {int(key[-3:]): unit for key, unit in units.items() if key.startswith(chunk_key(m, 0)[:-3])}
    return chunks, units.get(sweep_key(m)), units.get(lengths_key(m))


def _add_sweep(ds: "xr.Dataset", sweeps: "Sequence[xr.Dataset | None]", params: AttentionParams) -> None:
    """Statistics against sparsity, and where normalised expressivity crosses the margin."""
    from engine.spectra.attention_theory import crossing, stability_margin

    arrived = [unit for unit in sweeps if unit is not None]
    if not arrived:
        return
    doses = arrived[0]["dose"].values
    ds.coords["dose"] = doses
    dims = ("model", "layer", "head", "dose")
    for name in (part for statistic in SWEPT for part in (f"sweep_{statistic}", f"sweep_{statistic}_std")):
        array = np.full([ds.sizes[dim] for dim in dims], np.nan)
        for m, unit in enumerate(sweeps):
            if unit is not None:
                layers, heads, _ = unit[name].shape
                array[m, :layers, :heads] = unit[name].values
        ds[name] = dims, array
    margin = stability_margin(ds["sweep_spectral_norm"].values)
    ds["sweep_margin"] = dims, margin
    ds["sweep_crossing"] = dims[:3], crossing(doses, ds["sweep_expressivity"].values, np.asarray(margin))


def _add_lengths(ds: "xr.Dataset", units: "Sequence[xr.Dataset | None]", lengths: list[int]) -> None:
    """Norms against length, the fits of the four laws, and each norm's share of the bound √n."""
    from engine.spectra.norm_scaling import LAWS, fit

    if not any(unit is not None for unit in units):
        return
    ds.coords["length"], ds.coords["law"] = lengths, list(LAWS)
    ds.coords["coefficient"] = ["first", "second"]
    dims = ("model", "layer", "head", "sample", "length")
    for name in ("norm_frobenius", "norm_spectral"):
        array = np.full([ds.sizes[dim] for dim in dims], np.nan)
        for m, unit in enumerate(units):
            if unit is not None:
                layers, heads, texts, _ = unit[name].shape
                columns = [lengths.index(n) for n in unit["length"].values.tolist()]
                array[m, :layers, :heads, :texts, columns] = np.moveaxis(unit[name].values, -1, 0)
        ds[name] = dims, array
        scaling = fit(array, np.array(lengths, float))
        ds[f"{name}_coefficients"] = (*dims[:3], "law", "coefficient"), scaling.coefficients
        ds[f"{name}_aic"] = (*dims[:3], "law"), scaling.aic
        ds[f"{name}_exponent"] = dims[:3], scaling.coefficients[..., LAWS.index("power"), 1]
        ds[f"{name}_exponent_se"] = dims[:3], scaling.exponent_se
    shares = ds["norm_spectral"].values / np.sqrt(np.array(lengths, float))
    counts = np.isfinite(shares).sum(3)
    mean = np.where(counts > 0, np.nansum(shares, 3) / np.maximum(counts, 1), np.nan)
    last = np.isfinite(mean).cumsum(-1).argmax(-1)[..., None]  # the longest length measured for this head
    ds["norm_spectral_of_bound"] = dims[:3], np.take_along_axis(mean, last, -1)[..., 0]
    written = np.full((ds.sizes["model"], ds.sizes["sample"]), "", dtype=object)
    for m, unit in enumerate(units):
        if unit is not None:
            written[m, : unit.sizes["sample"]] = unit["length_text"].values
    ds["length_text"] = ("model", "sample"), written.astype(str)


def _add_noise(
    ds: "xr.Dataset", models: Sequence["ModelInfo"], data: DataSpec, params: AttentionParams, seed: int
) -> None:
    """Singular values of an iid Gaussian T × T matrix with ‖A‖_F = 1, and their fitted α."""
    from engine.errors import UserError
    from engine.spectra import power_law
    from engine.spectra.random_matrix import noise_eigenvalues

    sigma = np.full((len(models), ds.sizes["mode"]), np.nan)
    alpha = np.full(len(models), np.nan)
    for m, info in enumerate(models):
        tokens = min(sample_length(data, info), ds.sizes["mode"])
        values = noise_eigenvalues(np.random.default_rng(seed), tokens, tokens, 1.0)[0] ** 0.5
        sigma[m, :tokens] = values
        try:
            alpha[m] = power_law.fit(values[None], params.fit_start, params.fit_stop or tokens // 2).alpha[0]
        except UserError:
            continue
    ds["noise_singular_values"] = ("model", "mode"), sigma
    ds["noise_alpha_rank"] = "model", alpha


def _notes(
    data: DataSpec, params: AttentionParams, models: Sequence["ModelInfo"], arrived: Sequence[Units]
) -> list[str]:
    """Caveats that belong under every plot."""
    notes = []
    for info, (chunks, sweep, lengths) in zip(models, arrived, strict=True):
        say = f"{info.label}: "
        if sample_length(data, info) < (data.length or 0):
            notes.append(f"{say}samples of {data.length} tokens are cut to its context of {info.context}")
        what = (
            "causal attention is triangular, so its eigenvalues are its diagonal, exactly"
            if info.causal
            else "bidirectional attention: eigenvalues by a general solver; special tokens are among the tokens"
        )
        notes.append(say + what)
        if lost := sum(len(np.atleast_1d(unit.attrs["lost"])) for unit in chunks.values()):
            notes.append(f"{say}{lost} samples whose attention is not finite are left out")
        if chunks and (off := max(float(unit.attrs["row_error"]) for unit in chunks.values())) > 0.02:
            notes.append(
                f"{say}rows do not sum to 1 but miss it by up to {off:.2g}, as where a sink lies outside the text: 1 "
                "need not be an eigenvalue, nor ‖A‖₂ be at least 1"
            )
        first = chunks.get(0)
        if first is not None and (missing := int(np.isnan(first["entropy"].values).all((1, 2)).sum())):
            notes.append(f"{say}{missing} of its layers have no attention matrices and stay empty")
        if shown_samples(params, data, info) < min(params.shown, data.samples):
            notes.append(f"{say}matrices of {shown_samples(params, data, info)} samples are kept; more are too large")
        if sweep is not None and np.isnan(sweep["sweep_output_error"].values).all():
            notes.append(f"{say}the library does not show what its attention is applied to: no output error")
        wanted = planned_lengths(params, info)
        if params.lengths and len(wanted) < len(set(params.lengths)):
            notes.append(f"{say}lengths beyond {wanted[-1] if wanted else 0} tokens do not fit and are left out")
        if lengths is not None and (short := int(lengths.attrs["short"])):
            notes.append(f"{say}the text has not enough windows of {wanted[-1]} tokens: lengths go up to {short}")
    return notes
