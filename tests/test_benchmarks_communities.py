"""The benchmark of communities runs at a tiny size, and notices p-values that do not agree. No times are asserted."""

import pytest
import torch

from benchmarks import communities as benchmark
from engine.graphs.coupling import Correlation

torch.set_num_threads(1)
TINY = {
    "d": 120, "samples": 60, "k": 5, "factors": 6, "permutations": 499, "rate_permutations": 499, "partitions": 10,
    "restarts": 2, "looped": 300,
}  # fmt: skip


def test_p_values_agree_and_wrong_ones_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    demand = "same p within Monte-Carlo error (4 standard errors)"
    result = benchmark.communities(**TINY)
    assert result.demands[demand]
    assert result.reference is not None
    assert {f"{stage}, s" for stage in ("correlation graph", "captured variance", "layout")} <= result.facts.keys()
    right = benchmark.spearman

    def wrong(*args: object) -> Correlation:
        found = right(*args)
        return Correlation(found.rho, found.low, found.high, abs(found.p - 0.5), found.n)

    monkeypatch.setattr(benchmark, "spearman", wrong)
    assert not benchmark.communities(**TINY).demands[demand]
