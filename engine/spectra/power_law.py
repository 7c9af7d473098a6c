"""The power law along rank, λ_i ∝ i^−α (methods eq. 1.7).

`alpha_rank` is the slope along rank, not the exponent of a density fit (`density_fit`). Pure numpy, so that a view can
refit while its window is dragged. The noise to compare every fit with is `random_matrix.noise_eigenvalues`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.errors import UserError

Array = NDArray[np.float64]

FEWEST = 5  # points


@dataclass(frozen=True)
class RankFit:
    """Ordinary least squares of ln λ_i on ln i; the arrays have the leading shape of the spectra."""

    alpha: Array  # minus the slope
    se: Array  # standard error of α
    r2: Array  # NaN for a flat spectrum
    intercept: Array  # ln λ where ln i = 0
    points: NDArray[np.int64]  # ranks used; fewer than 5 leave NaN in the rest
    ranks: NDArray[np.int64]  # the window, 1-based

    def line(self) -> Array:
        """The fitted λ at `ranks`, (..., rank)."""
        return np.exp(self.intercept[..., None] - self.alpha[..., None] * np.log(self.ranks))


def window(n: int, start: int = 10, stop: int = 100) -> slice:
    """The slice of ranks start..stop, 1-based and inclusive, of a spectrum of n values.

    Raises
    ------
    UserError
        If the spectrum has fewer than 5 values there.
    """
    chosen = slice(max(start, 1) - 1, min(stop, n))
    points = chosen.stop - chosen.start
    if points < FEWEST:
        raise UserError(
            f"A power law needs at least {FEWEST} ranks; ranks {start} to {stop} of a spectrum of {n} values hold "
            f"{max(points, 0)}. Choose a wider window."
        )
    return chosen


def fit(values: NDArray[np.floating], start: int = 10, stop: int = 100) -> RankFit:
    """`alpha_rank` of spectra (..., n), sorted descending, over ranks start..stop.

    The window ends before the first value that is not positive: a spectrum's zeros have no logarithm.
    """
    chosen = window(values.shape[-1], start, stop)
    ranks, inside = np.arange(chosen.start, chosen.stop) + 1, values[..., chosen]
    used = np.logical_and.accumulate(np.isfinite(inside) & (inside > 0), axis=-1)
    points = used.sum(-1)
    n = np.where(points >= FEWEST, points, np.nan)
    x, y = np.where(used, np.log(ranks), 0.0), np.log(np.where(used, inside, 1.0))
    mean_x, mean_y = x.sum(-1) / n, y.sum(-1) / n
    dx, dy = ((np.where(used, t - m[..., None], 0.0)) for t, m in ((x, mean_x), (y, mean_y)))
    sxx, sxy, syy = (dx**2).sum(-1), (dx * dy).sum(-1), (dy**2).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = sxy / sxx
        rss = ((dy - slope[..., None] * dx) ** 2).sum(-1)
        se, r2 = np.sqrt(rss / (n - 2) / sxx), 1 - rss / syy
    return RankFit(-slope, se, r2, mean_y - slope * mean_x, points, ranks)
