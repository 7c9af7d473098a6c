"""The benchmarks of attention at a tiny size: they agree, and notice numbers that do not. No times are asserted."""

import pytest
import torch

from benchmarks import attention as attention_benchmark

torch.set_num_threads(1)


def test_attention_agrees_and_notices_wrong_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = {"layers": 2, "heads": 2, "d": 16, "samples": 3, "tokens": 12, "compared": 2}
    result = attention_benchmark.attention(**tiny)
    assert result.agreement < 1e-4
    assert result.demands["agrees to 1e-4 relative"]
    right = attention_benchmark.statistics
    wrong = {"entropy": 1.02}
    monkeypatch.setattr(
        attention_benchmark,
        "statistics",
        lambda *args: {name: value * wrong.get(name, 1) for name, value in right(*args).items()},
    )
    assert attention_benchmark.attention(**tiny).agreement == pytest.approx(0.02, rel=0.01)


def test_the_diagonal_is_exact_and_a_wrong_one_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    result = attention_benchmark.attention_diagonal(tokens=40, matrices=2)
    assert result.agreement == 0
    assert result.demands["exact"]
    right = attention_benchmark.eigenvalues
    monkeypatch.setattr(attention_benchmark, "eigenvalues", lambda *args: right(*args) + 1e-3)
    assert not attention_benchmark.attention_diagonal(tokens=40, matrices=2).demands["exact"]
