"""Checkpoints and the state of an unfinished run on disk: each is there whole or not at all.

No link in the folder is followed: it may lie in a session that somebody else made, which is then `root`.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from engine.errors import UserError
from engine.models.memory import is_out_of_memory
from engine.sessions.files import folder_at, put_in_place, replace_file
from engine.sessions.rooted import Place, Root
from engine.training.spec import TrainingRecord

STATE = "state.pt"
RECORD = "training.json"
MOST_CONFIG_BYTES = 64 * 2**20


@contextmanager
def _said_by_the_system() -> Iterator[None]:
    """Raise what the system said, a full disk above all, where a library hides it behind an error of its own."""
    try:
        yield
    except RuntimeError as error:
        raise error.__context__ or error from None
    except SafetensorError as error:
        if (number := re.search(r"os error (\d+)", str(error))) is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def save_state(
    out: Path, record: TrainingRecord, model: PreTrainedModel, optimizer: torch.optim.Optimizer, root: Root | None
) -> None:
    """The state first, the record (what people read) after it: the state alone decides where a run resumes."""
    state: dict[str, Any] = {
        "record": record.model_dump_json(),
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": torch.get_rng_state(),
    }
    if model.device.type == "cuda":
        state["random_cuda"] = torch.cuda.get_rng_state(model.device)
    part = f"{STATE}.part"
    with folder_at(out, root) as place:
        place.remove(part)
        with place.create(part) as file, _said_by_the_system():
            torch.save(state, file)
        place.sync(part)
        place.replace(part, STATE)
    replace_file(out / RECORD, record.model_dump_json(indent=1).encode(), root)


def resume(
    out: Path, fresh: TrainingRecord, model: PreTrainedModel, optimizer: torch.optim.Optimizer, root: Root | None
) -> TrainingRecord:
    """Put the saved state back, if there is one, and return its record; else return `fresh`."""
    with folder_at(out, root) as place:
        if place.kind(STATE) is None:
            if place.kind(RECORD) is not None:
                raise UserError(f"The folder “{out}” already holds a finished training run; choose an empty one.")
            return fresh
        state, record = _loaded(place, out, model.device)
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


def _loaded(place: Place, out: Path, device: torch.device) -> tuple[dict[str, Any], TrainingRecord]:
    try:
        with place.open(STATE) as file:
            state = torch.load(file, map_location=device, weights_only=True)
        return state, TrainingRecord.model_validate_json(state["record"])
    except Exception as error:  # whatever the library makes of content that somebody made up
        if is_out_of_memory(error):
            raise
        raise UserError(
            f"The saved state “{out / STATE}” cannot be read: it is damaged, or was not made by Eigenscope. Remove it "
            "to train from the start.",
            repr(error),
        ) from error


def save_checkpoint(
    folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, dtype: str, root: Root | None
) -> None:
    """Write an ordinary Hugging Face folder (safetensors of `dtype`, config, tokenizer), whole or not at all."""
    stored: dict[int, torch.Tensor] = {}  # by address: tied tensors must stay one tensor, to be written once
    weights = {
        name: stored.setdefault(tensor.data_ptr(), tensor.to(getattr(torch, dtype)))
        for name, tensor in model.state_dict().items()
    }
    part = f"{folder.name}.part"
    with folder_at(folder.parent, root) as above:
        above.remove(part)
        above.make(part)
        with above.folder(part) as place:
            # The library writes by path, but into a folder that was made a moment ago: there is no link in it.
            # In parts, because a session reads its files whole.
            with _said_by_the_system():
                model.save_pretrained(place.library_path, state_dict=weights, max_shard_size="1GB")
                if tokenizer is not None:
                    tokenizer.save_pretrained(place.library_path)
            config = json.loads(place.read("config.json", MOST_CONFIG_BYTES))
            config["dtype"] = dtype  # the library writes the dtype that the model trained in
            place.remove("config.json")
            place.write("config.json", f"{json.dumps(config, indent=2)}\n".encode())
            for file in Path(place.library_path).iterdir():
                file.chmod(0o644)  # the library leaves the weights readable by their owner only
        above.remove(folder.name)
        put_in_place(above, part, folder.name)
