"""Mean Jacobians against the averages of matrices made one by one."""

from functools import cache

import adapter_models as models
import pytest
import torch
from torch import Tensor

from engine.jacobians import means
from engine.jacobians.closed import component_operators
from engine.jacobians.means import JacobianSum, mean_jacobian, sum_jacobians, sum_operator
from engine.jacobians.operators import (
    Dense,
    Diagonal,
    HeadBlocks,
    HeadOuter,
    HeadScale,
    Identity,
    NormJacobian,
    Operator,
    Shared,
    Sum,
    chain,
)
from engine.jacobians.state import ResidualState

torch.set_num_threads(1)
N, D, HEADS, KV, WIDE, F = 7, 12, 6, 2, 2, 10
COMPONENTS = ("attn", "mlp", "block", "residual")
CONTEXTS = ("in_context", "isolated")


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@cache
def state_of(d: int) -> ResidualState:
    lengths = torch.tensor([9, 4, 7, 1, 9, 5, 6])
    return ResidualState(1.3 * draw(N, 9, d) + 0.2, lengths, lengths - 1)


def distance(ours: Tensor, exact: Tensor) -> float:
    return float((ours - exact).norm() / exact.norm())


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("name", models.BLOCKS)
def test_every_family_is_the_average_of_its_samples(name: str, context: str) -> None:
    block = models.block_of(name, 1, "all")
    state = state_of(block.heads.w_q.shape[2])
    sums = sum_jacobians(block, state, COMPONENTS, context)
    for component, operator in component_operators(block, state, context).items():
        expected = operator.dense().mean(0)
        assert sums[component].count == N
        assert sums[component].total.dtype == torch.float64
        assert distance(sums[component].mean, expected) < 1e-12
        assert distance(mean_jacobian(block, state, component, context), expected) < 1e-12


@pytest.mark.parametrize("context", CONTEXTS)
def test_isolated_and_in_context_means_are_autograds(context: str) -> None:
    model, block = models.model_of("gpt2"), models.block_of("gpt2", 0, "all")
    state = state_of(24)

    def out(x: Tensor, sample: int) -> Tensor:
        at, before = state.positions[sample], state.hidden[sample, : state.positions[sample]]
        tokens = x[None] if context == "isolated" else torch.cat((before, x[None]))
        assert context == "isolated" or len(tokens) == at + 1
        return model.h[0](tokens[None], attention_mask=None)[0].reshape(len(tokens), -1)[-1]

    jacobians = [torch.autograd.functional.jacobian(lambda x, s=s: out(x, s), state.chosen[s]) for s in range(N)]
    assert distance(mean_jacobian(block, state, "block", context), torch.stack(jacobians).mean(0)) < 1e-10


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("name", ["gpt2", "gemma2", "bert"])
def test_merged_chunks_are_one_pass(name: str, context: str, monkeypatch: pytest.MonkeyPatch) -> None:
    block, state = models.block_of(name, 0, "all"), state_of(24)
    whole = sum_jacobians(block, state, COMPONENTS, context)
    first, rest = (sum_jacobians(block, part, COMPONENTS, context) for part in (state[:2], state[2:]))
    monkeypatch.setattr(means, "CHUNK_BYTES", 1)  # samples one by one, rows and columns one by one
    single = sum_jacobians(block, state, COMPONENTS, context)
    for component in COMPONENTS:
        merged = first[component] + rest[component]
        assert merged.count == whole[component].count == single[component].count == N
        assert distance(merged.mean, whole[component].mean) < 1e-13
        assert distance(single[component].mean, whole[component].mean) < 1e-13


def test_single_precision_is_declared_by_the_state() -> None:
    block, state = models.block_of("llama", 0, "all"), state_of(24)
    for context in CONTEXTS:
        for component in COMPONENTS:
            exact = mean_jacobian(block, state, component, context)
            found = mean_jacobian(block, state.to(torch.float32), component, context)
            assert found.dtype == torch.float64
            assert 1e-12 < distance(found, exact) < 2e-6


def test_small_differences_add_up_in_double_precision() -> None:
    part = JacobianSum(torch.full((1, 1), 1.0, dtype=torch.float64), 1)
    total = part
    for _ in range(3):
        total = total + JacobianSum(torch.full((1, 1), 1e-12, dtype=torch.float64), 1)
    assert float(total.mean) - 0.25 == pytest.approx(0.75e-12, rel=1e-3)


def norm(d: int, seed: int) -> NormJacobian:
    return NormJacobian(draw(N, seed=seed).exp(), draw(N, d, seed=seed), draw(d, seed=seed), seed % 2 == 0)


inner = HEADS * WIDE
blocks = HeadBlocks(draw(N, HEADS, WIDE, WIDE))
outer = HeadOuter(draw(N, HEADS, WIDE), draw(N, HEADS, WIDE, seed=1), KV)
scale = HeadScale(draw(N, HEADS), KV, WIDE)
mlp = chain(Shared(draw(D, F), N), Diagonal(draw(N, F)), Shared(draw(F, inner), N))
narrow = Shared(draw(KV * WIDE, D), N)
CHAINS: dict[str, Operator] = {
    "a multiple of I": Identity(N, D, draw(1), -0.5),
    "a norm": norm(D, 0),
    "two norms": chain(norm(D, 0), Shared(draw(D, F), N), norm(F, 1)),
    "a diagonal alone": Diagonal(draw(N, D)),
    "diagonal and blocks": chain(mlp, blocks, norm(inner, 2)),
    "diagonal and rank one": chain(mlp, outer, narrow),
    "diagonal and scale": chain(mlp, scale, narrow, norm(D, 1)),
    "diagonal next to blocks": chain(Diagonal(draw(N, inner)), blocks),
    "two diagonals": chain(Diagonal(draw(N, D)), Shared(draw(D, F), N), Diagonal(draw(N, F))),
    "blocks before a diagonal": chain(blocks, Shared(draw(inner, D), N), Diagonal(draw(N, D)), norm(D, 1)),
    "three of a kind": chain(blocks, Shared(draw(inner, F), N), *mlp.factors[1:], scale, norm(KV * WIDE, 1)),
    "a matrix for each": chain(Dense(draw(N, F, D)), norm(D, 3)),
    "nested sums": chain(
        Sum((Identity(N, D, draw(1)), chain(norm(D, 1), Shared(draw(D, D), N)))),
        norm(D, 2),
        Sum((Diagonal(draw(N, D)), chain(Shared(draw(D, inner), N), Sum((blocks, blocks)), Shared(draw(inner, D), N)))),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("chunk", [2**28, 2**9])
def test_every_kind_of_product(name: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(means, "CHUNK_BYTES", chunk)
    operator = CHAINS[name]
    assert distance(sum_operator(operator).mean, operator.dense().mean(0)) < 1e-13


def test_nothing_the_size_of_all_matrices_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    block, state = models.block_of("gpt2", 0, "all"), state_of(24)
    operator = component_operators(block, state, "in_context")["block"]
    monkeypatch.setattr(means, "_sum_columns", None)  # the way of products sample by sample
    for kind in (Shared, Diagonal, HeadBlocks, HeadOuter, HeadScale, NormJacobian, Identity):
        dense = kind.dense
        monkeypatch.setattr(kind, "dense", lambda self, dense=dense: dense(self) if self.shape[0] == 1 else 1 / 0)
    assert sum_operator(operator).count == N
