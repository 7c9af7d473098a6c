"""Tiny random models of architectures whose shapes, heads and blocks an adapter need not know, as saved checkpoints."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import torch
import transformers as hf
from opening_models import tokenizer_of

VOCAB, CONTEXT = 60, 48
IDS = {"vocab_size": VOCAB, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
SIZES = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": CONTEXT, **IDS,
}  # fmt: skip
NEO = {
    "hidden_size": 16, "num_layers": 2, "num_heads": 2, "intermediate_size": 24, "window_size": 4,
    "attention_types": [[["global", "local"], 1]], "max_position_embeddings": CONTEXT, **IDS,
}  # fmt: skip
GPT = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": CONTEXT}
MODELS: dict[str, Callable[[], hf.PreTrainedModel]] = {
    "gpt_neo": lambda: hf.GPTNeoForCausalLM(hf.GPTNeoConfig(**NEO)),
    "gpt_neo-reward": lambda: hf.GPTNeoForSequenceClassification(hf.GPTNeoConfig(**NEO)),
    "megatron-bert": lambda: hf.MegatronBertForMaskedLM(hf.MegatronBertConfig(**SIZES)),
    "gptj": lambda: hf.GPTJForCausalLM(hf.GPTJConfig(rotary_dim=4, **GPT, **IDS)),
    "albert": lambda: hf.AlbertForMaskedLM(
        hf.AlbertConfig(embedding_size=12, num_hidden_groups=2, **SIZES | {"num_hidden_layers": 4})
    ),
    "openai-gpt": lambda: hf.OpenAIGPTLMHeadModel(hf.OpenAIGPTConfig(**GPT, vocab_size=VOCAB)),
    "bloom-bare": lambda: hf.BloomModel(hf.BloomConfig(hidden_size=16, n_layer=2, n_head=2, **IDS)),
    "xlm-roberta": lambda: hf.XLMRobertaForCausalLM(
        hf.XLMRobertaConfig(**SIZES | {"pad_token_id": 1, "max_position_embeddings": CONTEXT + 2})
    ),
    "xlm-roberta-decoder": lambda: hf.XLMRobertaForCausalLM(
        hf.XLMRobertaConfig(is_decoder=True, **SIZES | {"pad_token_id": 1, "max_position_embeddings": CONTEXT + 2})
    ),
    "bert-ner": lambda: hf.BertForTokenClassification(hf.BertConfig(num_labels=9, **SIZES)),
    "bert-pretraining": lambda: hf.BertForPreTraining(hf.BertConfig(**SIZES)),
    "xlnet": lambda: hf.XLNetLMHeadModel(
        hf.XLNetConfig(d_model=16, n_layer=2, n_head=2, d_inner=24, vocab_size=VOCAB, pad_token_id=0)
    ),
    "xlm": lambda: hf.XLMWithLMHeadModel(
        hf.XLMConfig(emb_dim=16, n_layers=2, n_heads=2, max_position_embeddings=CONTEXT, vocab_size=VOCAB, pad_index=0)
    ),
    "mamba": lambda: hf.MambaForCausalLM(hf.MambaConfig(hidden_size=16, num_hidden_layers=2, state_size=4, **IDS)),
    "t5-encoder": lambda: hf.T5EncoderModel(
        hf.T5Config(d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, vocab_size=VOCAB, pad_token_id=0)
    ),
    "deberta-v2": lambda: hf.DebertaV2ForMaskedLM(
        hf.DebertaV2Config(relative_attention=True, position_buckets=8, pos_att_type=["p2c", "c2p"], **SIZES)
    ),
    "ctrl": lambda: hf.CTRLLMHeadModel(hf.CTRLConfig(dff=24, **GPT, **IDS)),
    "vit": lambda: hf.ViTModel(
        hf.ViTConfig(
            hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=8, patch_size=4
        )
    ),
    "gpt2-upcast": lambda: hf.GPT2LMHeadModel(
        hf.GPT2Config(reorder_and_upcast_attn=True, scale_attn_by_inverse_layer_idx=True, **GPT, **IDS)
    ),
}


@cache
def model_of(name: str) -> hf.PreTrainedModel:
    """One of them, with weights far from their first values."""
    torch.manual_seed(0)
    model = MODELS[name]()
    with torch.no_grad():
        for parameter in model.parameters():
            drawn = torch.randn_like(parameter)
            parameter.copy_(0.3 * drawn if parameter.ndim > 1 else parameter + 0.2 * drawn)
    model.tie_weights()
    model.set_attn_implementation("eager")
    return model.eval()


@cache
def saved(name: str) -> Path:
    """Its folder, with a tokenizer that has a mask token."""
    folder = Path(mkdtemp(prefix="eigenscope-")) / name
    model_of(name).save_pretrained(folder)
    if name != "vit":
        tokenizer = tokenizer_of(VOCAB - 2)
        tokenizer.add_special_tokens({"mask_token": "[MASK]", "pad_token": "[PAD]"})
        tokenizer.save_pretrained(folder)
    return folder
