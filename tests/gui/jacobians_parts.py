"""A jacobians dataset of random matrices, every number of it from the matrices by numpy, and what its views draw."""

import json
from functools import cache

import numpy as np
import xarray as xr

from engine.models.info import ModelInfo
from engine.spectra.power_law import fit
from gui.plots.figure import Line
from gui.plots.selection import Selection
from gui.views.jacobians.views import NAVIGATOR, VIEWS

COMPONENTS = ("attn", "mlp", "block", "residual")
LAYERS, D, SAMPLES, K = 7, 40, 30, 8
DOSES = (0.0, 0.5, 1.0, 2.0)
# The table of claims, the same for every analysis, has tests of its own.
VIEW = {view.name: view for view in (*VIEWS, NAVIGATOR) if view.name != "claims"}
TEXTS = tuple(f"The {i}th sentence of this text ends with word {i}." for i in range(SAMPLES))
OUTLIER = 11
"""This sample's MLP at layer 2 is 30 times what the others have."""


def model_info(label: str, twin: bool, layers: int = LAYERS, revision: str | None = None) -> ModelInfo:
    return ModelInfo(
        label=label, source="m", revision=revision, twin=twin, architecture="T", family="llama", causal=True,
        n_layers=layers, d_model=D, n_heads=4, n_kv_heads=4, d_head=10, vocab_size=10, context=8, n_parameters=1,
        storage_dtype="float32", norm="rmsnorm", rotary=False, qk_norm=False, identity=label, load_bytes=1,
    )  # fmt: skip


INFOS = (model_info("m", False), model_info("m (random twin)", True), model_info("m, step 0", False, 5, "step0"))


def samples_of(rng: np.random.Generator, layer: int, twin: bool) -> dict[str, np.ndarray]:
    """Jacobians of one layer, (sample, d, d), of every component; those of a trained model have a common part."""
    slope = 0.0 if twin else 0.8
    common = rng.normal(size=(D, D)) * np.arange(1, D + 1) ** -slope / np.sqrt(D)
    size = 0.3 if twin else (1.5, 1.2, 0.5, 0.5, 0.5, 0.5, 1.4)[layer]
    draw = rng.normal(size=(2, SAMPLES, D, D)) / np.sqrt(D) * rng.lognormal(sigma=0.4, size=(2, SAMPLES, 1, 1))
    attn, mlp = size * (common + 0.4 * draw)
    if layer == 2 and not twin:
        mlp[OUTLIER] *= 30
    residual = attn + mlp + mlp @ attn
    return {"attn": attn, "mlp": mlp, "block": residual + np.eye(D), "residual": residual}


def operator(mean: np.ndarray) -> dict[str, np.ndarray]:
    """The statistics of one mean operator."""
    u, sigma, vh = np.linalg.svd(mean)
    values = np.linalg.eigvals(mean)
    values = values[np.argsort(-np.abs(values))]
    power = fit(sigma**2)
    return {
        "mean_eigenvalues": values,
        "mean_singular_values": sigma,
        "column_norm": np.linalg.norm(mean, axis=0),
        "henrici": np.sqrt(max(0, 1 - (np.abs(values) ** 2).sum() / (sigma**2).sum())),
        "self_alignment": np.square(u[:, :K].T @ vh[:K].T).sum() / K,
        "expanding_fraction": np.mean(np.abs(values) > 1),
        "complex_fraction": np.mean(np.abs(values.imag) > 1e-6 * np.abs(values[0])),
        "spectral_radius": np.abs(values[0]),
        "residual_norm": np.linalg.norm(mean - np.eye(D)) / np.sqrt(D),
        "mean_alpha_rank": power.alpha,
        "mean_alpha_rank_se": power.se,
        "mean_r2": power.r2,
    }


@cache
def jacobians_dataset(arrived: int = LAYERS, components: tuple[str, ...] = COMPONENTS) -> xr.Dataset:
    """A model, its twin and a shallower checkpoint; with fewer layers `arrived`, those of the first model alone."""
    head = ("model", "component", "layer")
    found: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}

    def put(name: str, dims: tuple[str, ...], at: tuple, value, shape: tuple[int, ...]) -> None:
        if name not in found:
            kind = complex if name == "mean_eigenvalues" else float
            found[name] = dims, np.full(shape, np.nan, kind)
        found[name][1][at] = value

    shape = (len(INFOS), len(components), LAYERS)
    for m, info in enumerate(INFOS):
        rng = np.random.default_rng(m)
        means: list[np.ndarray] = []
        count = arrived if m == 0 else info.n_layers if arrived == LAYERS else 0
        for layer in range(count):
            of = samples_of(rng, layer, info.twin)
            means.append(of["block"].mean(0))
            for c, component in enumerate(components):
                sigma = np.linalg.svd(of[component], compute_uv=False)
                sampled = {
                    "rho": sigma[:, 0],
                    "delta": sigma[:, 1] / sigma[:, 0],
                    "kappa": np.where(np.arange(SAMPLES) == 3, np.inf, sigma[:, 0] / sigma[:, -1]),
                    "pr": (sigma**2).sum(1) ** 2 / (sigma**4).sum(1),
                    "frobenius": np.sqrt((sigma**2).sum(1)),
                }
                for name, values in sampled.items():
                    put(name, (*head, "sample"), (m, c, layer), values, (*shape, SAMPLES))
                    mean, error = values[np.isfinite(values)].mean(), values[np.isfinite(values)].std() / SAMPLES**0.5
                    interval = (mean - 2 * error, mean, mean + 2 * error)
                    put(f"{name}_interval", (*head, "bound"), (m, c, layer), interval, (*shape, 3))
                whole = (*shape, SAMPLES, D)
                put("singular_values", (*head, "sample", "mode"), (m, c, layer), sigma, whole)
                for name, value in operator(of[component].mean(0)).items():
                    extra = np.shape(value)
                    last = ("unit" if name == "column_norm" else "mode",) if extra else ()
                    put(name, (*head, *last), (m, c, layer), value, (*shape, *extra))
        for c in range(len(components)):
            for layer in range(count - 1):
                put("forward_alignment", head, (m, c, layer), rng.uniform(0.1, 0.3), shape)
        if count == info.n_layers and "block" in components:
            through_depth(put, m, means)
    texts = np.array([TEXTS] * len(INFOS))
    tokens = np.array([[f" {i}." for i in range(SAMPLES)]] * len(INFOS))
    ds = xr.Dataset(found, coords={"component": list(components), "bound": ["low", "mean", "high"]})
    if "dose" in ds.dims:
        ds = ds.assign_coords(dose=list(DOSES), construction=["surgery", "control_a", "control_b"])
    ds = ds.assign(sample_text=(("model", "sample"), texts), sample_token=(("model", "sample"), tokens))
    positions = np.array([np.arange(SAMPLES) % 7] * len(INFOS), float)
    ds = ds.assign(sample_position=(("model", "sample"), positions))
    ds = ds.assign(alignment_baseline=("model", np.full(len(INFOS), K / D)))
    return ds.assign_coords(model=[info.label for info in INFOS]).assign_attrs(
        models=json.dumps([info.model_dump(mode="json") for info in INFOS]),
        notes=json.dumps(["closed form and autograd differ by at most 3.1e-15 (relative)"]),
        context="in_context",
    )


def through_depth(put, m: int, means: list[np.ndarray]) -> None:
    """The product from each layer to the last; the surgery is on the eigenvalues' own basis."""
    product = np.eye(D)
    for layer in reversed(range(len(means))):
        product = product @ means[layer]
        sigma = np.linalg.svd(product, compute_uv=False)
        rank = (sigma**2).sum() ** 2 / (sigma**4).sum()
        put("cumulative_effective_rank", ("model", "layer"), (m, layer), rank, (len(INFOS), LAYERS))
        modes = ("model", "layer", "depth_mode")
        put("cumulative_singular_values", modes, (m, layer), sigma, (len(INFOS), LAYERS, D))
        exponents = np.log(sigma) / (len(means) - layer)
        put("cumulative_exponents", modes, (m, layer), exponents, (len(INFOS), LAYERS, D))
        dims = ("model", "construction", "dose", "layer", "draw")
        for c in range(3):
            for i, dose in enumerate(DOSES):
                drawn = rank * np.exp([0, 1, 0.3][c] * (dose - 1) - [0.7 * (dose - 1), 0, 0][c]) * np.ones(4)
                drawn = drawn if c == 0 else drawn * (1 + 0.05 * np.arange(4))
                put("surgery_effective_rank", dims, (m, c, i, layer), drawn, (len(INFOS), 3, 4, LAYERS, 4))
        put("surgery_moved", ("model", "layer"), (m, layer), 0.12, (len(INFOS), LAYERS))


def draw(name, dataset, selection=Selection(), **options):  # noqa: B008 - frozen
    return VIEW[name].draw(dataset, selection, VIEW[name].options(**options))


def marks(figure, kind):
    return [mark for row in figure.rows for panel in row for mark in panel.marks if isinstance(mark, kind)]


def labelled(figure, label, kind=Line):
    return next(mark for mark in marks(figure, kind) if mark.label == label)
