"""S2's relaxation over training, λ(t) = λ(∞)(1 − e^{−t/τ}) + λ(0) e^{−t/τ} (methods eq. 8.1). Pure numpy."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from engine.spectra import serial

Array = NDArray[np.float64]

FEWEST = 5  # checkpoints: three parameters, and two more for their errors
REACH = 10.0  # search τ from a tenth of the shortest to ten times the longest time
LEVEL = 0.05
CLEAR = 2.0
"""Difference of AIC that tells two laws apart (Burnham and Anderson 2002)."""
GRID, ZOOMS = 241, 6
POWERS = np.concatenate([np.linspace(-3.0, -0.05, 60), np.linspace(0.05, 1.0, 20)])


@dataclass(frozen=True)
class Relaxation:
    """Least-squares fits of K curves; every array is (K,), NaN where there is no fit.

    Errors are standard errors of the linearised fit at the scale of the residuals. `why` tells why a τ is unreliable;
    where it is empty, `tau_se` < `tau`.
    """

    tau: Array
    tau_se: Array
    initial: Array  # λ(0)
    initial_se: Array
    final: Array  # λ(∞)
    final_se: Array
    r2: Array
    why: tuple[str, ...]

    def curves(self, times: Array) -> Array:
        """The fitted values at `times`, (K, T)."""
        decay = np.exp(-times / self.tau[:, None])
        return np.asarray(self.final[:, None] + (self.initial - self.final)[:, None] * decay)


def relax(times: Array, values: Array) -> Relaxation:
    """Fit every curve (K, T) over the times (T,); NaN marks absent values.

    For a given τ the curve is linear in e^{−t/τ}, so the search is over τ alone: on a grid over its whole range, then
    in successive refinements around the best point.
    """
    fits = [_relax(times, np.asarray(curve, float)) for curve in values]
    tau, tau_se, initial, initial_se, final, final_se, r2 = (
        np.array([estimates for estimates, _ in fits]).reshape(-1, 7).T
    )
    return Relaxation(tau, tau_se, initial, initial_se, final, final_se, r2, tuple(why for _, why in fits))


def _relax(times: Array, values: Array) -> tuple[Array, str]:
    present = np.isfinite(times) & np.isfinite(values)
    t, y = times[present], values[present]
    if np.unique(t).size < FEWEST:
        return np.full(7, np.nan), f"{np.unique(t).size} checkpoints; at least {FEWEST} are needed"
    total = np.square(y - y.mean()).sum()
    if total <= t.size * np.square(1e-12 * np.abs(y).max()):
        return np.full(7, np.nan), "it does not change"
    gaps = np.diff(np.unique(t))
    low, high = np.log(gaps.min() / REACH), np.log(gaps.sum() * REACH)
    span = np.linspace(low, high, GRID)
    for _ in range(ZOOMS):
        best = int(_residual(_decay(span, t), y).argmin())
        around = span[max(best - 1, 0)], span[min(best + 1, len(span) - 1)]
        log_tau, span = span[best], np.linspace(*around, 21)
    tau = float(np.exp(log_tau))
    decay = np.exp(-t / tau)
    slope, final = np.polyfit(decay, y, 1) if np.ptp(decay) > 0 else (0.0, y.mean())
    residual = np.square(y - final - slope * decay).sum()
    # Columns: ∂/∂ λ(∞), ∂/∂ λ(0), ∂/∂ ln τ
    jacobian = np.stack([1 - decay, decay, slope * decay * t / tau], axis=1)
    cov = np.linalg.pinv(jacobian.T @ jacobian) * residual / (t.size - 3)
    final_se, initial_se, log_se = np.sqrt(np.maximum(np.diag(cov), 0))
    estimates = np.array([tau, tau * log_se, final + slope, initial_se, final, final_se, 1 - residual / total])
    if log_tau <= low + 1e-6 or np.linalg.matrix_rank(jacobian) < 3:
        return estimates, "it has relaxed before the second checkpoint"
    if log_tau >= high - 1e-6:
        return estimates, "it is still moving: training is too short to see where to"
    if not serial.p_value(_relaxing(tuple(t)), y) < LEVEL:
        return estimates, "noise about a constant, or a random walk, may look like this"
    if rival := _rival(t, y, float(residual)):
        return estimates, f"{rival} fits as well"
    return estimates, "" if log_se < 1 else "its error is larger than itself"


def _rival(t: Array, y: Array, residual: float) -> str:
    """A law other than a relaxation that AIC does not tell from it; empty where all are clearly worse."""
    since = 1 + (t - t.min()) / np.diff(np.unique(t)).min()
    rivals = {
        "a power law": (np.power.outer(since, POWERS).T, 1),  # shapes to choose from, and what the choice costs
        "a logarithm": (np.log(since)[None], 0),
        "a straight line": (t[None], 0),
    }
    floor = t.size * np.square(1e-12 * np.abs(y).max())
    for name, (shapes, cost) in rivals.items():
        other = float(_residual(shapes, y).min())
        # A relaxation has one parameter more than a line: τ.
        if t.size * np.log(max(other, floor) / max(residual, floor)) + 2 * (cost - 1) < CLEAR:
            return name
    return ""


@lru_cache(maxsize=16)
def _relaxing(times: tuple[float, ...]) -> serial.Statistic:
    """The share of the variance that the best relaxation over these times explains, with what it leaves."""
    t = np.array(times)
    gaps = np.diff(np.unique(t))
    decays = _decay(np.linspace(np.log(gaps.min() / REACH), np.log(gaps.sum() * REACH), GRID), t)
    shapes = decays - decays.mean(1, keepdims=True)
    norms = np.sqrt(np.square(shapes).sum(1, keepdims=True))
    shapes = shapes[norms[:, 0] > 1e-9] / norms[norms[:, 0] > 1e-9]

    def statistic(series: Array) -> tuple[Array, Array]:
        centred = series - series.mean(1, keepdims=True)
        parts = centred @ shapes.T
        best = np.abs(parts).argmax(1)
        fitted = np.take_along_axis(parts, best[:, None], 1) * shapes[best]
        total = np.maximum(np.square(centred).sum(1), np.finfo(np.float64).tiny)
        return np.square(fitted).sum(1) / total, centred - fitted

    return statistic


def _decay(log_tau: Array, t: Array) -> Array:
    """e^{−t/τ}, (G, T)."""
    return np.asarray(np.exp(-t / np.exp(log_tau)[:, None]))


def _residual(shapes: Array, y: Array) -> Array:
    """Residual sums of squares of the best line in each shape (G, T), (G,)."""
    x = shapes - shapes.mean(axis=1, keepdims=True)
    dy = y - y.mean()
    with np.errstate(invalid="ignore", divide="ignore"):
        explained = np.square(x @ dy) / np.square(x).sum(axis=1)
    return np.asarray(np.square(dy).sum() - np.nan_to_num(explained))
