"""The reference path of blocks that read an earlier block's keys and values and an input of each token (Gemma 4 E4B).

What they are held against is the whole model, in which one block's input is replaced while everything else runs.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from unadapted_models import MODELS
from uneven_models import uneven_model

from engine.jacobians.attention import Context
from engine.jacobians.reference import reference_operators
from engine.jacobians.stream import ResidualStream
from engine.models.blocks import block_row, leaving, uncached

torch.set_num_threads(1)
NAME = "gemma4_text-shared"
IDS = np.array([[5, 9, 30, 7, 41, 12, 22], [8, 3, 17, 29, 4, -1, -1]])


def left_by(model: Any, ids: Tensor, layer: int, replace: Callable[[Tensor], Tensor], path: str = "") -> Tensor:
    """What leaves a part of block `layer`, (T, d), when the model runs on `ids` and the block's input is replaced."""
    kept: list[Tensor] = []

    def enter(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return (replace(args[0]), *args[1:]), kwargs

    block = block_row(model)[layer][1]
    part = block.get_submodule(path)
    handles = [
        block.register_forward_pre_hook(enter, with_kwargs=True),
        part.register_forward_hook(lambda _, __, out: kept.append(leaving(out)[0])),
    ]
    try:
        model(ids, **uncached(model))
    finally:
        for handle in handles:
            handle.remove()
    return kept[0]


@pytest.mark.parametrize("context", ["in_context", "isolated"])
@pytest.mark.parametrize("layer", range(4))
def test_a_block_with_what_it_borrows_held_fixed(layer: int, context: Context) -> None:
    model = uneven_model(NAME)
    stream = ResidualStream(model, IDS)
    for _ in range(layer):
        stream.advance()
    samples, state = next(iter(stream.states(torch.float64)))
    found = reference_operators(
        stream.blocks, layer, stream.inputs(samples), state, ("block", "attn", "residual"), context
    )
    for row, sample in enumerate(samples.tolist()):
        length = int((IDS[sample] >= 0).sum())
        ids, at = torch.from_numpy(IDS[sample : sample + 1, :length]), length - 1
        x = state.hidden[row, at]
        if context == "isolated":
            ids, at = ids[:, -1:], 0

        def given(hidden: Tensor, y: Tensor, at: int = at) -> Tensor:
            return torch.cat((hidden[:, :at], y[None, None]), 1)

        for component, path in (("block", ""), ("attn", "post_attention_layernorm")):
            with torch.enable_grad():
                expected = torch.autograd.functional.jacobian(
                    lambda y, ids=ids, at=at, path=path: left_by(model, ids, layer, lambda h: given(h, y), path)[at], x
                )
            difference = (found[component].dense()[row] - expected).norm() / expected.norm().clamp_min(1e-300)
            # The library takes norms, softmax and angles in float32.
            assert difference < 1e-5 or (context == "isolated" and component == "attn" and expected.norm() < 1e-9)
        eye = torch.eye(len(x), dtype=torch.float64)
        torch.testing.assert_close(found["residual"].dense()[row], found["block"].dense()[row] - eye)


def test_the_residual_stream_is_the_models_own() -> None:
    model = uneven_model(NAME)
    stream = ResidualStream(model, IDS)
    for layer in range(4):
        for samples, state in stream.states(torch.float64):
            for row, sample in enumerate(samples.tolist()):
                length = int((IDS[sample] >= 0).sum())
                ids = torch.from_numpy(IDS[sample : sample + 1, :length])
                entered: list[Tensor] = []
                left_by(model, ids, layer, lambda h, entered=entered: entered.append(h[0].clone()) or h)
                torch.testing.assert_close(state.hidden[row, :length], entered[0], rtol=1e-6, atol=1e-6)
        stream.advance()


@pytest.mark.parametrize("layer", range(2))
def test_what_the_first_block_returns_beside_the_stream_is_held_fixed(layer: int) -> None:
    """T5's first block makes the position bias that all later ones add to their scores."""
    model = MODELS["t5-encoder"]().double().eval().requires_grad_(False)
    stream = ResidualStream(model, IDS[:1])
    for _ in range(layer):
        stream.advance()
    samples, state = next(iter(stream.states(torch.float64)))
    found = reference_operators(stream.blocks, layer, stream.inputs(samples), state, ("block",), "in_context")["block"]
    x, ids = state.hidden[0, -1], torch.from_numpy(IDS[:1])

    def left(y: Tensor) -> Tensor:
        return left_by(model, ids, layer, lambda hidden: torch.cat((hidden[:, :-1], y[None, None]), 1))[-1]

    with torch.enable_grad():
        expected = torch.autograd.functional.jacobian(left, x)
    torch.testing.assert_close(found.dense()[0], expected, rtol=1e-5, atol=1e-6)
