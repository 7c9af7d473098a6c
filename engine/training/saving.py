"""Checkpoints and the state of an unfinished run on disk: each is there whole or not at all."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from engine.errors import UserError
from engine.training.spec import TrainingRecord

STATE = "state.pt"
RECORD = "training.json"


def _replace(path: Path, data: bytes) -> None:
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def save_state(out: Path, record: TrainingRecord, model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> None:
    """The state first, the record (what people read) after it: the state alone decides where a run resumes."""
    state: dict[str, Any] = {
        "record": record.model_dump_json(),
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": torch.get_rng_state(),
    }
    if model.device.type == "cuda":
        state["random_cuda"] = torch.cuda.get_rng_state(model.device)
    part = out / (STATE + ".part")
    torch.save(state, part)
    os.replace(part, out / STATE)
    _replace(out / RECORD, record.model_dump_json(indent=1).encode())


def resume(
    out: Path, fresh: TrainingRecord, model: PreTrainedModel, optimizer: torch.optim.Optimizer
) -> TrainingRecord:
    """Put the saved state back, if there is one, and return its record; else return `fresh`."""
    if not (out / STATE).is_file():
        if (out / RECORD).exists():
            raise UserError(f"The folder “{out}” already holds a finished training run; choose an empty one.")
        return fresh
    state = torch.load(out / STATE, map_location=model.device, weights_only=True)
    record = TrainingRecord.model_validate_json(state["record"])
    if (record.spec, record.text_hash) != (fresh.spec, fresh.text_hash):
        raise UserError(
            f"The folder “{out}” holds an unfinished run with other settings or another text; "
            "choose an empty folder, or repeat that run's settings to resume it."
        )
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"].cpu())
    if "random_cuda" in state:
        torch.cuda.set_rng_state(state["random_cuda"].cpu(), model.device)
    return record


def save_checkpoint(
    folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, dtype: str
) -> None:
    """Write an ordinary Hugging Face folder (safetensors of `dtype`, config, tokenizer), whole or not at all."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    stored: dict[int, torch.Tensor] = {}  # by address: tied tensors must stay one tensor, to be written once
    weights = {
        name: stored.setdefault(tensor.data_ptr(), tensor.to(getattr(torch, dtype)))
        for name, tensor in model.state_dict().items()
    }
    model.save_pretrained(part, state_dict=weights, max_shard_size="1GB")  # a session reads its files whole
    if tokenizer is not None:
        tokenizer.save_pretrained(part)
    config = json.loads((part / "config.json").read_text())
    config["dtype"] = dtype  # the library writes the dtype that the model trained in
    (part / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    for file in part.iterdir():
        file.chmod(0o644)  # the library leaves the weights readable by their owner only
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(part, folder)
