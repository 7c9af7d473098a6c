"""Growth of a norm with the number of tokens: four laws fitted to all texts and compared by AIC (methods §5)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LAWS = ("constant", "root", "logarithm", "power")
FREE = np.array([1, 1, 2, 2])
"""Free coefficients of each law, without the width of the residuals."""
FEWEST = 4  # different lengths
CLEAR = 2.0
"""Difference of AIC up to which two laws are indistinguishable (Burnham and Anderson 2002)."""
STEPS = 40


@dataclass(frozen=True)
class LawFits:
    """Least-squares fits of the laws to norms over lengths n; arrays have the leading shape of the norms.

    Attributes
    ----------
    coefficients : (..., law, 2)
        In the order of `LAWS`: c and 0 of c n^0; c and ½ of c n^½; a and b of a + b ln n; c and b of c n^b.
    aic : (..., law)
        N ln(RSS/N) + 2 (free coefficients + 1): the lowest is the best, and those within `CLEAR` of it are as good.
    exponent_se : (...)
        Standard error of b of c n^b.
    """

    coefficients: Array
    aic: Array
    exponent_se: Array


def curves(coefficients: Array, lengths: Array) -> Array:
    """The four laws with these `coefficients` (..., law, 2) at `lengths`: (..., law, length)."""
    first, second = coefficients[..., :1], coefficients[..., 1:]
    n = np.asarray(lengths, float)
    logarithmic = np.array([law == "logarithm" for law in LAWS])[:, None]
    return np.where(logarithmic, first + second * np.log(n), first * n ** np.where(logarithmic, 0, second))


def fit(norms: Array, lengths: Array) -> LawFits:
    """Fit the laws to norms (..., text, length) at `lengths`; texts with NaN at some length are left out.

    All lengths share their texts, so each text's own factor, its geometric mean relative to that of all texts, is
    divided out first: differences between texts that do not depend on length carry no information about the law. With
    fewer than 4 lengths everything is NaN. Lengths without any measured text are skipped.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(norms)
    measured = np.isfinite(logs)
    columns = measured.any(-2, keepdims=True)
    whole = (measured | ~columns).all(-1, keepdims=True) & measured.any(-1, keepdims=True)
    inside = whole & columns
    enough = columns.sum((-2, -1)) >= FEWEST
    own = np.where(inside, logs, 0).sum(-1, keepdims=True) / np.maximum(inside.sum(-1, keepdims=True), 1)
    common = (own * whole).sum(-2, keepdims=True) / np.maximum(whole.sum(-2, keepdims=True), 1)
    y = np.exp(np.where(inside, logs - own + common, 0)).reshape(*norms.shape[:-2], -1)
    n = np.broadcast_to(np.asarray(lengths, float), norms.shape).reshape(y.shape)
    w, x = np.where(inside.reshape(y.shape) & enough[..., None], 1.0, 0.0), np.log(n)
    count = w.sum(-1)
    coefficients = np.full((*y.shape[:-1], len(LAWS), 2), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        for at, power in ((0, 0.0), (1, 0.5)):
            coefficients[..., at, 0] = (w * y * n**power).sum(-1) / (w * n ** (2 * power)).sum(-1)
            coefficients[..., at, 1] = power
        coefficients[..., 2, :] = _line(x, y, w)
        coefficients[..., 3, :], se = _power(x, y, w)
        model = curves(coefficients, n[..., None, :])
        rss = (w[..., None, :] * (model - y[..., None, :]) ** 2).sum(-1)
        # An exact fit has no finite AIC: bound its residuals by rounding.
        rss = np.maximum(rss, (1e-12 * (w * y**2).sum(-1))[..., None])
        aic = count[..., None] * np.log(rss / count[..., None]) + 2 * (FREE + 1)
    blank = ~enough
    for array in (coefficients, aic, se):
        array[blank] = np.nan
    return LawFits(coefficients, aic, se)


def beyond_logarithm(aic: Array, exponent: Array) -> Array:
    """AIC in favour of growth faster than ln n, (...): above `CLEAR` a head contradicts O(ln n).

    The better of √n and a growing power against the better of the logarithm and a constant. Below −`CLEAR` a head
    supports O(ln n); in between the lengths cannot decide.

    Parameters
    ----------
    aic : (..., law)
    exponent : (...)
        b of c n^b; a falling power counts as no faster than a constant.
    """
    slow = np.minimum(aic[..., LAWS.index("constant")], aic[..., LAWS.index("logarithm")])
    power = np.where(exponent > 0, aic[..., LAWS.index("power")], np.inf)
    return np.asarray(slow - np.minimum(aic[..., LAWS.index("root")], power))


def _line(x: Array, y: Array, w: Array) -> Array:
    """Intercept and slope of y on x with weights, (..., 2)."""
    total = w.sum(-1)
    mean_x, mean_y = (w * x).sum(-1) / total, (w * y).sum(-1) / total
    dx = x - mean_x[..., None]
    slope = (w * dx * (y - mean_y[..., None])).sum(-1) / (w * dx**2).sum(-1)
    return np.stack((mean_y - slope * mean_x, slope), -1)


def _power(x: Array, y: Array, w: Array) -> tuple[Array, Array]:
    """Fit c and b of c e^(bx) by Gauss–Newton from the fit of logarithms, (..., 2), and the error of b."""
    start = _line(x, np.log(y), w)
    mid = (w * x).sum(-1, keepdims=True) / w.sum(-1, keepdims=True)  # centring makes c and b nearly independent
    b = start[..., 1]
    c = np.exp(start[..., 0] + b * mid[..., 0])

    def parts(c: Array, b: Array) -> tuple[Array, Array, Array]:
        e = np.exp(b[..., None] * (x - mid))
        return e, c[..., None] * (x - mid) * e, w * (y - c[..., None] * e)

    for _ in range(STEPS):
        e, g, r = parts(c, b)
        ee, eg, gg = (w * e * e).sum(-1), (w * e * g).sum(-1), (w * g * g).sum(-1)
        er, gr, det = (e * r).sum(-1), (g * r).sum(-1), ee * gg - eg**2
        c, b = c + (gg * er - eg * gr) / det, b + np.clip((ee * gr - eg * er) / det, -0.2, 0.2)
    e, g, r = parts(c, b)
    ee, eg, gg = (w * e * e).sum(-1), (w * e * g).sum(-1), (w * g * g).sum(-1)
    variance = (r**2).sum(-1) / np.maximum(w.sum(-1) - 2, 1)
    se = np.sqrt(variance * ee / (ee * gg - eg**2))
    return np.stack((c * np.exp(-b * mid[..., 0]), b), -1), np.asarray(se)
