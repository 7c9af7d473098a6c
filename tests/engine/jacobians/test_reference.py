"""The reference path against the library's layers put together by hand and finite differences; `verify`."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from adapter_models import GQA, SMALL, model_of
from opening_models import pristine
from torch import Tensor, nn

from engine.errors import UserError
from engine.jacobians.reference import Sublayers, find_sublayers, reference_operators
from engine.jacobians.state import ResidualState
from engine.jacobians.stream import ResidualStream
from engine.jacobians.tracing import InFloat64
from engine.jacobians.verify import verify
from engine.models.opening import OpenModel, open_model
from engine.request import ModelSpec

torch.set_num_threads(1)

T, AT = 6, 4


def stream_of(module: nn.Module) -> ResidualStream:
    ids = torch.randint(2, 50, (1, T), generator=torch.Generator().manual_seed(4))
    return ResidualStream(module, ids, [AT])


def bare(config: hf.PreTrainedConfig) -> nn.Module:
    torch.manual_seed(0)
    return hf.AutoModel.from_config(config, attn_implementation="eager").double().eval().requires_grad_(False)


# What the library's blocks are made of, by hand: where their sublayers end, and their MLP with its norms.
PATHS = {
    "llama": Sublayers("self_attn.o_proj", "mlp.down_proj"),
    "gemma2": Sublayers("post_attention_layernorm", "post_feedforward_layernorm"),
    "olmo2": Sublayers("post_attention_layernorm", "post_feedforward_layernorm"),
    "gemma4_text": Sublayers("post_attention_layernorm", "post_feedforward_layernorm"),
    "granite": Sublayers("self_attn.o_proj", "mlp.down_proj", scale=0.5),
    "gpt_neox": Sublayers("attention.dense", "mlp.dense_4h_to_h", parallel=True),
    "gpt_neox-sequential": Sublayers("attention.dense", "mlp.dense_4h_to_h"),
    "bert": Sublayers("attention.output.dense", "output.dense", "attention.output.LayerNorm"),
    "opt-post-norm": Sublayers("self_attn.out_proj", "fc2", "self_attn_layer_norm"),
}
MLPS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "llama": lambda layer, z: layer.mlp(layer.post_attention_layernorm(z)),
    "gemma2": lambda layer, z: layer.post_feedforward_layernorm(layer.mlp(layer.pre_feedforward_layernorm(z))),
    "olmo2": lambda layer, z: layer.post_feedforward_layernorm(layer.mlp(z)),
    "gpt_neox": lambda layer, z: layer.mlp(layer.post_attention_layernorm(z)),
    "bert": lambda layer, z: layer.output.dense(layer.intermediate(z)),
    "opt-post-norm": lambda layer, z: layer.fc2(layer.activation_fn(layer.fc1(z))),
}


def entrance(name: str) -> tuple[ResidualStream, ResidualState, Tensor]:
    stream = stream_of(model_of(name))
    samples, state = next(stream.states(torch.float64))
    return stream, state, samples


@pytest.mark.parametrize("name", PATHS)
def test_sublayers_are_found_by_what_they_add(name: str) -> None:
    stream, state, samples = entrance(name)
    with torch.no_grad(), InFloat64():
        call = stream.blocks.call(0, stream.inputs(samples))[1]
        assert find_sublayers(call, state.hidden[0]) == PATHS[name]


@pytest.mark.parametrize("name", MLPS)
def test_the_mlp_is_the_library_s_put_together_by_hand(name: str) -> None:
    stream, state, samples = entrance(name)
    layer: Any = stream.blocks[0]
    read: list[Tensor] = []
    first = {"bert": "intermediate", "opt-post-norm": "fc1", "olmo2": "mlp", "gemma2": "pre_feedforward_layernorm"}
    taken = layer.get_submodule(first.get(name, "post_attention_layernorm"))
    with torch.no_grad(), InFloat64():
        handle = taken.register_forward_pre_hook(lambda _, args: read.append(args[0].reshape(T, -1)[AT]))
        stream.blocks.call(0, stream.inputs(samples))[1](state.hidden)
        handle.remove()
        by_hand = torch.func.jacrev(lambda z: MLPS[name](layer, z[None])[0])(read[0])
    found = reference_operators(stream.blocks, 0, stream.inputs(samples), state, ["mlp"], "in_context")["mlp"].dense()
    torch.testing.assert_close(found[0], by_hand)


@pytest.mark.parametrize("context", ["in_context", "isolated"])
def test_attention_and_mlp_make_up_a_sequential_block(context: Any) -> None:
    stream, state, samples = entrance("qwen3")
    components: Any = ("attn", "mlp", "block", "residual")
    found = reference_operators(stream.blocks, 0, stream.inputs(samples), state, components, context)
    attn, mlp, block, residual = (found[component].dense()[0] for component in components)
    one = torch.eye(24, dtype=torch.float64)
    torch.testing.assert_close((one + mlp) @ (one + attn), block)
    torch.testing.assert_close(block - one, residual)


# Architectures without an adapter


OTHERS: dict[str, hf.PreTrainedConfig] = {
    "phi": hf.PhiConfig(**GQA),
    "falcon": hf.FalconConfig(hidden_size=24, num_hidden_layers=2, num_attention_heads=4, vocab_size=50, alibi=True),
    "bloom": hf.BloomConfig(hidden_size=24, n_layer=2, n_head=4, vocab_size=50),
    "mixtral": hf.MixtralConfig(**GQA, num_local_experts=4),
    "deberta": hf.DebertaV2Config(**SMALL, intermediate_size=32),
    "doge": hf.DogeConfig(**GQA),
}


@pytest.mark.parametrize("name", OTHERS)
def test_blocks_of_any_architecture_by_finite_differences(name: str) -> None:
    stream = stream_of(bare(OTHERS[name]))
    stream.advance()
    samples, state = next(stream.states(torch.float64))
    inputs = stream.inputs(samples)
    found = reference_operators(stream.blocks, 1, inputs, state, ["block"], "in_context")["block"].dense()[0]
    with torch.no_grad(), InFloat64():
        call = stream.blocks.call(1, inputs)[1].to(torch.float64)
        step = 1e-5
        for unit in (0, 11, 23):
            bump = torch.zeros_like(state.hidden)
            bump[0, AT, unit] = step
            slope = (call(state.hidden + bump) - call(state.hidden - bump))[0, AT] / (2 * step)
            torch.testing.assert_close(found[:, unit], slope, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("name", "parallel"), [("phi", True), ("falcon", True), ("bloom", False)])
def test_sublayers_of_architectures_without_an_adapter(name: str, parallel: bool) -> None:
    stream = stream_of(bare(OTHERS[name]))
    samples, state = next(stream.states(torch.float64))
    components: Any = ("attn", "mlp", "block")
    found = reference_operators(stream.blocks, 0, stream.inputs(samples), state, components, "in_context")
    attn, mlp, block = (found[component].dense()[0] for component in components)
    one = torch.eye(24, dtype=torch.float64)
    torch.testing.assert_close(one + attn + mlp if parallel else (one + mlp) @ (one + attn), block)


def test_sublayers_that_do_not_just_add_are_refused_and_the_block_is_not() -> None:
    model = bare(OTHERS["doge"])
    for name, weight in model.named_parameters():
        if name.endswith("_residual"):  # what multiplies the residual stream, ones in a new model
            weight.uniform_(0.5, 1.5)
    stream = stream_of(model)
    samples, state = next(stream.states(torch.float64))
    with pytest.raises(UserError, match="cannot be told apart"):
        reference_operators(stream.blocks, 0, stream.inputs(samples), state, ["attn"], "in_context")
    reference_operators(stream.blocks, 0, stream.inputs(samples), state, ["residual"], "isolated")


# On the user's model and text


TOKENS = torch.tensor([[5, 9, 3, 7, 11], [8, 2, 6, -1, -1]])


def opened() -> OpenModel:
    return open_model(ModelSpec(source=str(pristine())))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("context", ["in_context", "isolated"])
def test_verify_passes_on_a_checkpoint(dtype: Any, context: Any) -> None:
    report = verify(opened(), TOKENS, [0, 2], context=context, dtype=dtype)
    assert report.layers == (0, 2)
    assert report.errors.shape == (4, 2, 2)
    assert report.errors.isfinite().all()
    assert (report.errors > 0).any()
    assert report.passed
    assert report.worst == report.errors.max()


def test_verify_sees_a_wrong_closed_form(monkeypatch: pytest.MonkeyPatch) -> None:
    original = OpenModel.block

    def wrong(self: OpenModel, layer: int, parts: Any = "heads") -> Any:
        block = original(self, layer, parts)
        assert block.attention is not None
        return replace(block, attention=replace(block.attention, scale=1.01 * block.attention.scale))

    monkeypatch.setattr(OpenModel, "block", wrong)
    report = verify(opened(), TOKENS, [1], components=["attn", "mlp"])
    assert not report.passed
    assert report.errors[0].max() > 1e-5  # the scores are small in an untrained model


def test_verify_refuses_layers_that_are_not_there() -> None:
    with pytest.raises(UserError, match="layers 0 to 2"):
        verify(opened(), TOKENS, [3])


def test_verify_refuses_an_architecture_without_closed_forms(tmp_path: Path) -> None:
    torch.manual_seed(0)
    hf.MambaForCausalLM(
        hf.MambaConfig(hidden_size=24, num_hidden_layers=2, state_size=4, vocab_size=50)
    ).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="nothing to verify"):
        verify(open_model(ModelSpec(source=str(tmp_path))), TOKENS)
