"""Tiny checkpoints on disk, made once, copied and damaged by the tests that open them."""

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from engine.errors import UserError
from engine.models.opening import describe, open_model
from engine.request import ModelSpec

torch.set_num_threads(1)

GPT2 = hf.GPT2Config(n_embd=24, n_layer=3, n_head=4, vocab_size=60, n_positions=32, bos_token_id=0, eos_token_id=0)


@cache
def pristine() -> Path:
    """A tiny GPT-2 with its own BPE tokenizer, as ``save_pretrained`` writes it."""
    folder = Path(mkdtemp(prefix="eigenscope-"))
    torch.manual_seed(0)
    hf.GPT2LMHeadModel(GPT2).save_pretrained(folder)
    tokenizer_of(60).save_pretrained(folder)
    return folder


def tokenizer_of(size: int, special: str = "<|endoftext|>") -> hf.PreTrainedTokenizerFast:
    """A BPE tokenizer of at most `size` tokens."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=[special], show_progress=False)
    bpe.train_from_iterator(
        ["the cat sat on the mat and the dog sat on the cat", "a small text, read twice"] * 4, trainer
    )
    return hf.PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=special)


def copy(folder: Path, to: Path) -> Path:
    """A copy to damage."""
    shutil.copytree(folder, to)
    return to


def edit_config(folder: Path, **changes: Any) -> Path:
    """Set keys of config.json; None removes one."""
    file = folder / "config.json"
    config = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    return folder


def edit_weights(folder: Path, change: Callable[[dict[str, Tensor]], Any]) -> Path:
    """Change the tensors of model.safetensors in place."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    return folder


def shard(folder: Path, parts: int = 3) -> Path:
    """Split model.safetensors into shards with an index."""
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    weight_map = {}
    for part in range(parts):
        file = f"model-{part + 1:05d}-of-{parts:05d}.safetensors"
        held = names[part::parts]
        save_file({name: tensors[name] for name in held}, folder / file)
        weight_map |= dict.fromkeys(held, file)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def refusal(source: Path | str, *, of: str = "describe", **more: object) -> str:
    """The sentence with which opening (or what comes after it) is refused."""
    spec = ModelSpec.model_validate({"source": str(source), **more})
    act: dict[str, Callable[[], object]] = {
        "describe": lambda: describe(spec),
        "block": lambda: open_model(spec).block(1),
        "module": lambda: open_model(spec).module(),
    }
    with pytest.raises(UserError) as caught:
        act[of]()
    message = caught.value.message
    assert "Traceback" not in message
    assert "\n" not in message
    assert message.endswith((".", "?"))
    assert ". " in message, "says what to do"
    if of == "describe":
        with pytest.raises(UserError) as again:
            open_model(spec)
        assert again.value.message == message
    return message
