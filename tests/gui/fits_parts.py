"""Activation and gradient datasets of samples with known spectra, put together by the analyses' own functions."""

from functools import cache

import numpy as np
import torch
import xarray as xr
from jacobians_parts import model_info

from engine.analyses.activations.analysis import ACTIVATIONS
from engine.analyses.activations.compute import Sums, spectra
from engine.analyses.activations.plan import ActivationsParams, split_key
from engine.analyses.gradients.analysis import GRADIENTS
from engine.analyses.gradients.plan import GradientsParams, chunk_key, weight_key
from engine.analyses.header import assemble
from engine.request import DataSpec, ModelSpec, Request, Tuning
from engine.spectra.covariance import Covariance
from engine.spectra.random_matrix import noise_eigenvalues

LAYERS, D, N, SAMPLES = 6, 40, 300, 64
SPECS = tuple(
    ModelSpec(source="m", seed=seed, **kind) for kind in ({}, {"tuning": Tuning()}, {"twin": True}) for seed in (0, 1)
)
INFOS = tuple(model_info(spec.label, spec.twin, LAYERS) for spec in SPECS)
SPLITS = ("train", "test")
WINDOW = {"fit_start": 4, "fit_stop": 30}
DATA = DataSpec(samples=SAMPLES, length=8)


def slope(spec: ModelSpec, layer: int, site: str = "block") -> float:
    """The exponent of the population's eigenvalues: rises with depth, is larger after tuning and small in twins."""
    if spec.twin:
        return 0.4
    site_part = {"attn_out": -0.2, "mlp_act": 0.3}.get(site, 0.0)
    return 0.7 + 0.1 * layer + site_part + (0.15 if spec.tuning else 0.0)


def samples(rng: np.random.Generator, alpha: float, n: int = N, d: int = D) -> np.ndarray:
    return rng.standard_normal((n, d)) * np.arange(1, d + 1) ** (-alpha / 2)


def places(sublayers: bool) -> list[tuple[str, int]]:
    inner = ("attn_out", "mlp_act", "block") if sublayers else ("block",)
    found = [(site, layer) for layer in range(LAYERS) for site in inner]
    return [("embedding", 0), *found, ("final_norm", LAYERS - 1)] if sublayers else found


@cache
def activations(sublayers: bool = True, units: int = 100, density: bool = True) -> xr.Dataset:
    """Three conditions of two seeds on two splits; only the first `units` of them have arrived."""
    params = ActivationsParams(
        sites="sublayers" if sublayers else "blocks", splits=SPLITS, density=density, bootstrap=3, **WINDOW
    )
    request = Request(analysis="activations", params=params.model_dump(mode="json"), models=SPECS, data=DATA)
    done = {}
    for m, spec in enumerate(SPECS):
        rng = np.random.default_rng(m)
        for split in SPLITS[-1:] if spec.twin else SPLITS:
            if len(done) == units:
                break
            sums = Sums({
                (site, layer): Covariance.of(torch.from_numpy(samples(rng, slope(spec, layer, site))))
                for site, layer in places(sublayers)
            }, loss=(5.0 - slope(spec, 0) + 0.01 * spec.seed) * N, predicted=N, sequences=SAMPLES)  # fmt: skip
            done[split_key(m, split)] = spectra(sums, params, rng)
    return assemble(ACTIVATIONS, request, params, INFOS, done)


@cache
def gradients(units: int = 100) -> xr.Dataset:
    """The same conditions; the exponents fall with depth, and the last singular values are below the floor."""
    params = GradientsParams(splits=SPLITS, **WINDOW)
    request = Request(analysis="gradients", params=params.model_dump(mode="json"), models=SPECS, data=DATA)
    done = {}
    for m, spec in enumerate(SPECS):
        rng = np.random.default_rng(m)
        for split in SPLITS[-1:] if spec.twin else SPLITS:
            for chunk in range(2):
                if len(done) == units:
                    break
                loss = rng.normal(5 - slope(spec, 0), 0.3, 32)
                texts = [f"Text {i} of chunk {chunk}." for i in range(32)]
                done[chunk_key(m, split, chunk)] = xr.Dataset(
                    {
                        "loss": ("sample", loss),
                        "predicted": ("sample", np.full(32, 7)),
                        "kept": ("sample", np.ones(32, bool)),
                        "sample_text": ("sample", np.array(texts)),
                    },
                    coords={"sample": np.arange(32) + 32 * chunk},
                )
            for layer in range(LAYERS):
                if len(done) == units:
                    break
                sigma = np.linalg.svd(samples(rng, 2 - slope(spec, layer), SAMPLES, 200), compute_uv=False)
                noise = np.sqrt(noise_eigenvalues(rng, SAMPLES, 200, float((sigma**2).sum()))[0])
                done[weight_key(m, split, layer)] = xr.Dataset(
                    {
                        "singular_values": ("mode", sigma),
                        "noise_singular_values": ("mode", noise),
                        "floor": ((), float(sigma[50])),
                        "sequences": ((), SAMPLES),
                        "parameters": ((), 200),
                    },
                    attrs={"weight": f"h.{layer}.attn.c_proj.weight", "layer": layer, "tied": 1},
                )
    return assemble(GRADIENTS, request, params, INFOS, done)
