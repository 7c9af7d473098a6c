"""How often each test of depth or training speaks up where there is nothing to find, and how often where there is.

It prints the table of methods §13: ours beside the test that takes layers or checkpoints for independent.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.harness import Result, seconds
from engine.graphs.coupling import spearman, spearman_along_depth
from engine.spectra import serial, student
from engine.spectra.relaxation import relax
from engine.spectra.trends import regimes, trend

Array = NDArray[np.float64]
Test = Callable[[Array, Array], bool]

LEVEL, LAYERS, PHI = 0.05, 12, (0.0, 0.5, 0.8, 1.0)
STEPS = np.concatenate([[0.0], 32 * 2.0 ** np.arange(LAYERS - 1)])
DEPTH = np.linspace(0, 1, LAYERS)
ENDS = serial.lower_end_above_middle, serial.lower_end_below_middle


@dataclass(frozen=True)
class Case:
    """A test of a series, some beside an independent second one: ours, the usual one, and an effect to be found.

    `stationary` tests are about a mean, which a random walk does not have.
    """

    ours: Test
    effect: Callable[[Array], Array]
    usual: Test | None = None
    stationary: bool = False


CASES = {
    "rise or fall along depth": Case(
        lambda x, _: trend(x).trend_p < LEVEL,
        lambda _: 8 * DEPTH,
        lambda x, _: stats.spearmanr(DEPTH, x).pvalue < LEVEL,
    ),
    "turn along depth": Case(lambda x, _: trend(x).turn_p < LEVEL, lambda _: 8 * (2 * DEPTH - 1) ** 2),
    "early layers against the rest": Case(
        lambda x, _: serial.p_value(serial.first_third_over_rest, x) < LEVEL,
        lambda _: np.where(DEPTH < 1 / 3, 8.0, 0.0),
        lambda x, _: stats.ttest_ind(x[: LAYERS // 3], x[LAYERS // 3 :]).pvalue < LEVEL,
    ),
    "both ends against the middle": Case(
        lambda x, _: min(serial.p_value(test, x) for test in ENDS) < LEVEL / 2,
        lambda _: np.where((DEPTH == 0) | (DEPTH == 1), 6.0, 0.0),
    ),
    "mean difference over layers": Case(
        lambda x, _: _excludes_zero(serial.mean_interval(x)),
        lambda _: np.full(LAYERS, 4.0),
        lambda x, _: _excludes_zero([float(end) for end in student.interval(x)]),
        stationary=True,
    ),
    "mean beside a slope": Case(
        lambda x, _: _excludes_zero(serial.mean_interval(x, sloped=True)),
        lambda _: 4 * DEPTH + 2,
        stationary=True,
    ),
    "change points": Case(lambda x, _: regimes(x).supported > 0, lambda _: np.where(DEPTH > 1 / 3, 8.0, 0.0)),
    "correlation along depth": Case(
        lambda x, y: spearman_along_depth(x, y, 999, np.random.default_rng(0)).p < LEVEL,
        lambda y: np.asarray(6 * y),
        lambda x, y: spearman(x, y, 999, np.random.default_rng(0)).p < LEVEL,
    ),
    "relaxation over checkpoints": Case(
        lambda x, _: relax(STEPS, x[None]).why[0] == "", lambda _: 6 * (1 - np.exp(-STEPS / 400))
    ),
}


def false_rates(draws: int = 400) -> Result:
    """Count how often each test speaks up in noise of each φ, and how often beside an effect."""
    facts: dict[str, float | str] = {
        "what": f"{draws} series of {LAYERS} layers or checkpoints, unit variance, level {LEVEL:g}; usual: the same "
        "test for independent values; power: at φ = 0.8, effects of 4 to 8 standard deviations"
    }
    largest = 0.0
    for name, case in CASES.items():
        words = []
        for phi in PHI:
            if phi == 1 and case.stationary:
                continue
            rng = np.random.default_rng(int(10 * phi))
            x, y = (serial.noise(phi, LAYERS, draws, rng) * (1 - min(phi, 0.9) ** 2) ** 0.5 for _ in range(2))
            ours = _rate(case.ours, x, y)
            largest = max(largest, ours)
            words.append(f"φ = {phi:g}: {ours:.1%}" + (f" (usual {_rate(case.usual, x, y):.0%})" if case.usual else ""))
            if phi == 0.8:
                power = _rate(case.ours, x + np.array([case.effect(other) for other in y]), y)
        facts[name] = f"{', '.join(words)}; power {power:.0%}"
    series = serial.noise(0.8, LAYERS, 20, np.random.default_rng(0))
    bound = LEVEL + 3 * float(np.sqrt(LEVEL * (1 - LEVEL) / draws))
    return Result(
        "false_rates",
        ours=seconds(lambda: [trend(x) for x in series]),
        reference=seconds(lambda: [spearman(x, DEPTH, 9999, np.random.default_rng(0)) for x in series]),
        demands={f"no test of ours speaks up in more than {bound:.1%} of noise": largest <= bound},
        facts=facts,
    )


def _rate(test: Test, x: Array, y: Array) -> float:
    return float(np.mean([test(*pair) for pair in zip(x, y, strict=True)]))


def _excludes_zero(ends: tuple[float, float, float] | list[float]) -> bool:
    low, _, high = ends
    return low > 0 or high < 0
