"""How far a checkpoint was trained: its step and its held-out loss, where its name or a record of the training says."""

import math
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from engine.files import read_file
from engine.gate import parse
from engine.models.source import Source

STEP = re.compile(r"(?:step|checkpoint|ckpt|iter(?:ation)?)[-_]?(\d{1,18})", re.IGNORECASE)
MOST_RECORD = 128_000_000


def named_step(name: str) -> int | None:
    """The step in names such as ``step1000``, ``checkpoint-500`` or ``stage1-step1000-tokens5B``; None without one."""
    number = STEP.search(name)
    return int(number[1]) if number else None


def trained(source: Source, revision: str | None) -> tuple[int | None, float | None]:
    """Training step and held-out loss (nats a token) of a checkpoint; None where nothing says.

    A record goes before the name: ``training.json`` beside the checkpoints (this program's own trainings) or
    ``trainer_state.json`` in the checkpoint (those of the library's Trainer). A record that cannot be understood says
    nothing: it is no part of the model.
    """
    name = revision or source.folder.name
    step, loss = None, None
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        step, loss = _recorded(source.folder)
    return named_step(name) if step is None else step, loss if loss is not None and math.isfinite(loss) else None


def _recorded(folder: Path) -> tuple[int | None, float | None]:
    if (file := folder.parent / "training.json").is_file():
        for checkpoint in _read(file)["checkpoints"]:
            if checkpoint["name"] == folder.name:
                return _step(checkpoint["step"]), float(checkpoint["held_out_loss"])
    if (file := folder / "trainer_state.json").is_file():
        state = _read(file)
        step = _step(state["global_step"])
        losses = [
            entry["eval_loss"] for entry in state["log_history"] if "eval_loss" in entry and entry["step"] == step
        ]
        return step, float(losses[-1]) if losses else None
    return None, None


def _step(number: Any) -> int:
    if isinstance(number, bool) or not 0 <= int(number) < 10**18:
        raise ValueError("no number of steps")
    return int(number)


def _read(file: Path) -> Any:
    return parse(read_file(file, MOST_RECORD))
