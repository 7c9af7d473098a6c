"""A dataset of one training whose every number is known."""

import numpy as np
import xarray as xr
from session_examples import INFO, models_attr

from engine.models.info import ModelInfo

STEPS = (0, 10, 20, 40, 80, 160, 320, 640)
ORDER = (3, 0, 7, 1, 2, 6, 5, 4)  # how the dataset has them
TAU = (30.0, 60.0, 120.0)
LAYERS, HEADS, SAMPLES = 3, 2, 5


def info(step: int | None, twin: bool = False, layers: int = LAYERS, source: str = "m") -> ModelInfo:
    label = f"{source}@{'twin' if twin else f'step{step}'}"
    revision = f"step{step}"
    own = {"label": label, "source": source, "revision": revision, "twin": twin, "step": step, "n_layers": layers}
    return INFO.model_copy(update=own | {"n_heads": HEADS, "d_model": 8, "d_head": 4})


def make(infos: list[ModelInfo], seed: int = 0) -> xr.Dataset:
    """A statistic that steps down at step 40, and three modes that relax with TAU."""
    rng = np.random.default_rng(seed)
    steps = np.array([one.step or 0 for one in infos], float)
    grown = (1 + np.arange(LAYERS))[:, None] * (1 + 0.1 * np.arange(HEADS))
    stat = np.where(steps < 40, 2.0, 1.0)[:, None, None] * grown + 0.01 * rng.standard_normal((len(infos), 1, 1))
    decay = np.exp(-steps[:, None] / np.array(TAU))
    modes = np.array([9.0, 5.0, 2.0]) * (1 - decay) + np.array([3.0, 2.0, 1.0]) * decay
    spectrum = modes[:, None, None] * np.ones((1, LAYERS, HEADS, 1))
    sampled = np.broadcast_to(steps[:, None, None, None], (len(infos), 2, LAYERS, SAMPLES)).copy()
    sampled[..., 0] = np.inf
    head = ("model", "layer", "head")
    return xr.Dataset(
        {
            "npr": (head, stat),
            "p_npr": (head, stat),
            "rho": (("model", "component", "layer", "sample"), sampled),
            "rho_interval": (("model", "component", "layer", "bound"), sampled[..., :3]),
            "eigenvalues": ((*head, "mode"), spectrum),
            "cloud": ((*head, "mode"), spectrum * np.exp(1j * np.array([0.0, 1.0, -1.0]))),
            "bin_edges": ("bin_edge", np.arange(3.0)),
        },
        coords={
            "model": [one.label for one in infos],
            "component": ["attn", "mlp"],
            "bound": ["low", "mean", "high"],
            "held_out_loss": ("model", 8.0 - np.log1p(steps)),
        },
        attrs={"models": models_attr(infos), "analysis": "x"},
    )


TRAINING = make([info(STEPS[i]) for i in ORDER])
