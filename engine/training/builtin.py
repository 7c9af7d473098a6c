"""How the models that come with the program were made; ``python -m engine.training builtin`` makes them again."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from engine.data.builtin import builtin_documents, text_hash
from engine.data.splits import divide
from engine.training.job import train
from engine.training.spec import TrainingProgress, TrainingRecord, TrainingSpec
from engine.training.windows import Tokens

VOCABULARY = 4096
CONTEXT = 256
_D = 128


def _causal_model() -> PreTrainedModel:
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY,
            n_positions=CONTEXT,
            n_embd=_D,
            n_layer=6,
            n_head=8,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=0,
            eos_token_id=0,
        )
    )


def _masked_model() -> PreTrainedModel:
    return BertForMaskedLM(
        BertConfig(
            vocab_size=VOCABULARY,
            max_position_embeddings=CONTEXT,
            hidden_size=_D,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=4 * _D,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            pad_token_id=0,
        )
    )


@dataclass(frozen=True)
class Recipe:
    """One built-in model: its spec, its architecture, its special tokens and a word for the card."""

    spec: TrainingSpec
    make: Callable[[], PreTrainedModel]
    special: dict[str, str]
    summary: str


RECIPES = {
    "builtin": Recipe(
        TrainingSpec(
            objective="causal",
            steps=2048,
            batch=4,
            length=CONTEXT,
            learning_rate=3e-3,
            warmup=64,
            precision="bfloat16",
            checkpoints=(32, 64, 128, 256, 512, 1024),
            dtype="float16",
        ),
        _causal_model,
        {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"},
        "GPT-2 architecture, 6 blocks of width 128 with 8 heads, tied embeddings, next-token prediction",
    ),
    "builtin-encoder": Recipe(
        TrainingSpec(
            objective="masked",
            steps=6144,
            batch=4,
            length=CONTEXT,
            learning_rate=1e-3,
            warmup=256,
            precision="bfloat16",
            mask_rate=0.3,
            checkpoints=(96, 384, 1536),
            dtype="float16",
        ),
        _masked_model,
        {
            "pad_token": "[PAD]",
            "unk_token": "[UNK]",
            "cls_token": "[CLS]",
            "sep_token": "[SEP]",
            "mask_token": "[MASK]",
        },
        "BERT architecture, 4 blocks of width 128 with 4 heads, masked-token prediction",
    ),
}


def make_tokenizer(recipe: Recipe, texts: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of 4,096 tokens learnt on `texts`, special tokens first."""
    special = list(dict.fromkeys(recipe.special.values()))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if "[CLS]" in special:
        ids = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
        **recipe.special,
    )


def builtin_tokens(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> list[Tokens]:
    """Each built-in document as token ids, ended by <|endoftext|> or [SEP]."""
    end = tokenizer.eos_token_id if recipe.spec.objective == "causal" else tokenizer.sep_token_id
    encoded = tokenizer(list(builtin_documents()), add_special_tokens=False, verbose=False)["input_ids"]
    return [np.array([*ids, end], dtype=np.int64) for ids in encoded]


def make(
    name: str,
    out: Path,
    on_progress: Callable[[TrainingProgress], None] = lambda progress: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> TrainingRecord:
    """Train the built-in model `name` from nothing (or resume) and write its card."""
    recipe = RECIPES[name]
    texts = builtin_documents()
    learnt = divide(len(texts), recipe.spec.held_out, recipe.spec.seed)[0]
    tokenizer = make_tokenizer(recipe, [texts[i] for i in learnt])
    torch.manual_seed(recipe.spec.seed)
    model = recipe.make()
    model.set_attn_implementation("eager")  # at this size on a CPU faster than the fused kernel
    record = train(recipe.spec, model, tokenizer, builtin_tokens(recipe, tokenizer), out, on_progress, cancelled)
    (out / "README.md").write_text(card(name, record))
    return record


def card(name: str, record: TrainingRecord) -> str:
    """The model card, in Markdown."""
    recipe, spec = RECIPES[name], record.spec
    rows = "\n".join(
        f"| `{c.name}` | {c.held_out_loss:.3f} | {record.unigram_entropy:.3f} |" for c in record.checkpoints
    )
    predicted = "every next token" if spec.objective == "causal" else f"{spec.mask_rate:.0%} of the tokens, masked"
    return f"""---
license: bsd-3-clause
library_name: transformers
---
# {name}

{recipe.summary}; vocabulary {VOCABULARY:,} (byte-level BPE learnt on the training part of the text),
context {CONTEXT}. It comes with Eigenscope so that every analysis has a trained model, its training history and its
text with no download. It is far too small to be useful as a language model.

## Text

The documentation of the Python standard library: the docstrings of its modules and the help topics of `pydoc`, one
document for each, under the Python Software Foundation License. BLAKE2b of the whole text: `{text_hash()}`.
Documents are shuffled by the seed and the last {spec.held_out:.0%} of them are held out:
{record.train_tokens:,} tokens to train on, {record.held_out_tokens:,} held out.

## Checkpoints

Loss on the held-out documents in nats a token ({predicted}), beside the entropy of the held-out tokens' own
frequencies: no model that ignores context can go below it.

| checkpoint | held-out loss | unigram entropy |
|---|---|---|
{rows}

Each is an ordinary Hugging Face folder. All weights are stored in {spec.dtype} (they were float32 in training), so
singular values below about 1e-4 of the largest carry the rounding of the storage. `training.json` has all of this,
and the training loss, for programs.

## Training

AdamW (0.9, 0.95), {record.steps:,} steps of {spec.batch} windows of {spec.length} tokens, learning rate
{spec.learning_rate:g} after {spec.warmup} steps of linear warm-up, {spec.decay} decay to zero, weight decay
{spec.weight_decay:g} on matrices, gradient norm clipped at {spec.clip:g}, no dropout, products in {spec.precision},
seed {spec.seed}.
It took {record.seconds / 60:.0f} minutes on a shared machine: {record.environment}.

    python -m engine.training builtin {name} --out NEW_FOLDER

makes it again (the same text needs the same Python version; the last bits depend on the machine and the number of
threads). An interrupted run goes on when the command is repeated.
"""
