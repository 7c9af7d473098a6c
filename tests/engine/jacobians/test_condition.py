"""κ: infinite by proof only, float64 where float32 cannot tell, and never an exception."""

import adapter_models as models
import numpy as np
import pytest
import torch
from torch import Tensor

from engine.jacobians.attention import Context
from engine.jacobians.closed import component_operators
from engine.jacobians.condition import ConditionNumbers
from engine.jacobians.operators import Dense
from engine.jacobians.spectra import condition_numbers, resolved, top_singular_values
from engine.jacobians.state import ResidualState

torch.set_num_threads(1)


def state_of(width: int, dtype: torch.dtype = torch.float64) -> ResidualState:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([9, 4, 7, 1])
    hidden = torch.randn(4, 9, width, generator=generator, dtype=torch.float64)
    return ResidualState(hidden.to(dtype), lengths, lengths - 1)


def settled(block: models.Block, state: ResidualState, context: Context) -> tuple[ConditionNumbers, dict[str, dict]]:
    conditions = ConditionNumbers(block, context, lambda at, part: component_operators(block, part, context), 2)
    operators = component_operators(block, state, context)
    values = {}
    for name, operator in operators.items():
        kappa = condition_numbers(operator, top_singular_values(operator)[:, 0])
        values[name] = conditions.settle(name, kappa, conditions.singular(name, state), torch.arange(4), state)
    return conditions, values


@pytest.mark.parametrize("context", ["in_context", "isolated"])
@pytest.mark.parametrize("name", models.CASES)
def test_every_proof_is_right(name: str, context: Context) -> None:
    block = models.block_of(name, 1, "all")
    state = state_of(block.heads.w_q.shape[2])
    conditions = ConditionNumbers(block, context, lambda *_: {}, 1)
    for component, operator in component_operators(block, state, context).items():
        sigma = torch.linalg.svdvals(operator.dense())
        proven = conditions.singular(component, state)
        assert (sigma[proven, -1] <= 1e-14 * sigma.shape[1] * sigma[proven, 0]).all()
        assert bool(proven.any()) == bool(conditions.reasons[component])


@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen3", "olmo2", "bert", "gpt_neox"])
def test_single_precision_gives_the_kappa_of_double(name: str) -> None:
    block = models.block_of(name, 1, "all")
    state = state_of(block.heads.w_q.shape[2], torch.float32)
    _, values = settled(block, state, "in_context")
    for component, operator in component_operators(block, state.to(torch.float64), "in_context").items():
        sigma = torch.linalg.svdvals(operator.dense())
        kappa, bound = values[component]["kappa"], values[component]["kappa_at_least"] == 1
        exact = sigma[:, 0] / sigma[:, -1]
        finite = kappa.isfinite() & ~bound
        np.testing.assert_allclose(kappa[finite], exact[finite], rtol=2e-2)
        assert (exact[~finite] > 1e12).all()
        assert kappa[bound].isfinite().all()


def test_what_float64_does_not_tell_is_a_lower_bound() -> None:
    sigma = torch.logspace(0, -18, 24, dtype=torch.float64)
    u, v = (
        torch.linalg.qr(torch.randn(24, 24, generator=torch.Generator().manual_seed(s)).double())[0] for s in (0, 1)
    )
    operator = Dense((u * sigma @ v)[None])
    conditions = ConditionNumbers(None, "in_context", lambda *_: {"block": operator}, 1)
    state = ResidualState(torch.zeros(1, 1, 24), torch.ones(1).long(), torch.zeros(1).long())
    settle = conditions.settle(
        "block", torch.tensor([torch.inf], dtype=torch.float64), torch.tensor([False]), torch.arange(1), state
    )
    assert settle["kappa"].item() == pytest.approx(resolved(operator))
    assert settle["kappa_at_least"].item() == 1


def singular_matrices() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    a = torch.randn(40, 40, generator=generator)
    deficient = torch.randn(40, 10, generator=generator) @ torch.randn(10, 40, generator=generator)
    triangle = torch.triu(a)
    triangle.diagonal()[[3, 17, 30]] = 1e-38
    massive = a.clone()
    massive[:, 5] *= 1e18
    return {
        "zero": torch.zeros(40, 40),
        "equal": torch.ones(40, 40),
        "deficient": deficient,
        "huge": deficient * 1e30,
        "tiny": deficient * 1e-30,
        "pivots": triangle,
        "massive": massive,
    }


@pytest.mark.parametrize("name", singular_matrices())
def test_singular_matrices_never_overflow(name: str) -> None:
    matrix = singular_matrices()[name]
    kappa = condition_numbers(Dense(matrix[None]), torch.linalg.svdvals(matrix.double())[:1])
    assert kappa.isinf().all()
