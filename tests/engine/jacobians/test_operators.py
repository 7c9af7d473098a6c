"""Every operator against its matrix, made here by hand, and against its own transpose."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from engine.jacobians.operators import (
    Chain,
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

N, D, K = 3, 12, 2
HEADS, KV, WIDE, NARROW = 6, 2, 3, 4


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def by_head(block: Callable[[int, int], Tensor], a: int, b: int, heads_in: int) -> Tensor:
    """(N, HEADS·a, heads_in·b), block(sample, head) at each head's rows and the columns that it reads."""
    out = torch.zeros(N, HEADS * a, heads_in * b, dtype=torch.float64)
    for n in range(N):
        for head in range(HEADS):
            read = head // (HEADS // heads_in)
            out[n, head * a : (head + 1) * a, read * b : (read + 1) * b] = block(n, head)
    return out


blocks, left, right, scale = draw(N, HEADS, WIDE, NARROW), draw(N, HEADS, WIDE), draw(N, HEADS, NARROW), draw(N, HEADS)
weight, diagonal = draw(7, D), draw(N, D)
CASES: dict[str, tuple[Operator, Tensor]] = {
    "shared": (Shared(weight, N), weight.expand(N, 7, D)),
    "dense": (Dense(draw(N, 5, D)), draw(N, 5, D)),
    "diagonal": (Diagonal(diagonal), torch.stack([torch.diag(row) for row in diagonal])),
    "identity": (Identity(N, D, weight, 0.5), 0.5 * torch.eye(D, dtype=torch.float64).expand(N, D, D)),
    "blocks": (HeadBlocks(blocks), by_head(lambda n, h: blocks[n, h], WIDE, NARROW, HEADS)),
    "outer": (
        HeadOuter(left, right, KV),
        by_head(lambda n, h: torch.outer(left[n, h], right[n, h]), WIDE, NARROW, KV),
    ),
    "scale": (
        HeadScale(scale, KV, NARROW),
        by_head(lambda n, h: scale[n, h] * torch.eye(NARROW, dtype=torch.float64), NARROW, NARROW, KV),
    ),
}
CASES["chain"] = (
    chain(CASES["shared"][0], None, Chain((CASES["diagonal"][0], CASES["identity"][0]))),
    CASES["shared"][1] @ CASES["diagonal"][1] * 0.5,
)
CASES["chain of the cheap"] = (
    chain(CASES["diagonal"][0], CASES["diagonal"][0]),
    CASES["diagonal"][1] @ CASES["diagonal"][1],
)
CASES["sum"] = (
    Sum((CASES["diagonal"][0], CASES["identity"][0], CASES["diagonal"][0])),
    2 * CASES["diagonal"][1] + CASES["identity"][1],
)


@pytest.mark.parametrize("name", CASES)
def test_operator_is_its_matrix(name: str) -> None:
    operator, matrix = CASES[name]
    assert operator.shape == tuple(matrix.shape)
    v, u = draw(N, matrix.shape[2], K), draw(N, matrix.shape[1], K)
    torch.testing.assert_close(operator.dense(), matrix)
    torch.testing.assert_close(operator.matmul(v), matrix @ v)
    torch.testing.assert_close(operator.rmatmul(u), matrix.mT @ u)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("gain", [draw(D), None])
def test_norm_jacobian_is_the_derivative_of_the_norm(centred: bool, gain: Tensor | None) -> None:
    x = draw(N, D) + 0.3

    def norm(x: Tensor) -> Tensor:
        x = x - x.mean() if centred else x
        unit = x / (x.square().mean() + 0.1).sqrt()
        return unit if gain is None else gain * unit

    x_c = x - x.mean(1, keepdim=True) if centred else x
    r = (x_c.square().mean(1) + 0.1).rsqrt()
    operator = NormJacobian(r, x_c * r[:, None], gain, centred)
    matrix = torch.stack([torch.func.jacrev(norm)(row) for row in x])
    v, u = draw(N, D, K), draw(N, D, K + 1)
    torch.testing.assert_close(operator.dense(), matrix)
    torch.testing.assert_close(operator.matmul(v), matrix @ v)
    torch.testing.assert_close(operator.rmatmul(u), matrix.mT @ u)
