"""What adapters read from a config, how they find tensors in a checkpoint, and what they refuse."""

import pytest
import torch
import transformers as hf
from adapter_models import BLOCKS, CASES, GQA, SLIDING, SMALL, block_of, model_of, rope, run
from family_cases import HEADS_ONLY
from uneven_models import UNEVEN

from engine.errors import UserError
from engine.models.adapters import ADAPTERS, adapter_for

torch.set_num_threads(1)


def test_every_registered_architecture_has_a_case() -> None:
    tested = {config.model_type for config in (*(case.config for case in BLOCKS.values()), *UNEVEN.values())}
    tested |= set(HEADS_ONLY)
    # The multimodal wrappings of those that are tested.
    assert set(ADAPTERS) - tested == {"gemma3", "gemma3n", "gemma4", "qwen3_5", "qwen3_5_moe"}


@pytest.mark.parametrize("name", CASES)
def test_facts_agree_with_the_model(name: str) -> None:
    case, done = CASES[name], run(name)
    adapter, rec = adapter_for(case.config), done.records[0]
    assert adapter is not None
    facts = adapter.facts(case.config)
    assert facts["family"] == case.config.model_type.removesuffix("_text")
    assert facts["n_layers"] == len(done.records)
    assert facts["d_model"] == rec.x.shape[-1]
    assert (facts["n_heads"], facts["n_kv_heads"]) == (len(rec.query), len(rec.key))
    assert facts["d_head"] == rec.query.shape[-1]
    looks_ahead = (rec.weights.triu(1) > 0).any()
    assert facts["causal"] == (not looks_ahead)
    assert facts["qk_norm"] == any("q_norm" in parameter for parameter in done.model.state_dict())
    assert facts["rotary"] == any("inv_freq" in buffer for buffer, _ in done.model.named_buffers())
    norms = {type(module).__name__ for module in done.model.modules() if "Norm" in type(module).__name__}
    assert norms
    assert all(("RMSNorm" in norm) == (facts["norm"] == "rmsnorm") for norm in norms)
    if name == "vit":
        assert (facts["vocab_size"], facts["context"]) == (0, rec.x.shape[0])
    else:
        assert facts["vocab_size"] == done.model.get_input_embeddings().num_embeddings
        assert facts["context"] == (62 if name in ("roberta", "xlm-roberta") else 64)


def test_storage_dtype_is_kept_and_gemmas_gain_is_fp64() -> None:
    for name in ("gpt2", "gpt_neox", "llama", "gemma2"):
        config, state = CASES[name].config, run(name).model.state_dict()
        block = ADAPTERS[name].block(config, 0, lambda tensor, state=state: state[tensor].bfloat16())
        assert {w.dtype for w in vars(block.heads).values() if w is not None} == {torch.bfloat16}
        assert block.attn_norm is not None
        assert block.attn_norm.gain is not None
        assert block.attn_norm.gain.dtype == (torch.float64 if name == "gemma2" else torch.bfloat16)


def test_notices_say_what_the_matrices_do_not_show() -> None:
    assert "±8" in ADAPTERS["olmo"].facts(hf.OlmoConfig(clip_qkv=8.0))["notices"][0]
    assert "50·tanh" in ADAPTERS["gemma2"].facts(hf.Gemma2Config())["notices"][0]
    assert not ADAPTERS["gemma3_text"].facts(hf.Gemma3TextConfig(attn_logit_softcapping=50.0))["notices"]


REFUSED = {
    "clipped at ±8": hf.OlmoConfig(**GQA, clip_qkv=8.0),
    "input of their own": hf.Gemma4TextConfig(**GQA, head_dim=8, global_head_dim=8, vocab_size_per_layer_input=50),
    "among experts": hf.Gemma4TextConfig(
        **GQA,
        head_dim=8,
        global_head_dim=8,
        hidden_size_per_layer_input=0,
        enable_moe_block=True,
        num_experts=2,
        top_k_experts=1,
        moe_intermediate_size=8,
    ),
    "of an earlier layer": hf.Gemma4TextConfig(
        **GQA | {"num_hidden_layers": 4},
        head_dim=8,
        global_head_dim=8,
        hidden_size_per_layer_input=0,
        layer_types=SLIDING * 2,
        num_kv_shared_layers=2,
    ),
    "xielu": hf.LlamaConfig(**GQA, hidden_act="xielu"),
    "prelu": hf.BertConfig(**SMALL, hidden_act="prelu"),
    "length of the text": hf.LlamaConfig(
        **GQA,
        rope_parameters=rope(
            "longrope", short_factor=[1.0, 1.0], long_factor=[2.0, 3.0], original_max_position_embeddings=16
        ),
    ),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_a_block_cannot_describe_is_said_and_not_computed(reason: str) -> None:
    config = REFUSED[reason]
    adapter = adapter_for(config)
    assert adapter is not None
    assert reason in (adapter.closed_form_refusal(config) or "")
    state = hf.AutoModel.from_config(config).state_dict()
    with pytest.raises(UserError, match=reason):
        adapter.block(config, 0, state.__getitem__, "all")
    assert adapter.block(config, 0, state.__getitem__).mlp is None


def test_everything_else_is_described() -> None:
    for case in BLOCKS.values():
        assert ADAPTERS[case.config.model_type].closed_form_refusal(case.config) is None


def test_heads_that_do_not_divide_are_refused() -> None:
    config = hf.Qwen2Config(**SMALL | {"num_key_value_heads": 3})
    with pytest.raises(UserError, match="4 query heads and 3 key/value heads"):
        ADAPTERS["qwen2"].facts(config)


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "llama", "bert"])
def test_weights_of_another_config_are_refused(name: str) -> None:
    case, state = CASES[name], run(name).model.state_dict()
    other = case.config.to_dict() | {"hidden_size": 48, "n_embd": 48, "num_key_value_heads": 6}
    with pytest.raises(UserError, match="do not belong together"):
        ADAPTERS[name].block(type(case.config)(**other), 0, state.__getitem__)


# Names in checkpoints


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("name", BLOCKS)
def test_a_whole_block_leaves_no_tensor_of_its_layer_unread(name: str, layer: int) -> None:
    case, path = BLOCKS[name], f"{BLOCKS[name].layers}.{layer}."
    adapter, state = ADAPTERS[case.config.model_type], model_of(name).state_dict()
    names = adapter.tensor_names(case.config, layer, "all")
    assert sorted(names) == sorted(tensor for tensor in state if tensor.startswith(path))
    heads = adapter.tensor_names(case.config, layer)
    assert set(heads) < set(names)
    assert not [tensor for tensor in heads if "mlp" in tensor or "fc" in tensor or "intermediate" in tensor]


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("name", CASES)
def test_names_are_the_librarys_with_and_without_a_head(name: str, layer: int) -> None:
    case = CASES[name]
    adapter = adapter_for(case.config)
    assert adapter is not None
    head = {
        "vit": hf.AutoModelForImageClassification,
        "bert": hf.AutoModelForMaskedLM,
        "roberta": hf.AutoModelForMaskedLM,
    }
    with torch.device("meta"):
        whole = head.get(case.config.model_type, hf.AutoModelForCausalLM).from_config(case.config).state_dict()
    names = adapter.tensor_names(case.config, layer, "all")
    assert adapter.locate(names, whole) == {tensor: adapter.prefixes[0] + tensor for tensor in names}
    bare = run(name).model.state_dict()
    assert adapter.locate(names, bare) == {tensor: tensor for tensor in names}


def test_older_vit_spelling() -> None:
    old = {
        "query": "vit.encoder.layer.1.attention.attention.query.weight",
        "key": "vit.encoder.layer.1.attention.attention.key.weight",
        "value": "vit.encoder.layer.1.attention.attention.value.weight",
        "o": "vit.encoder.layer.1.attention.output.dense.weight",
        "gain": "vit.encoder.layer.1.layernorm_before.weight",
        "bias": "vit.encoder.layer.1.layernorm_before.bias",
    }
    vit = ADAPTERS["vit"]
    found = vit.locate(vit.tensor_names(CASES["vit"].config, 1), set(old.values()))
    assert list(found.values()) == list(old.values())
    mlp = {f"vit.encoder.layer.1.{part}.dense.{w}" for part in ("intermediate", "output") for w in ("weight", "bias")}
    names = [name for name in vit.tensor_names(CASES["vit"].config, 1, "all") if "mlp" in name]
    assert set(vit.locate(names, mlp).values()) == mlp


def test_older_bert_norms() -> None:
    name = "encoder.layer.0.attention.output.LayerNorm."
    found = ADAPTERS["bert"].locate([name + "weight", name + "bias"], {f"bert.{name}gamma", f"bert.{name}beta"})
    assert list(found.values()) == [f"bert.{name}gamma", f"bert.{name}beta"]


@pytest.mark.parametrize("prefix", ["model.language_model.", "language_model.model.", "language_model."])
def test_text_part_of_a_multimodal_model(prefix: str) -> None:
    text = CASES["gemma3_text"].config
    config = hf.Gemma3Config(text_config=text, vision_config={"hidden_size": 16, "num_hidden_layers": 1})
    adapter = adapter_for(config)
    assert adapter is not None
    assert adapter.facts(config) == adapter.facts(text)
    names = adapter.tensor_names(config, 1)
    checkpoint = {prefix + tensor for tensor in names} | {"vision_tower.vision_model.encoder." + t for t in names}
    assert adapter.locate(names, checkpoint) == {tensor: prefix + tensor for tensor in names}
    state = run("gemma3_text").model.state_dict()
    ours, alone = adapter.block(config, 1, state.__getitem__), block_of("gemma3_text", 1)
    torch.testing.assert_close(ours.heads.w_k, alone.heads.w_k)
    assert ours.rotary is not None
    assert alone.rotary is not None
    torch.testing.assert_close(ours.rotary.inv_freq, alone.rotary.inv_freq)


def test_a_missing_tensor_is_named() -> None:
    adapter = ADAPTERS["llama"]
    names = adapter.tensor_names(CASES["llama"].config, 0)
    with pytest.raises(UserError, match=r"no tensor model\.layers\.0\.self_attn\.o_proj\.weight"):
        adapter.locate(names, {f"model.{tensor}" for tensor in names if "o_proj" not in tensor})


def test_an_unknown_architecture_has_no_adapter() -> None:
    assert adapter_for(hf.T5Config()) is None
    assert adapter_for(hf.MambaConfig()) is None
