"""The residual stream block by block against the library's own hidden states."""

from copy import deepcopy

import pytest
import torch
import transformers as hf
from adapter_models import BLOCKS, GQA, model_of
from torch import Tensor, nn

from engine.errors import UserError
from engine.jacobians.stream import ResidualStream
from engine.jacobians.tracing import Blocks

torch.set_num_threads(1)

LENGTHS = torch.tensor([3, 8, 1, 5, 8])
# Every way of handing masks, positions and rotary tables to blocks; the last four have no adapter.
OTHERS: dict[str, hf.PreTrainedConfig] = {
    "phi": hf.PhiConfig(**GQA),
    "falcon": hf.FalconConfig(hidden_size=24, num_hidden_layers=2, num_attention_heads=4, vocab_size=50, alibi=True),
    "bloom": hf.BloomConfig(hidden_size=24, n_layer=2, n_head=4, vocab_size=50),
    "modernbert": hf.ModernBertConfig(
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        vocab_size=50,
        max_position_embeddings=64,
        local_attention=4,
        pad_token_id=0,
    ),
}
MODELS = ["gpt2", "llama", "qwen2", "gemma3_text", "gemma4_text", "opt", "bert", "roberta", *OTHERS]


def tokens() -> Tensor:
    ids = torch.randint(2, 50, (len(LENGTHS), 8), generator=torch.Generator().manual_seed(0))
    return ids.masked_fill(torch.arange(8) >= LENGTHS[:, None], -1)


def model(name: str) -> nn.Module:
    if name in BLOCKS:
        return model_of(name)
    torch.manual_seed(0)
    return hf.AutoModel.from_config(OTHERS[name], attn_implementation="eager").double().eval()


def gathered(stream: ResidualStream, size: int | None = None) -> dict[int, Tensor]:
    """Each sample's own hidden states at the current layer."""
    found = {}
    for samples, state in stream.states(torch.float64, size):
        assert size is None or len(samples) <= size
        assert torch.equal(state.lengths, LENGTHS[samples])
        for row, sample in enumerate(samples.tolist()):
            found[sample] = state.hidden[row, : state.lengths[row]]
            assert torch.equal(state.chosen[row], state.hidden[row, stream.positions[sample]])
    return found


@pytest.mark.parametrize("name", MODELS)
def test_the_stream_is_the_library_s_hidden_states(name: str) -> None:
    module = model(name)
    stream = ResidualStream(module, tokens(), batch_tokens=16)
    with torch.no_grad():
        expected = module(**stream.inputs(torch.arange(5)), output_hidden_states=True).hidden_states
    for layer in range(len(stream.blocks)):
        assert stream.layer == layer
        hidden = gathered(stream, size=1 + layer)
        assert sorted(hidden) == list(range(5))
        for sample, length in enumerate(LENGTHS):
            torch.testing.assert_close(hidden[sample], expected[layer][sample, :length])
        stream.advance()
    assert stream.lost == {}


def test_the_module_is_left_as_it_was() -> None:
    module = model("llama")
    before = [(dict(part._forward_hooks), dict(part._forward_pre_hooks)) for part in module.modules()]
    stream = ResidualStream(module, tokens())
    stream.advance()
    assert not any("forward" in vars(part) for part in module.modules())
    assert [(dict(part._forward_hooks), dict(part._forward_pre_hooks)) for part in module.modules()] == before


def test_the_chosen_token_is_the_last_or_any() -> None:
    assert ResidualStream(model("gpt2"), tokens()).positions.tolist() == (LENGTHS - 1).tolist()
    stream = ResidualStream(model("gpt2"), tokens(), [2, 4, 0, 1, 7])
    for samples, state in stream.states(torch.float32):
        assert torch.equal(state.positions, torch.tensor([2, 4, 0, 1, 7])[samples])
        assert state.hidden.dtype == torch.float32


@pytest.mark.parametrize("positions", [[3, 4, 0, 1, 7], [-1, 0, 0, 0, 0]])
def test_a_sample_that_does_not_reach_its_token_is_named(positions: list[int]) -> None:
    with pytest.raises(UserError, match="Sample 0 of the text does not reach"):
        ResidualStream(model("gpt2"), tokens(), positions)


def test_an_empty_sample_and_an_empty_text_are_refused() -> None:
    empty = tokens()
    empty[3] = -1
    with pytest.raises(UserError, match="Sample 3"):
        ResidualStream(model("gpt2"), empty)
    with pytest.raises(UserError, match="The text"):
        ResidualStream(model("gpt2"), empty[:0])


class Breaking(nn.Module):
    """Stands for an MLP that overflows on one token of one sample."""

    def __init__(self, inner: nn.Module, at: Tensor) -> None:
        super().__init__()
        self.inner, self.at = inner, at

    def forward(self, hidden: Tensor) -> Tensor:
        out = self.inner(hidden)
        return out.masked_fill((hidden - self.at).norm(dim=-1, keepdim=True) < 1e-9, torch.inf)


def test_samples_that_are_not_finite_are_left_out_and_counted() -> None:
    module = deepcopy(model("gpt2"))
    whole = ResidualStream(module, tokens())
    read: list[Tensor] = []
    handle = module.h[0].mlp.register_forward_pre_hook(lambda _, args: read.append(args[0]))
    whole.advance()
    handle.remove()
    batch, row = next((b, s.tolist().index(3)) for b, (s, _) in enumerate(whole.states(torch.float64)) if 3 in s)
    at = read[batch][row, 2]
    expected = gathered(whole)
    module.h[0].mlp = Breaking(module.h[0].mlp, at)
    stream = ResidualStream(module, tokens())
    stream.advance()
    assert stream.lost == {3: 1}
    assert stream.samples.tolist() == [0, 1, 2, 4]
    found = gathered(stream)
    assert sorted(found) == [0, 1, 2, 4]
    for sample, hidden in found.items():
        torch.testing.assert_close(hidden, expected[sample])


def test_no_finite_sample_is_an_error() -> None:
    module = deepcopy(model("gpt2"))
    module.wte.weight.fill_(torch.nan)
    with pytest.raises(UserError, match="not finite for any sample"):
        ResidualStream(module, tokens())


def test_a_batch_that_does_not_fit_is_halved_and_no_sample_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = ResidualStream(model("bert"), tokens())
    expected.advance()
    original, refused = Blocks.call, []

    def scarce(self: Blocks, layer: int, inputs: dict[str, Tensor]) -> object:
        if len(inputs["input_ids"]) > 1:
            refused.append(inputs["input_ids"].shape)
            raise torch.OutOfMemoryError
        return original(self, layer, inputs)

    monkeypatch.setattr(Blocks, "call", scarce)
    stream = ResidualStream(model("bert"), tokens())
    stream.advance()
    assert refused
    ours, theirs = gathered(stream), gathered(expected)
    assert sorted(ours) == list(range(5))
    for sample, hidden in ours.items():
        torch.testing.assert_close(hidden, theirs[sample])


def test_one_sample_that_does_not_fit_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = ResidualStream(model("gpt2"), tokens())

    def none(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(Blocks, "call", none)
    with pytest.raises(UserError, match="One sample of 8 tokens does not fit"):
        stream.advance()


def test_a_block_that_is_another_function_alone_is_refused() -> None:
    module = model("gpt2")
    blocks, seen = module.h, list[int]()

    def count(*_: object) -> None:
        seen.append(1)

    # Its output depends on how often it has run.
    def drift(_: object, __: object, output: object) -> object:
        return (output[0] * (1 + len(seen)), *output[1:]) if isinstance(output, tuple) else output * (1 + len(seen))

    handles = [blocks[1].register_forward_pre_hook(count), blocks[1].register_forward_hook(drift)]
    try:
        with pytest.raises(UserError, match="Block 1 of GPT2Model computes something else"):
            ResidualStream(module, tokens())
    finally:
        for handle in handles:
            handle.remove()


def test_a_module_without_a_row_of_blocks_is_refused() -> None:
    module = hf.AutoModel.from_config(hf.ResNetConfig(num_labels=2), attn_implementation="eager").eval()
    module.config.num_hidden_layers = 5
    with pytest.raises(UserError, match="No row of 5 blocks"):
        ResidualStream(module, tokens())
