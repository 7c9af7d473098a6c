"""The benchmarks of communities run at a tiny size; p-values that do not agree are noticed. No times are asserted."""

import pytest
import torch

from benchmarks import communities as benchmark
from benchmarks.communities_drawing import communities_drawing
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


def test_the_graph_is_drawn_and_panned() -> None:
    result = communities_drawing(nodes=60, edges=200, frames=3)
    assert str(result.facts["what"]).startswith("60 nodes, 200 edges")
    assert len(result.demands) == 2
    assert result.facts["frames a second while panning, median"] > 0
