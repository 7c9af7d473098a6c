"""Shared claims of activation and gradient spectra: exponents by layer, compared between conditions (methods §13)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.analyses.claims import Claim
from engine.analyses.conditions import Condition, Kind, conditions
from engine.analyses.depth_claims import LEVEL, NULL, direction, trend_words, verdict_of
from engine.spectra import serial
from engine.spectra.student import interval, welch
from engine.spectra.trends import Trend, spearman, thirds, trend

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]

SMALLEST = 0.02
"""Smallest difference of exponents that is of interest: an interval within it is none, one beyond it is one."""
ALIKE = 0.05
"""Exponents that differ by less are called nearly the same."""
FEWEST_SEEDS = 3
"""Seeds of either condition from which an interval over seeds says more than one over layers."""


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

    def final(self, *kinds: Kind) -> list[Condition]:
        """The conditions of these kinds that are witnesses: no checkpoint that a later one follows."""
        return [c for c in self.conditions if c.kind in kinds and c.final]

    def pairs(self, first: Kind, second: Kind) -> list[tuple[Condition, Condition]]:
        """Conditions of one model that differ in their kind, on the same part of the text."""
        others = self.final(second)
        return [(a, b) for a in self.final(first) for b in others if (b.base, b.split) == (a.base, a.split)]


def depth_claim(curves: Curves, source: str, statement: str, evidence: str, rising: bool, kinds: list[Kind]) -> Claim:
    """Claim that α rises or falls with depth, for each final model of these kinds."""
    measurements, votes = [], list[bool | None]()
    for condition in curves.final(*kinds):
        test = trend(curves.mean(condition))
        if test.layers < serial.FEWEST:
            continue
        measurements.append(f"{condition.label}: {trend_words(test)}")
        votes.append(direction(test, rising))
    if not measurements:
        reason = f"it needs at least {serial.FEWEST} layers of a trained model"
        return Claim(source, statement, reason, "cannot say", evidence)
    return Claim(source, statement, f"{'; '.join(measurements)} ({NULL})", verdict_of(votes), evidence)


def bowl_vote(test: Trend) -> bool | None:
    """Whether α is a bowl along depth; an arch, or a plain rise or fall, excludes it."""
    shape = test.shape(LEVEL)
    return None if shape == "no trend" else shape == "bowl"


def difference_claim(
    curves: Curves, source: str, statement: str, evidence: str, kinds: tuple[Kind, Kind], larger: bool, lacking: str
) -> Claim:
    """Claim that α of the first kind is larger (or smaller) than of the second on the same text, by `SMALLEST`."""
    pairs = [(f"{a.label} − {b.name}: Δα", Difference.between(curves, a, b)) for a, b in curves.pairs(*kinds)]
    return gap_claim(source, statement, evidence, pairs, larger, lacking)


@dataclass(frozen=True)
class Difference:
    """The mean difference of α between two conditions, its 95 % interval, and what that is over."""

    low: float
    mean: float
    high: float
    over: str

    @classmethod
    def between(cls, curves: Curves, a: Condition, b: Condition, other: "Curves | None" = None) -> "Difference":
        """α of `a` less α of `b`, which may belong to other curves of the same models.

        Over seeds where both have `FEWEST_SEEDS`, as seeds are independent and layers are not (methods §13).
        """
        first, second = curves.every[a], (other or curves).every[b]
        with np.errstate(invalid="ignore"):
            both = np.isfinite(first).any(0) & np.isfinite(second).any(0)
        first, second = first[:, both], second[:, both]
        if min(len(first), len(second)) >= FEWEST_SEEDS and both.any():
            ends = welch(np.nanmean(first, 1), np.nanmean(second, 1))
            return cls(*ends, f"{len(first)} and {len(second)} seeds")
        layers = int(both.sum())
        return cls(*serial.mean_interval(interval(first)[1] - interval(second)[1]), f"{layers} correlated layers")

    def __str__(self) -> str:
        return f"{self.mean:+.3f}, 95 % interval {self.low:+.3f} to {self.high:+.3f} over {self.over}"

    def beyond(self, margin: float, larger: bool) -> bool | None:
        """Whether the interval lies beyond `margin` in the claimed direction; False where it excludes that."""
        low, high = (self.low, self.high) if larger else (-self.high, -self.low)
        return True if low > margin else False if high < margin else None

    def within(self, margin: float) -> bool | None:
        """Whether the interval lies within ±`margin`; False where it lies outside."""
        if self.low > -margin and self.high < margin:
            return True
        return False if self.low > margin or self.high < -margin else None


def gap_claim(
    source: str,
    statement: str,
    evidence: str,
    pairs: Iterable[tuple[str, Difference]],
    larger: bool,
    lacking: str,
) -> Claim:
    """Claim that every difference has the same sign and is of interest; each pair is what it is called, and itself."""
    known = [(name, gap) for name, gap in pairs if np.isfinite(gap.low)]
    if not known:
        return Claim(source, statement, lacking, "cannot say", evidence)
    measurement = "; ".join(f"{name} = {gap}" for name, gap in known)
    verdict = verdict_of(gap.beyond(SMALLEST, larger) for _, gap in known)
    rule = f"|Δα| below {SMALLEST} is of no interest"
    return Claim(source, statement, f"{measurement} (null: Δα = 0; {rule})", verdict, evidence)


def split_claim(curves: Curves, source: str, statement: str, evidence: str) -> Claim:
    """Claim that training and test text give the same exponents, to `ALIKE`: two one-sided tests of equivalence.

    It holds only if the layers themselves, and not just their mean, are that close.
    """
    measurements, votes = [], list[bool | None]()
    for a in (c for c in curves.final("trained", "fine-tuned") if c.split == "train"):
        b = next((c for c in curves.conditions if c.split == "test" and c.name == a.name), None)
        if b is None or not np.isfinite((gap := Difference.between(curves, a, b)).low):
            continue
        largest = float(np.nanmax(np.abs(curves.mean(a) - curves.mean(b))))
        measurements.append(f"{a.name}: Δα = {gap}; |Δα| is {largest:.3f} at most")
        alike = gap.within(ALIKE)
        votes.append(None if alike and largest > ALIKE else alike)
    if not measurements:
        reason = "it needs a trained model measured on both parts: choose the splits train and test"
        return Claim(source, statement, reason, "cannot say", evidence)
    rule = f"held if the interval lies within ±{ALIKE}, failed if beyond"
    return Claim(source, statement, f"{'; '.join(measurements)} ({rule})", verdict_of(votes), evidence)


def loss_correlation(ds: "xr.Dataset", curves: Curves, split: str, loss: str) -> tuple[float, float, int]:
    """Spearman's ρ of loss and late α over independent models on one part of the text, its p, and their number.

    Random twins would decide it alone, as they differ from all others in both; checkpoints of one training are one
    model.
    """
    models = [c for c in curves.final("trained", "fine-tuned") if c.split == split]
    if not models:
        return np.nan, np.nan, 0
    x = np.concatenate([c.of(ds[loss].values) for c in models])
    y = np.concatenate([thirds(curves.every[c])[:, 2] for c in models])
    return (*spearman(x, y), len(x))


def loss_claim(ds: "xr.Dataset", curves: Curves, source: str, statement: str, evidence: str, positive: bool) -> Claim:
    """Claim that late α goes with a smaller loss (a larger one if `positive`), over independent trained models."""
    loss = "mean_loss" if "mean_loss" in ds else "loss"
    measurements, votes = [], list[bool | None]()
    for split in dict.fromkeys(c.split for c in curves.conditions):
        rho, p, n = loss_correlation(ds, curves, split, loss)
        if np.isfinite(rho):
            where = f" on {split}" if split else ""
            measurements.append(
                f"Spearman ρ of loss and α of the last third{where} = {rho:.2f}, p = {p:.2g}, {n} models"
            )
            votes.append((rho > 0) == positive if p < LEVEL else None)
    if not measurements:
        reason = (
            "it needs at least five trained models on one part of the text, such as seeds; checkpoints of one training "
            "count as one"
        )
        return Claim(source, statement, reason, "cannot say", evidence)
    return Claim(
        source,
        statement,
        f"{'; '.join(measurements)} (null: the same values in any order)",
        verdict_of(votes),
        evidence,
    )
