"""Opening what is sound: facts, streamed blocks and the whole module against what the library saved."""

from pathlib import Path

import pytest
import torch
import transformers as hf
from adapter_models import BLOCKS, CASES, GQA
from opening_models import GPT2, copy, edit_config, edit_weights, pristine, shard
from pydantic import ValidationError
from safetensors.torch import load_file
from uneven_models import UNEVEN

from engine.errors import UserError
from engine.models import opening
from engine.models.info import ModelInfo
from engine.models.opening import describe, open_model
from engine.models.source import checkpoints
from engine.request import ModelSpec

HEADED = {
    "gpt2": hf.GPT2LMHeadModel,
    "gpt_neox": hf.GPTNeoXForCausalLM,
    "llama": hf.LlamaForCausalLM,
    "olmo2": hf.Olmo2ForCausalLM,
    "gemma3_text": hf.Gemma3ForCausalLM,
    "gemma4_text": hf.Gemma4ForCausalLM,
    "starcoder2": hf.Starcoder2ForCausalLM,
    "opt": hf.OPTForCausalLM,
    "bert": hf.BertForMaskedLM,
    "roberta": hf.RobertaForMaskedLM,
    "vit": hf.ViTForImageClassification,
    "granite": hf.GraniteForCausalLM,
    "phi3": hf.Phi3ForCausalLM,
    "cohere2": hf.Cohere2ForCausalLM,
    "gptj": hf.GPTJForCausalLM,
    "gpt_neo": hf.GPTNeoForCausalLM,
    "gpt_bigcode": hf.GPTBigCodeForCausalLM,
    "falcon-groups": hf.FalconForCausalLM,
    "bloom": hf.BloomForCausalLM,
    "mpt": hf.MptForCausalLM,
    "distilbert": hf.DistilBertForMaskedLM,
    "megatron-bert": hf.MegatronBertForMaskedLM,
    "modernbert": hf.ModernBertForMaskedLM,
    "albert": hf.AlbertForMaskedLM,
}


def spec(folder: Path, **more: object) -> ModelSpec:
    return ModelSpec.model_validate({"source": str(folder), **more})


def test_the_facts_are_those_of_the_config_and_of_the_library_model() -> None:
    info = describe(spec(pristine()))
    model = hf.GPT2LMHeadModel(GPT2)
    assert (info.family, info.architecture, info.causal) == ("gpt2", "GPT2LMHeadModel", True)
    assert (info.n_layers, info.d_model, info.n_heads, info.n_kv_heads, info.d_head) == (3, 24, 4, 4, 6)
    assert (info.vocab_size, info.context, info.norm, info.rotary) == (60, 32, "layernorm", False)
    assert info.n_parameters == model.num_parameters()
    assert info.storage_dtype == "float32"
    assert info.load_bytes == model.get_memory_footprint()
    assert info.notices == ()
    assert describe(spec(pristine(), dtype="bfloat16")).load_bytes * 2 == info.load_bytes


@pytest.mark.parametrize("name", HEADED)
def test_blocks_module_and_twin_agree_for_every_family(name: str, tmp_path: Path) -> None:
    config = BLOCKS[name].config
    torch.manual_seed(1)
    saved = HEADED[name](config)
    saved.save_pretrained(tmp_path)
    model = open_model(spec(tmp_path))
    module = model.module()
    assert type(module) is type(saved)
    assert not module.training
    for key, value in saved.state_dict().items():
        assert torch.equal(module.state_dict()[key], value), key
    adapter = model.adapter
    assert adapter is not None
    heads = model.block(1).heads
    assert heads.w_q.shape == (model.info.n_heads, model.info.d_head, model.info.d_model)
    assert heads.w_k.shape[0] == model.info.n_kv_heads
    weights = saved.state_dict()
    located = adapter.locate(adapter.tensor_names(config, 1), weights.keys())
    expected = adapter.block(config, 1, lambda key: weights[located[key]])
    assert torch.equal(heads.w_q, expected.heads.w_q)
    assert torch.equal(heads.w_o, expected.heads.w_o)

    twin = open_model(spec(tmp_path, twin=True), seed=5)
    fresh = dict(twin.module().named_parameters(remove_duplicate=False))
    assert fresh.keys() == dict(saved.named_parameters(remove_duplicate=False)).keys()
    for key in located.values():
        assert torch.equal(twin.tensor(key), fresh[key]), key
    assert not torch.equal(twin.block(1).heads.w_q, heads.w_q)


def test_a_multimodal_checkpoint_opens_by_its_text_part(tmp_path: Path) -> None:
    text = CASES["gemma3_text"].config.to_dict()
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 28, "patch_size": 14}
    config = hf.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4, image_token_index=49)
    saved = hf.Gemma3ForConditionalGeneration(config)
    saved.save_pretrained(tmp_path)
    model = open_model(spec(tmp_path))
    assert (model.info.family, model.info.n_layers) == ("gemma3", 2)
    assert model.block(0).heads.w_q.shape == (6, 10, 24)
    assert torch.equal(
        model.block(0).heads.w_v.reshape(-1, 24),
        saved.state_dict()["model.language_model.layers.0.self_attn.v_proj.weight"],
    )


def test_an_architecture_without_an_adapter_opens_and_says_what_it_lacks(tmp_path: Path) -> None:
    config = hf.MambaConfig(hidden_size=24, num_hidden_layers=2, state_size=4, vocab_size=50)
    saved = hf.MambaForCausalLM(config)
    saved.save_pretrained(tmp_path)
    model = open_model(spec(tmp_path))
    assert (model.info.family, model.info.n_layers, model.info.d_model) == ("unsupported", 2, 24)
    assert "no adapter for MambaForCausalLM" in model.info.lacks["heads"]
    assert set(model.info.lacks) == {"heads", "attention"}
    assert torch.equal(model.module().state_dict()["lm_head.weight"], saved.state_dict()["lm_head.weight"])
    with pytest.raises(UserError, match="no adapter for MambaForCausalLM"):
        model.block(0)


def test_a_model_whose_layers_differ_says_what_each_has(tmp_path: Path) -> None:
    hf.Gemma4ForCausalLM(UNEVEN["gemma4_text-shared"]).save_pretrained(tmp_path)
    info = describe(spec(tmp_path))
    assert (info.n_heads, info.n_kv_heads, info.d_head) == (6, 2, 12)
    assert [shape.d_head for shape in map(info.heads_at, range(4)) if shape] == [8, 12, 8, 12]
    assert info.head_widths == (8, 12)
    assert "From layer 2 on" in info.notices[1]
    assert ModelInfo.model_validate_json(info.model_dump_json()) == info
    without = info.model_dump() | {"head_shapes": ()}
    assert ModelInfo.model_validate(without).heads_at(0) == info.heads_at(1)
    with pytest.raises(ValidationError, match="2 layers have a shape"):
        ModelInfo.model_validate(info.model_dump() | {"head_shapes": info.head_shapes[:2]})
    model = open_model(spec(tmp_path))
    borrowed = model.block(2).borrowed
    assert borrowed is not None
    assert borrowed.layer == 0
    assert torch.equal(model.block(2).heads.w_k, model.block(0).heads.w_k)


def test_a_block_reads_its_own_tensors_once_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = edit_weights(
        copy(pristine(), tmp_path / "m"), lambda tensors: tensors["transformer.h.1.mlp.c_fc.weight"].fill_(torch.nan)
    )
    model = open_model(spec(folder))
    read = []
    monkeypatch.setattr(
        opening, "read_tensor", lambda stored: read.append(stored.key) or load_file(folder / stored.file)[stored.key]
    )
    model.block(1)
    model.layer_hash(1)
    names = ["attn.c_attn.weight", "attn.c_proj.weight", "ln_1.bias", "ln_1.weight"]
    assert sorted(read) == [f"transformer.h.1.{name}" for name in names]
    read.clear()
    assert model.block(0, "all").mlp is not None
    stored = load_file(folder / "model.safetensors")
    assert sorted(read) == sorted(name for name in stored if name.startswith("transformer.h.0."))


def test_the_layer_hash_is_that_of_what_was_read_last() -> None:
    model = open_model(spec(pristine()))
    heads = model.layer_hash(1)
    model.block(1, "all")
    assert model.layer_hash(1) != heads
    model.block(1)
    assert model.layer_hash(1) == heads


def test_a_model_without_closed_forms_says_so(tmp_path: Path) -> None:
    hf.OlmoForCausalLM(hf.OlmoConfig(**GQA, clip_qkv=8.0)).save_pretrained(tmp_path / "clipped")
    hf.MambaForCausalLM(
        hf.MambaConfig(hidden_size=24, num_hidden_layers=2, state_size=4, vocab_size=60)
    ).save_pretrained(tmp_path / "mamba")
    folders = (tmp_path / "clipped", tmp_path / "mamba", pristine())
    clipped, mamba, plain = (open_model(spec(folder)) for folder in folders)
    assert "clipped" in (clipped.closed_form_refusal() or "")
    assert "no adapter for MambaForCausalLM" in (mamba.closed_form_refusal() or "")
    assert plain.closed_form_refusal() is None
    with pytest.raises(UserError, match=r"clipped at ±8\. So there is no closed form"):
        clipped.block(0, "all")


def test_the_layer_hash_follows_the_weights_and_not_the_file(tmp_path: Path) -> None:
    one = open_model(spec(pristine()))
    sharded = open_model(spec(shard(copy(pristine(), tmp_path / "shards"))))
    assert [one.layer_hash(layer) for layer in range(3)] == [sharded.layer_hash(layer) for layer in range(3)]
    assert one.layer_hash(0) != one.layer_hash(1)
    one.block(0)
    assert one.layer_hash(0) == sharded.layer_hash(0)

    def nudge(tensors: dict[str, torch.Tensor]) -> None:
        weight = tensors["transformer.h.2.attn.c_proj.weight"]
        weight[3, 3] = torch.nextafter(weight[3, 3], torch.tensor(9.0))

    changed = open_model(spec(edit_weights(copy(pristine(), tmp_path / "changed"), nudge)))
    assert changed.layer_hash(0) == one.layer_hash(0)
    assert changed.layer_hash(2) != one.layer_hash(2)


def test_identity_changes_with_config_shape_and_dtype_but_not_with_values(tmp_path: Path) -> None:
    same = edit_weights(copy(pristine(), tmp_path / "a"), lambda tensors: tensors["transformer.wpe.weight"].mul_(2))
    other = edit_config(copy(pristine(), tmp_path / "b"), layer_norm_epsilon=1e-6)

    def halve(tensors: dict[str, torch.Tensor]) -> None:
        tensors.update({name: tensor.bfloat16() for name, tensor in tensors.items()})

    narrow = edit_weights(copy(pristine(), tmp_path / "c"), halve)
    identities = [describe(spec(folder)).identity for folder in (pristine(), same, other, narrow)]
    assert identities[0] == identities[1]
    assert len(set(identities)) == 3
    assert describe(spec(narrow)).storage_dtype == "bfloat16"
    assert open_model(spec(narrow)).block(0).heads.w_q.dtype == torch.bfloat16


def test_old_gpt2_names_and_masks_are_understood(tmp_path: Path) -> None:
    def as_on_the_hub(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            tensors[name.removeprefix("transformer.")] = tensors.pop(name)
        for layer in range(3):
            tensors[f"h.{layer}.attn.bias"] = torch.ones(1, 1, 32, 32)

    old = open_model(spec(edit_weights(copy(pristine(), tmp_path / "m"), as_on_the_hub)))
    new = open_model(spec(pristine()))
    assert old.layer_hash(2) == new.layer_hash(2)
    assert all(torch.equal(a, b) for a, b in zip(old.module().parameters(), new.module().parameters(), strict=True))


def test_pythia_masks_tables_and_embed_out_are_understood(tmp_path: Path) -> None:
    saved = hf.GPTNeoXForCausalLM(CASES["gpt_neox"].config)
    saved.save_pretrained(tmp_path)

    def as_on_the_hub(tensors: dict[str, torch.Tensor]) -> None:
        tensors["embed_out.weight"] = tensors.pop(
            next(name for name in tensors if "embed_out" in name or "lm_head" in name)
        )
        for layer in range(2):
            path = f"gpt_neox.layers.{layer}.attention"
            tensors[f"{path}.bias"] = torch.ones(1, 1, 8, 8, dtype=torch.bool)
            tensors[f"{path}.masked_bias"] = torch.tensor(-1e9)
            tensors[f"{path}.rotary_emb.inv_freq"] = torch.ones(3)

    model = open_model(spec(edit_weights(tmp_path, as_on_the_hub)))
    assert torch.equal(model.module().lm_head.weight, saved.lm_head.weight)


def test_old_bert_names_and_another_head_are_understood(tmp_path: Path) -> None:
    saved = hf.BertForPreTraining(CASES["bert"].config)
    saved.save_pretrained(tmp_path)

    def as_on_the_hub(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            older = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            tensors[older] = tensors.pop(name)
        tensors["bert.embeddings.position_ids"] = torch.arange(64)[None]

    edit_config(edit_weights(tmp_path, as_on_the_hub), architectures=["BertForMaskedLM"])
    model = open_model(spec(tmp_path))
    assert "tensors of another head (bert.pooler.dense.bias …)" in model.info.notices[0]
    assert torch.equal(
        model.module().state_dict()["bert.encoder.layer.1.output.LayerNorm.weight"],
        saved.state_dict()["bert.encoder.layer.1.output.LayerNorm.weight"],
    )


def test_old_vit_names_are_understood(tmp_path: Path) -> None:
    saved = hf.ViTForImageClassification(CASES["vit"].config)
    saved.save_pretrained(tmp_path)

    def as_on_the_hub(tensors: dict[str, torch.Tensor]) -> None:
        pairs = (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"))
        state = saved.state_dict()
        for name in list(tensors):
            if ".attention." in name:
                del tensors[name]
        for layer in range(2):
            old, new = f"vit.encoder.layer.{layer}.attention", f"vit.layers.{layer}.attention"
            for kind in ("weight", "bias"):
                for older, newer in pairs:
                    tensors[f"{old}.attention.{older}.{kind}"] = state[f"{new}.{newer}.{kind}"].clone()
                tensors[f"{old}.output.dense.{kind}"] = state[f"{new}.o_proj.{kind}"].clone()

    model = open_model(spec(edit_weights(tmp_path, as_on_the_hub)))
    assert torch.equal(
        model.block(1).heads.w_k.reshape(24, 24), saved.state_dict()["vit.layers.1.attention.k_proj.weight"]
    )


def test_checkpoints_are_listed_in_step_order_and_the_last_is_the_default(tmp_path: Path) -> None:
    for step in (0, 16, 2, 128):
        copy(pristine(), tmp_path / f"step{step}")
    assert checkpoints(str(tmp_path)) == ("step0", "step2", "step16", "step128")
    assert describe(spec(tmp_path)).revision == "step128"
    assert describe(spec(tmp_path, revision="step2")).revision == "step2"
    with pytest.raises(UserError, match=r"has no checkpoint step17\. Did you mean .*step16"):
        describe(spec(tmp_path, revision="step17"))


def test_builtin_names_resolve_to_the_shipped_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.resources.MODELS", tmp_path)
    with pytest.raises(UserError, match="missing from this installation"):
        describe(ModelSpec(source="builtin"))
    copy(pristine(), tmp_path / "builtin" / "step0")
    copy(pristine(), tmp_path / "builtin" / "step1024")
    info = describe(ModelSpec(source="builtin"))
    assert (info.label, info.revision) == ("builtin", "step1024")
    assert checkpoints("builtin") == ("step0", "step1024")


def test_the_tokenizer_is_the_folder_s_own() -> None:
    tokenizer = open_model(spec(pristine())).tokenizer()
    ids = tokenizer("the cat sat")["input_ids"]
    assert tokenizer.decode(ids) == "the cat sat"
    assert max(ids) < 60


def test_without_tokenizer_files_none_is_made_up(tmp_path: Path) -> None:
    folder = copy(pristine(), tmp_path / "m")
    for file in folder.glob("*token*"):
        file.unlink()
    model = open_model(spec(folder))
    assert model.block(0).heads.w_q.shape == (4, 6, 24)
    assert "No tokenizer came with the model" in model.info.notices[0]
    with pytest.raises(UserError, match=r"data must be token ids"):
        model.tokenizer()


def test_closing_lets_the_module_go() -> None:
    model = open_model(spec(pristine()))
    first = model.module()
    assert model.module() is first
    model.close()
    assert model.module() is not first


def test_a_pooler_beside_a_masked_head_is_not_used(tmp_path: Path) -> None:
    """As roberta-base on the hub: the masked head without its tied decoder, the base model's pooler, stored ids."""
    config = CASES["roberta"].config
    saved, base = hf.RobertaForMaskedLM(config), hf.RobertaModel(config)
    saved.save_pretrained(tmp_path)

    def as_on_the_hub(tensors: dict[str, torch.Tensor]) -> None:
        tensors.update({f"roberta.{name}": value for name, value in base.state_dict().items() if "pooler" in name})
        tensors["roberta.embeddings.position_ids"] = torch.arange(64)[None]
        for name in [name for name in tensors if "lm_head.decoder" in name]:
            del tensors[name]

    model = open_model(spec(edit_weights(tmp_path, as_on_the_hub)))
    assert model.info.notices[0].startswith("2 tensors of another head (roberta.pooler.dense.bias …)")
    assert torch.equal(model.module().lm_head.decoder.weight, saved.lm_head.decoder.weight)


def test_opt_without_its_outer_prefix_is_understood(tmp_path: Path) -> None:
    saved = hf.OPTForCausalLM(CASES["opt"].config)
    saved.save_pretrained(tmp_path)

    def as_on_the_hub(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            tensors[name.removeprefix("model.")] = tensors.pop(name)

    model = open_model(spec(edit_weights(tmp_path, as_on_the_hub)))
    assert torch.equal(
        model.block(0).heads.w_q.reshape(24, 24), saved.state_dict()["model.decoder.layers.0.self_attn.q_proj.weight"]
    )
    assert model.module().num_parameters() == saved.num_parameters()
