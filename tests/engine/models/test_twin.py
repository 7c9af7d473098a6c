"""Random twins against models that the library initialised as a whole."""

from pathlib import Path

import pytest
import torch
import transformers as hf
from adapter_models import CASES
from opening_models import GPT2, pristine
from torch import Tensor, nn

from engine.models.config import Architecture
from engine.models.opening import open_model
from engine.models.twin import fresh_module, fresh_tensor
from engine.request import ModelSpec

WIDE = {
    "gpt2": hf.GPT2Config(n_embd=192, n_layer=3, n_head=4, vocab_size=300, n_positions=64, initializer_range=0.05),
    "llama": hf.LlamaConfig(
        hidden_size=192,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        vocab_size=300,
        initializer_range=0.03,
        attention_bias=True,
        pad_token_id=7,
    ),
    "gemma2": hf.Gemma2Config(
        hidden_size=192,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        vocab_size=300,
        head_dim=32,
    ),
    "bert": hf.BertConfig(
        hidden_size=192, intermediate_size=256, num_hidden_layers=2, num_attention_heads=6, vocab_size=300
    ),
    "vit": hf.ViTConfig(
        hidden_size=192, intermediate_size=256, num_hidden_layers=2, num_attention_heads=6, image_size=32, patch_size=8
    ),
}
CLASSES = {
    "gpt2": hf.GPT2LMHeadModel, "llama": hf.LlamaForCausalLM, "gemma2": hf.Gemma2ForCausalLM,
    "bert": hf.BertForMaskedLM, "vit": hf.ViTForImageClassification,
}  # fmt: skip


def skeleton(name: str) -> hf.PreTrainedModel:
    return Architecture({}, WIDE[name], CLASSES[name]).skeleton()


@pytest.mark.parametrize("name", WIDE)
def test_every_parameter_is_distributed_as_the_library_distributes_it(name: str) -> None:
    torch.manual_seed(2)
    library = dict(CLASSES[name](WIDE[name]).named_parameters())
    fresh = dict(fresh_module(skeleton(name), seed=3).named_parameters())
    assert fresh.keys() == library.keys()
    for key, value in library.items():
        mine = fresh[key]
        assert mine.dtype == torch.float32
        if value.unique().numel() == 1:
            assert torch.equal(mine, value), f"{key} is constant in the library"
            continue
        assert not torch.equal(mine, value), key
        n = value.numel()
        # Two samples of one normal law: their means differ by σ√(2/n), their log σ by 1/√n; five standard errors.
        assert abs(mine.mean() - value.mean()) < 5 * value.std() * (2 / n) ** 0.5, key
        assert abs(torch.log(mine.std() / value.std())) < 5 / n**0.5, key
        assert mine.abs().max() < 1.6 * value.abs().max() + 1e-12, key


def test_gpt2_scales_its_output_projections_and_zeroes_the_rest() -> None:
    """σ = initializer_range, and /√(2·layers) for what writes into the residual stream (three layers here)."""
    fresh = fresh_module(skeleton("gpt2"), seed=0).transformer.h[1]
    for module, sigma in (
        (fresh.attn.c_attn, 0.05),
        (fresh.attn.c_proj, 0.05 / 6**0.5),
        (fresh.mlp.c_fc, 0.05),
        (fresh.mlp.c_proj, 0.05 / 6**0.5),
    ):
        assert module.weight.std().item() == pytest.approx(sigma, rel=0.02)
        assert not module.bias.any()
    assert (fresh.ln_1.weight == 1).all()
    assert not fresh.ln_1.bias.any()


@pytest.mark.parametrize("name", WIDE)
def test_one_tensor_alone_is_the_same_as_in_the_whole_module(name: str) -> None:
    bare = skeleton(name)
    whole = dict(fresh_module(skeleton(name), seed=11).named_parameters(remove_duplicate=False))
    order = sorted(whole, reverse=True)
    for key in order:
        assert torch.equal(fresh_tensor(bare, key, seed=11), whole[key]), key
    assert all(parameter.is_meta for parameter in bare.parameters())


def test_the_seed_decides_and_torch_s_own_stream_is_left_alone() -> None:
    bare, name = skeleton("llama"), "model.layers.1.self_attn.q_proj.weight"
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    one, again, other = (fresh_tensor(bare, name, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    sibling = fresh_tensor(bare, "model.layers.0.self_attn.q_proj.weight", 0)
    assert abs(torch.corrcoef(torch.stack([one.flatten(), sibling.flatten()]))[0, 1]) < 5 / one.numel() ** 0.5


def test_a_twin_s_buffers_are_the_library_s() -> None:
    fresh = fresh_module(skeleton("llama"), seed=0)
    library = hf.LlamaForCausalLM(WIDE["llama"])
    assert torch.equal(fresh.model.rotary_emb.inv_freq, library.model.rotary_emb.inv_freq)
    bert = fresh_module(skeleton("bert"), seed=0).bert.embeddings
    assert torch.equal(bert.position_ids, torch.arange(512)[None])
    assert not bert.token_type_ids.any()


@pytest.mark.parametrize("name", CASES)
def test_a_twin_of_every_family_runs_forward(name: str, tmp_path: Path) -> None:
    config = CASES[name].config
    config.save_pretrained(tmp_path)
    model = open_model(ModelSpec(source=str(tmp_path), twin=True), seed=1)
    module = model.module()
    if config.model_type == "vit":
        inputs: dict[str, Tensor] = {"pixel_values": torch.ones(1, 3, 8, 12)}
    else:
        inputs = {"input_ids": torch.arange(2, 11)[None]}
    with torch.no_grad():
        output = module(**inputs)[0]
    assert torch.isfinite(output).all()
    assert output.std() > 0
    state = module.state_dict()
    adapter = model.adapter
    assert adapter is not None
    located = adapter.locate(adapter.tensor_names(config, 1, "all"), state.keys())
    expected, block = adapter.block(config, 1, lambda key: state[located[key]], "all"), model.block(1, "all")
    assert torch.equal(block.heads.w_q, expected.heads.w_q)
    assert torch.equal(block.heads.w_o, expected.heads.w_o)
    assert block.mlp is not None
    assert expected.mlp is not None
    assert torch.equal(block.mlp.w_out, expected.mlp.w_out)
    assert block.residual_scale == expected.residual_scale == 1
    assert torch.equal(model.block(1).heads.w_q, expected.heads.w_q)


def test_a_twin_differs_from_its_model_in_weights_only() -> None:
    model, twin = (open_model(ModelSpec(source=str(pristine()), twin=twin), seed=0) for twin in (False, True))
    assert twin.info.label.endswith("(random twin)")
    changed = {"label", "twin", "identity"}
    assert model.info.model_dump(exclude=changed) == twin.info.model_dump(exclude=changed)
    assert model.layer_hash(0) != twin.layer_hash(0)
    again = open_model(ModelSpec(source=str(pristine()), twin=True), seed=0)
    assert twin.layer_hash(0) == again.layer_hash(0)
    module = twin.module()
    assert isinstance(module, nn.Module)
    assert module.config.vocab_size == GPT2.vocab_size
    half = open_model(ModelSpec(source=str(pristine()), twin=True, dtype="bfloat16"), seed=0).module()
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
