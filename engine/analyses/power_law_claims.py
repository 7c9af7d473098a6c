"""Shared claims of activation and gradient spectra: exponents by layer, compared between conditions."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.analyses.claims import Claim, Verdict
from engine.analyses.conditions import Condition, Kind, conditions
from engine.spectra.student import interval
from engine.spectra.trends import Trend, spearman, thirds, trend

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]

LEVEL = 0.05
FEWEST_LAYERS = 5


@dataclass(frozen=True)
class Curves:
    """α by layer of every condition at one site or of one weight, for each seed and for noise."""

    conditions: tuple[Condition, ...]
    every: dict[Condition, Array]  # (seed, layer)
    noise: dict[Condition, Array]  # (layer,)

    @classmethod
    def of(cls, ds: "xr.Dataset", site: str | None = None) -> "Curves":
        """The curves at one site, or of gradients without a site; empty where the site is absent."""
        if site is not None and site not in ds["site"].values:
            return cls((), {}, {})
        data = ds if site is None else ds.sel(site=site)
        kept = conditions(data)
        every = {c: c.of(data["alpha_rank"].values) for c in kept}
        return cls(kept, every, {c: interval(c.of(data["noise_alpha_rank"].values))[1] for c in kept})

    def mean(self, condition: Condition) -> Array:
        """Mean over seeds, (layer,)."""
        return interval(self.every[condition])[1]

    def kinds(self, *kinds: Kind) -> list[Condition]:
        return [c for c in self.conditions if c.kind in kinds]

    def pairs(self, first: Kind, second: Kind) -> list[tuple[Condition, Condition]]:
        """Conditions of one model that differ in their kind, on the same part of the text."""
        others = self.kinds(second)
        return [(a, b) for a in self.kinds(first) for b in others if (b.base, b.split) == (a.base, a.split)]


def verdict_of(votes: Iterable[bool | None]) -> Verdict:
    """“holds” or “fails” if all votes agree; else, or without votes, “cannot say”."""
    cast = set(votes)
    return "holds" if cast == {True} else "fails" if cast == {False} else "cannot say"


def depth_claim(curves: Curves, source: str, statement: str, evidence: str, rising: bool, kinds: list[Kind]) -> Claim:
    """Claim that α rises or falls with depth, for each condition of these kinds."""
    measurements, votes = [], list[bool | None]()
    for condition in curves.kinds(*kinds):
        test = trend(curves.mean(condition))
        if test.layers < FEWEST_LAYERS:
            continue
        measurements.append(f"{condition.label}: {trend_words(test)}")
        wanted = (test.spearman > 0) == rising
        votes.append(wanted if test.spearman_p < LEVEL else None)
    if not measurements:
        reason = f"it needs at least {FEWEST_LAYERS} layers of a trained model"
        return Claim(source, statement, reason, "cannot say", evidence)
    null = "null: the same layers in any order"
    return Claim(source, statement, f"{'; '.join(measurements)} ({null})", verdict_of(votes), evidence)


def trend_words(test: Trend) -> str:
    """A trend in numbers."""
    return f"Spearman ρ = {test.spearman:.2f}, p = {test.spearman_p:.3g}, {test.slope:+.3f} a layer"


def difference_claim(
    curves: Curves, source: str, statement: str, evidence: str, kinds: tuple[Kind, Kind], larger: bool, lacking: str
) -> Claim:
    """Claim that α of the first kind is larger (or smaller) than of the second, layer by layer, on the same text."""
    measurements, votes = [], list[bool | None]()
    for a, b in curves.pairs(*kinds):
        low, mean, high, at, over = difference(curves.mean(a), curves.mean(b), larger)
        if not np.isfinite(low):
            continue
        measurements.append(
            f"{a.label} − {b.name}: Δα = {mean:+.3f}, 95 % interval over layers {low:+.3f} to {high:+.3f}, "
            f"{at} of {over} layers {'above' if larger else 'below'}"
        )
        votes.append((mean > 0) == larger if low > 0 or high < 0 else None)
    if not measurements:
        return Claim(source, statement, lacking, "cannot say", evidence)
    return Claim(source, statement, f"{'; '.join(measurements)} (null: Δα = 0)", verdict_of(votes), evidence)


def difference(a: Array, b: Array, larger: bool) -> tuple[float, float, float, int, int]:
    """Low end, mean and high end of the difference over layers, and the layers with the claimed sign out of all."""
    gap = (a - b)[np.isfinite(a - b)]
    if len(gap) < 2:
        return np.nan, np.nan, np.nan, 0, len(gap)
    low, mean, high = (float(v) for v in interval(gap))
    return low, mean, high, int(np.sum(gap > 0 if larger else gap < 0)), len(gap)


def split_claim(curves: Curves, source: str, statement: str, evidence: str) -> Claim:
    """Claim that training and test text give the same exponents.

    It holds within twice the spread of seeds, or a tenth of the range along depth.
    """
    measurements, votes = [], list[bool | None]()
    for a in (c for c in curves.conditions if c.split == "train"):
        b = next((c for c in curves.conditions if c.split == "test" and c.name == a.name), None)
        if b is None:
            continue
        gap = np.abs(curves.mean(a) - curves.mean(b))
        reach = float(np.nanmax(curves.mean(a)) - np.nanmin(curves.mean(a)))
        seeds = curves.every[a]
        spread = float(np.nanmean(np.std(seeds, axis=0, ddof=1))) if len(seeds) > 1 else 0.0
        between = f", between seeds {spread:.3f}" if spread else ""
        measurements.append(
            f"{a.name}: |Δα| is {np.nanmean(gap):.3f} in the mean over layers, {np.nanmax(gap):.3f} at most{between}, "
            f"against a range of {reach:.3f} along depth"
        )
        votes.append(bool(np.nanmean(gap) <= max(2 * spread, 0.1 * reach)))
    if not measurements:
        reason = "it needs a trained model measured on both parts: choose the splits train and test"
        return Claim(source, statement, reason, "cannot say", evidence)
    rule = "held if below twice the spread of seeds, or below a tenth of that range"
    return Claim(source, statement, f"{'; '.join(measurements)} ({rule})", verdict_of(votes), evidence)


def loss_claim(ds: "xr.Dataset", curves: Curves, source: str, statement: str, evidence: str, positive: bool) -> Claim:
    """Claim that late α goes with a smaller loss (a larger one if `positive`), over trained models on the same text.

    Random twins are left out: they differ from all others in both and would decide it alone.
    """
    loss = ds["mean_loss" if "mean_loss" in ds else "loss"].values
    measurements, votes = [], list[bool | None]()
    for split in dict.fromkeys(c.split for c in curves.conditions):
        models = [c for c in curves.kinds("trained", "fine-tuned") if c.split == split]
        if not models:
            continue
        x = np.concatenate([c.of(loss) for c in models])
        y = np.concatenate([thirds(curves.every[c])[:, 2] for c in models])
        rho, p = spearman(x, y)
        if np.isfinite(rho):
            where = f" on {split}" if split else ""
            measurements.append(
                f"Spearman ρ of loss and α of the last third{where} = {rho:.2f}, p = {p:.3g}, {len(x)} models"
            )
            votes.append((rho > 0) == positive if p < LEVEL else None)
    if not measurements:
        reason = "it needs at least five trained models on one part of the text, such as checkpoints or seeds"
        return Claim(source, statement, reason, "cannot say", evidence)
    return Claim(
        source,
        statement,
        f"{'; '.join(measurements)} (null: the same values in any order)",
        verdict_of(votes),
        evidence,
    )
