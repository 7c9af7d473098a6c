"""What is measured of an architecture before its weights are read, against what is known of it by other ways."""

import pytest
import torch
import transformers as hf
from opening_models import copy as copied
from opening_models import edit_config, edit_weights, pristine, refusal
from torch import Tensor
from unadapted_models import CONTEXT, MODELS, SIZES, VOCAB, model_of, saved

from engine.models.attention_hooks import AttentionHooks, LayerAttention
from engine.models.config import Architecture
from engine.models.opening import describe, open_model
from engine.models.rehearsal import Rehearsal, rehearse
from engine.models.sites import Site, observe, sites
from engine.request import ModelSpec

torch.set_num_threads(1)

BOTH_WAYS = {
    "albert", "bert-ner", "bert-pretraining", "deberta-v2", "megatron-bert", "t5-encoder", "xlm", "xlm-roberta", "xlnet"
}  # fmt: skip
WITHOUT_HEAD = {"bloom-bare", "gpt_neo-reward", "bert-ner", "t5-encoder"}
TEXT = [name for name in MODELS if name != "vit"]


def measured(name: str) -> Rehearsal:
    model = model_of(name)
    rehearsal = rehearse(Architecture(model.config.to_dict(), model.config, type(model)))
    assert rehearsal is not None
    return rehearsal


@pytest.mark.parametrize("name", TEXT)
def test_causality_and_head_are_those_of_the_real_model(name: str) -> None:
    """By hand, and by changing a token of the model with its own weights."""
    model, rehearsal = model_of(name), measured(name)
    ids = torch.tensor([[7, 20, 9, 31, 12], [7, 20, 9, 31, 40]])
    with torch.no_grad():
        output = model(input_ids=ids, output_hidden_states=True)
    first, second = output.hidden_states[-1]
    assert torch.allclose(first[:-1], second[:-1], atol=1e-6) == (name not in BOTH_WAYS)
    assert rehearsal.causal == (name not in BOTH_WAYS)
    assert rehearsal.vocabulary == (name not in WITHOUT_HEAD)
    assert rehearsal.width == 16


def test_the_first_and_last_position_of_a_table_are_found() -> None:
    assert {measured(name).positions for name in ("xlm-roberta", "gpt_neo", "openai-gpt", "bert-ner")} == {CONTEXT}
    assert describe(ModelSpec(source=str(saved("xlm-roberta")))).context == CONTEXT
    assert measured("gptj").positions == measured("bloom-bare").positions == 0


@pytest.mark.parametrize("name", TEXT)
def test_every_layer_is_seen_as_the_library_sees_it(name: str) -> None:
    """Blocks, also those that share a module, are the library's hidden states; attention is its attentions."""
    rehearsal, model = measured(name), model_of(name)
    ids = torch.tensor([[7, 20, 9, 31, 12, 33]])
    with torch.no_grad():
        output = model(input_ids=ids, output_hidden_states=True, output_attentions=name != "mamba")
    if not rehearsal.no_blocks:
        blocks: dict[int, Tensor] = {}

        def take(site: Site, hidden: Tensor) -> None:
            blocks[site.layer] = hidden.clone()

        observe(model, sites(model), {"input_ids": ids}, take)
        assert len(blocks) == len(rehearsal.blocks) == model.config.num_hidden_layers
        for layer, hidden in blocks.items():
            if layer < len(blocks) - 1:  # a norm may follow the last
                torch.testing.assert_close(hidden, output.hidden_states[layer + (name != "mamba")])
    if any(rehearsal.heads):
        seen: dict[int, Tensor] = {}

        def keep(at: LayerAttention) -> None:
            seen[at.layer] = at.matrices.clone()

        AttentionHooks(model, name).run(ids, torch.tensor([6]), keep)
        assert rehearsal.heads == (2,) * len(seen)
        for layer, matrices in seen.items():
            torch.testing.assert_close(matrices, output.attentions[layer])


def test_layers_that_share_a_module_are_as_many_as_their_calls() -> None:
    paths = measured("albert").blocks
    assert len(paths) == 4
    assert paths[0] == paths[1] != paths[2] == paths[3]


def test_what_no_row_of_blocks_is_is_told_apart() -> None:
    assert "do not pass on one vector" in measured("xlnet").no_blocks
    assert "not a row of blocks" in measured("xlm").no_blocks
    encoder = measured("t5-encoder")
    assert (encoder.no_blocks, encoder.no_stream) == ("", "")
    assert encoder.beside
    assert not measured("albert").beside
    assert "does not read text, but images" in measured("vit").refusal


def test_it_takes_no_more_memory_than_one_layer() -> None:
    """A model of 7 billion parameters, whose weights alone would take 27 GB."""
    config = hf.LlamaConfig()
    wide = Architecture(config.to_dict(), config, hf.LlamaForCausalLM)
    rehearsal = rehearse(wide)
    assert rehearsal is not None
    assert (rehearsal.causal, rehearsal.vocabulary, rehearsal.heads) == (True, True, (32,) * 32)


@pytest.mark.parametrize("pad", [-1, 60, 4000, None])
def test_a_padding_id_that_is_no_entry_of_the_vocabulary(pad: int | None, tmp_path) -> None:
    """The model opens as if it had none, and reads padded samples."""
    folder = copied(saved("gptj"), tmp_path / "model")
    edit_config(folder, pad_token_id=pad)
    model = open_model(ModelSpec(source=str(folder)))
    assert model.config.pad_token_id is None
    assert model.info.lacks.keys() <= {"heads"}
    seen: list[Tensor] = []
    AttentionHooks(model.module(), "it").run(
        torch.tensor([[5, 6, 7, -1]]), torch.tensor([3]), lambda at: seen.append(at.matrices)
    )
    assert all(matrices[:, :, :3, :3].isfinite().all() for matrices in seen)


@pytest.mark.parametrize("name", ["llama", "bert"])
def test_a_head_that_is_not_in_the_file_is_none(name: str, tmp_path) -> None:
    config = {
        "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**SIZES)),
        "bert": lambda: hf.BertForMaskedLM(hf.BertConfig(tie_word_embeddings=False, **SIZES)),
    }[name]()
    bare = config.base_model if name == "llama" else hf.BertModel(config.config)
    bare.save_pretrained(tmp_path)
    edit_config(tmp_path, architectures=[type(config).__name__])
    info = describe(ModelSpec(source=str(tmp_path)))
    assert info.architecture == type(bare).__name__
    assert set(info.lacks) == {"loss"}
    assert any("holds nothing of the head" in notice for notice in info.notices)
    open_model(ModelSpec(source=str(tmp_path))).module()


@pytest.mark.parametrize(
    ("prefix", "wrapper"), [("module.", "DistributedDataParallel"), ("_orig_mod.", "torch.compile")]
)
def test_names_with_the_prefix_of_a_wrapper_are_called_by_it(prefix: str, wrapper: str, tmp_path) -> None:
    def wrap(tensors: dict[str, Tensor]) -> None:
        for name in list(tensors):
            tensors[prefix + name] = tensors.pop(name)

    sentence = refusal(edit_weights(copied(pristine(), tmp_path / "model"), wrap))
    assert wrapper in sentence
    assert prefix in sentence


@pytest.mark.parametrize("cls", [hf.T5ForConditionalGeneration, hf.BartForConditionalGeneration])
def test_an_encoder_with_a_decoder_is_refused_at_opening(cls: type[hf.PreTrainedModel], tmp_path) -> None:
    small = {"d_model": 16, "d_ff": 24, "d_kv": 8, "num_layers": 1, "num_heads": 2, "vocab_size": VOCAB}
    small |= {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24}
    config = cls.config_class(**small, pad_token_id=0, decoder_start_token_id=0, max_position_embeddings=CONTEXT)
    cls(config).save_pretrained(tmp_path)
    assert "an encoder and a decoder" in refusal(tmp_path)


def test_a_layer_s_hash_is_of_its_own_weights(tmp_path) -> None:
    def hashes(folder) -> list[str]:
        model = open_model(ModelSpec(source=str(folder)))
        return [model.layer_hash(layer) for layer in range(2)]

    def change(tensors: dict[str, Tensor]) -> None:
        name = next(name for name in tensors if ".1." in name and name.endswith("weight"))
        tensors[name] += 1

    before = hashes(saved("gpt_neo"))
    after = hashes(edit_weights(copied(saved("gpt_neo"), tmp_path / "model"), change))
    assert before[0] == after[0]
    assert before[1] != after[1]
