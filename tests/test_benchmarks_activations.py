"""The benchmark of activation covariances at a tiny size: it agrees, and it notices wrong numbers."""

import pytest
import torch

from benchmarks import activations as benchmark
from engine.spectra.covariance import Covariance

TINY = {"d": 16, "layers": 2, "heads": 2, "vocabulary": 40, "sequences": 7, "length": 12, "batch": 3}


def test_it_agrees_and_times_every_way() -> None:
    result = benchmark.activations(**TINY)
    assert result.agreement < 1e-6
    assert result.demands["agrees with numpy.cov to 1e-6"]
    assert result.demands["and with all means moved by 100"]
    assert result.facts["blocks over forward"] == result.ours / result.reference
    assert any(name.startswith("all sublayers (18 sites)") for name in result.facts)
    assert len(str(result.facts["seconds a sequence, after each batch"]).split(",")) == 3


def test_it_notices_wrong_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Covariance.of

    def wrong(vectors: torch.Tensor) -> Covariance:
        found = right(vectors)
        found.scatter *= 1 + 1e-5
        return found

    monkeypatch.setattr(Covariance, "of", wrong)
    result = benchmark.activations(**TINY)
    assert result.agreement == pytest.approx(1e-5, rel=0.1)
    assert not result.demands["agrees with numpy.cov to 1e-6"]
