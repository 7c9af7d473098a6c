"""Closed forms against ``torch.func.jacrev`` of the library's own layers, every family, in fp64 and fp32.

The library computes norms, softmax and rotary angles in fp32 whatever the model's dtype. The reference raises these
casts to fp64 where it is asked for fp64, so that 1e-9 can be held; that it is then still the library's function is what
`test_the_reference_in_fp64_is_the_library_s_own_layer` checks, by its values.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch
from adapter_models import BLOCKS, block_of, inputs_of, model_of
from torch import Tensor, nn

from engine.errors import UserError
from engine.jacobians import attention
from engine.jacobians.closed import Component, Context, component_operators
from engine.jacobians.reference import reference_operators
from engine.jacobians.state import ResidualState
from engine.jacobians.stream import ResidualStream
from engine.jacobians.tracing import Blocks, InFloat64
from engine.models.adapters import Rotary

torch.set_num_threads(1)

COMPONENTS: tuple[Component, ...] = ("attn", "mlp", "block", "residual")
CONTEXTS: tuple[Context, ...] = ("in_context", "isolated")
# The last token, which a window of 4 cuts off from the first; one with tokens after it; one that is alone.
LENGTHS, POSITIONS = (6, 8, 1), (5, 3, 0)


def tokens() -> Tensor:
    ids = torch.randint(2, 50, (len(LENGTHS), max(LENGTHS)), generator=torch.Generator().manual_seed(1))
    beyond = torch.arange(max(LENGTHS)) >= torch.tensor(LENGTHS)[:, None]
    return ids.masked_fill(beyond, -1)


def states(name: str, model: nn.Module) -> Iterator[tuple[int, Blocks, dict[str, Tensor], ResidualState]]:
    """Every layer of a case with what it is called with, and the state at its entrance."""
    dtype = next(model.parameters()).dtype
    if name.startswith("vit"):
        inputs = {key: value.to(dtype) for key, value in inputs_of(name).items()}
        blocks = Blocks(model, inputs)
        hidden = blocks.call(0, inputs)[0]
        for layer in range(len(blocks)):
            yield layer, blocks, inputs, ResidualState(hidden, torch.tensor([hidden.shape[1]]), torch.tensor([2]))
            with torch.no_grad():
                hidden = blocks.call(layer, inputs)[1](hidden)
        return
    stream = ResidualStream(model, tokens(), POSITIONS)
    for layer in range(len(stream.blocks)):
        for samples, state in stream.states(dtype):
            yield layer, stream.blocks, stream.inputs(samples), state
        stream.advance()


def errors(closed: Tensor, reference: Tensor) -> float:
    """The largest relative error over the samples."""
    return float(((closed - reference).flatten(1).norm(dim=1) / reference.flatten(1).norm(dim=1)).max())


@pytest.mark.parametrize("name", BLOCKS)
def test_closed_forms_are_the_derivatives_of_the_library_s_layers(name: str) -> None:
    for layer, blocks, inputs, state in states(name, model_of(name)):
        block = block_of(name, layer, "all")
        for context in CONTEXTS:
            closed = component_operators(block, state, context)
            reference = reference_operators(blocks, layer, inputs, state, COMPONENTS, context)
            for component in COMPONENTS:
                error = errors(closed[component].dense(), reference[component].dense())
                assert error < 1e-9, f"{component}, {context}, layer {layer}: {error:.1e}"


FAMILIES = [name for name in BLOCKS if name in {BLOCKS[name].config.model_type for name in BLOCKS}]


@pytest.mark.parametrize("name", FAMILIES)
def test_closed_forms_in_fp32(name: str) -> None:
    for layer, blocks, inputs, state in states(name, deepcopy(model_of(name)).float()):
        block, context = block_of(name, layer, "all"), CONTEXTS[layer % 2]
        closed = component_operators(block, state, context)
        reference = reference_operators(blocks, layer, inputs, state, COMPONENTS, context)
        for component in COMPONENTS:
            assert closed[component].dense().dtype == torch.float32
            error = errors(closed[component].dense(), reference[component].dense())
            assert error < 1e-5, f"{component}, {context}, layer {layer}: {error:.1e}"


@pytest.mark.parametrize("name", FAMILIES)
def test_the_reference_in_fp64_is_the_library_s_own_layer(name: str) -> None:
    for layer, blocks, inputs, state in states(name, model_of(name)):
        with torch.no_grad():
            library = blocks.call(layer, inputs)[1](state.hidden)
            with InFloat64():
                wide = blocks.call(layer, inputs)[1].to(torch.float64)(state.hidden)
        assert wide.dtype == torch.float64
        for sample, length in enumerate(state.lengths):
            torch.testing.assert_close(wide[sample, :length], library[sample, :length], rtol=1e-5, atol=1e-5)


@cache
def one_state(name: str) -> ResidualState:
    return next(iter(states(name, model_of(name))))[3]


# Implicit products, chunks, and what the contexts mean


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "olmo2", "gemma2", "gemma4_text", "bert"])
def test_products_with_an_operator_are_those_with_its_matrix(name: str) -> None:
    state = one_state(name)
    generator = torch.Generator().manual_seed(2)
    v = torch.randn(len(state), 24, 3, generator=generator, dtype=torch.float64)
    for context in CONTEXTS:
        for operator in component_operators(block_of(name, 0, "all"), state, context).values():
            assert operator.shape == (len(state), 24, 24)
            matrix = operator.dense()
            torch.testing.assert_close(operator.matmul(v), matrix @ v)
            torch.testing.assert_close(operator.rmatmul(v), matrix.mT @ v)


@pytest.mark.parametrize("name", ["llama", "gemma3_text-bidirectional"])
def test_chunks_of_samples_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    block, state = block_of(name, 0, "all"), one_state(name)
    whole = component_operators(block, state, "in_context")["block"].dense()
    monkeypatch.setattr(attention, "CHUNK_BYTES", 1)
    torch.testing.assert_close(component_operators(block, state, "in_context")["block"].dense(), whole)
    apart = torch.cat(
        [component_operators(block, state[i : i + 1], "in_context")["block"].dense() for i in range(len(state))]
    )
    torch.testing.assert_close(apart, whole)


@pytest.mark.parametrize("name", ["qwen3", "gemma4_text", "bert"])
def test_a_token_alone_is_isolated_in_its_context(name: str) -> None:
    state = one_state(name)
    alone = ResidualState(state.chosen[:, None], torch.ones_like(state.lengths), torch.zeros_like(state.positions))
    block = block_of(name, 0, "all")
    isolated = component_operators(block, state, "isolated")
    for component, operator in component_operators(block, alone, "in_context").items():
        torch.testing.assert_close(operator.dense(), isolated[component].dense())


@pytest.mark.parametrize(("name", "matters"), [("llama", False), ("bert", True)])
def test_later_tokens_matter_to_bidirectional_models_only(name: str, matters: bool) -> None:
    block, state = block_of(name, 0, "all"), one_state(name)
    cut = ResidualState(state.hidden, state.positions + 1, state.positions)
    whole = component_operators(block, state, "in_context")["attn"].dense()
    same = torch.allclose(component_operators(block, cut, "in_context")["attn"].dense(), whole)
    assert same is not matters


def test_heads_alone_have_no_jacobian() -> None:
    with pytest.raises(UserError, match="Only the heads"):
        component_operators(block_of("gpt2", 0), one_state("gpt2"), "isolated")


def on(device: str, part: Any) -> Any:
    """A dataclass with its tensors, however deep, on another device; rotary tables stay on the CPU, as adapters do."""
    if isinstance(part, Tensor):
        return part.to(device)
    if not is_dataclass(part) or isinstance(part, Rotary):
        return part
    return replace(part, **{field.name: on(device, getattr(part, field.name)) for field in fields(part)})


@pytest.mark.parametrize("name", ["gpt2", "llama-yarn", "olmo2", "gemma2", "gemma3_text", "gemma4_text", "bert"])
def test_nothing_is_left_on_the_cpu(name: str) -> None:
    # The meta device refuses to be mixed with another, so it stands for any.
    block, state = on("meta", block_of(name, 0, "all")), on("meta", one_state(name))
    for context in CONTEXTS:
        for operator in component_operators(block, state, context).values():
            assert operator.dense().device.type == "meta"
            assert operator.rmatmul(operator.matmul(state.chosen[..., None])).shape == (len(state), 24, 1)
