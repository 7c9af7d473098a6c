"""Graph, communities and tests of one layer, stage by stage; permutation tests against a loop with scipy per draw."""

import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from benchmarks.harness import Result, seconds
from engine.graphs.correlation import correlation_graph, standardise
from engine.graphs.coupling import boundary_effect, spearman, tails, variance_captured
from engine.graphs.detect import Detector, Partition, average, choose_resolution, detect, resolutions, stability
from engine.graphs.layout import place
from engine.graphs.participation import participation
from engine.graphs.partitions import proper

T = TypeVar("T")
Array = NDArray[np.float64]
SEEDS = tuple(range(5))


def communities(
    d: int = 4096,
    samples: int = 1000,
    k: int = 20,
    factors: int = 60,
    layers: int = 32,
    permutations: int = 5000,
    rate_permutations: int = 10_000,
    partitions: int = 100,
    restarts: int = 10,
    looped: int = 200,
) -> Result:
    """One layer of width d: activations that follow `factors` hidden causes with either sign, and a random operator.

    The loop draws one permutation at a time and calls ``scipy.stats.ttest_ind`` (Cohen's d but for a factor) or
    ``scipy.stats.spearmanr``; `looped` of its draws are timed and scaled to all. Its p are then compared with ours, at
    as many draws for both, in standard errors of their difference.
    """
    taken: dict[str, float] = {}

    def timed(stage: str, function: Callable[[], T]) -> T:
        began = time.perf_counter()
        result = function()
        taken[stage] = time.perf_counter() - began
        return result

    rng = np.random.default_rng(0)
    cause = rng.integers(factors, size=d)
    x = 0.5 * rng.choice([-1, 1], d) * rng.standard_normal((samples, factors))[:, cause]
    activations = torch.from_numpy(x + rng.standard_normal((samples, d))).float()
    operator = torch.eye(d) + torch.from_numpy(rng.standard_normal((d, d)) / d**0.5).float()

    graph = timed("correlation graph", lambda: correlation_graph(standardise(activations)[0], k))
    gammas = resolutions([graph])
    profile = timed("stability profile", lambda: stability(graph, gammas, 0.0, SEEDS))
    gamma, _ = choose_resolution(average([profile]))
    detectors: tuple[Detector, ...] = ("cpm", "modularity", "infomap")
    result: dict[str, Partition] = {
        name: timed(f"{name}, {restarts} restarts", partial(detect, graph, name, range(restarts), gamma))
        for name in detectors
    }
    labels = result["cpm"].labels
    p, _ = timed("participation", lambda: participation(graph, labels))
    timed("layout", lambda: place(graph, labels, 0))
    norms = np.linalg.norm(operator.numpy(), axis=0).astype(float)
    # A coupling that is neither certain nor nothing, so that p has something to say.
    norms += 0.03 * norms.std() * stats.zscore(np.nan_to_num(p))
    timed("captured variance", lambda: variance_captured(operator, proper(labels), partitions, rng))
    effect = boundary_effect(p, norms, permutations, rng)
    taken["boundary test"] = seconds(lambda: boundary_effect(p, norms, permutations, rng))
    u = rng.standard_normal(layers)
    v = 0.3 * u + rng.standard_normal(layers)
    rate = spearman(u, v, rate_permutations, rng)
    taken["rate test"] = seconds(lambda: spearman(u, v, rate_permutations, rng))

    top, bottom = tails(p)
    pooled, m = np.concatenate([norms[top], norms[bottom]]), len(top)
    loop_boundary, t = _looped(lambda y: stats.ttest_ind(y[:m], y[m:]).statistic, pooled, looped, rng)
    loop_rate, rho = _looped(lambda y: stats.spearmanr(y, v).statistic, u, looped, rng)
    factor = np.sqrt(1 / m + 1 / len(bottom)) if m else np.nan
    errors = [
        _apart(effect.p, permutations, t * factor, effect.d),
        _apart(rate.p, rate_permutations, rho, rate.rho),
    ]
    ours = taken["boundary test"] + taken["rate test"]
    theirs = loop_boundary * permutations + loop_rate * rate_permutations
    ratios = {
        "boundary": loop_boundary * permutations / taken["boundary test"],
        "rate": loop_rate * rate_permutations / taken["rate test"],
    }
    facts: dict[str, float | str] = {
        "what": f"d = {d}, N = {samples}, top-{k}, {torch.get_num_threads()} threads; timed above are the "
        f"permutation tests, {permutations} and {rate_permutations} draws",
        "reference": f"{looped} draws of each loop timed and scaled to all",
        "edges": float(len(graph.weight)),
        "communities": float(result["cpm"].communities),
        "ratio of the boundary test, of the rate test": f"{ratios['boundary']:.0f}, {ratios['rate']:.0f}",
        "p of the boundary test, of the rate test": f"{effect.p:.4f}, {rate.p:.4f}",
        "largest difference of p in standard errors": max(errors),
    }
    facts |= {f"{stage}, s": time_taken for stage, time_taken in taken.items()}
    return Result(
        "communities",
        ours,
        theirs,
        demands={
            "each permutation test at least 50 times faster than a loop with scipy per draw": min(ratios.values())
            >= 50,
            "same p within Monte-Carlo error (4 standard errors)": max(errors) <= 4,
        },
        facts=facts,
    )


def _looped(
    statistic: Callable[[Array], float], values: Array, draws: int, rng: np.random.Generator
) -> tuple[float, Array]:
    """Seconds a draw, and the draws, of a loop over permutations of `values`."""
    began = time.perf_counter()
    null = np.array([statistic(rng.permutation(values)) for _ in range(draws)], float)
    return (time.perf_counter() - began) / draws, null


def _apart(p: float, permutations: int, draws: Array, observed: float) -> float:
    """How many standard errors the p of a loop's draws is from `p`."""
    tail = (1 + min((draws >= observed).sum(), (draws <= observed).sum())) / (1 + len(draws))
    # Both are twice the share of draws in a tail.
    error = 2 * np.sqrt(max(tail * (1 - tail), 1 / len(draws)) * (1 / len(draws) + 1 / permutations))
    return float(abs(min(1.0, 2 * tail) - p) / error)
