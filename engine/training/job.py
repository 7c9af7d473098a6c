"""Train any causal or masked language model of the library, with checkpoints, resume and cancel.

The job is a pure function of (spec, model, documents): every batch and every mask is drawn from the seed and the step
number alone, so a run that was killed and resumed ends in the same weights, bit for bit, as one that was not
(on the same machine with the same number of threads).
"""

import json
import math
import os
import platform
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from engine.data.tokens import frame
from engine.errors import Cancelled, UserError

Tokens = NDArray[np.int64]

_SAVE_EVERY = 60.0  # seconds between saved states: what a kill can cost
_EVALUATION = 2**32 - 1  # the "step" whose masks the held-out loss uses: the same at every checkpoint


class TrainingSpec(BaseModel):
    """How to train. Give either `steps` or `epochs` (passes over the training part of the text)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    objective: Literal["causal", "masked"] = Field("causal", title="Objective")
    steps: int | None = Field(None, title="Steps", ge=0)
    epochs: float | None = Field(None, title="Epochs", gt=0)
    batch: int = Field(16, title="Batch", description="Windows a step", ge=1)
    length: int = Field(128, title="Length", description="Tokens a window", ge=2)
    learning_rate: float = Field(2e-3, title="Learning rate", description="Peak, reached after the warm-up", gt=0)
    warmup: int = Field(0, title="Warm-up", description="Steps of linear warm-up", ge=0)
    decay: Literal["cosine", "linear", "constant"] = Field("cosine", title="Decay", description="To zero at the end")
    weight_decay: float = Field(0.1, title="Weight decay", description="Matrices and embeddings only", ge=0)
    clip: float = Field(1.0, title="Gradient clip", description="Largest gradient norm", gt=0)
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", title="Precision", description="Of the products in a step; weights and losses stay as they are"
    )
    mask_rate: float = Field(0.15, title="Mask rate", description="Share of tokens to predict (masked)", gt=0, lt=1)
    held_out: float = Field(0.05, title="Held out", description="Share of the documents", gt=0, lt=1)
    checkpoints: tuple[int, ...] = Field((), title="Checkpoints", description="Steps to keep besides the last")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", title="Dtype", description="Of checkpoints")
    seed: int = Field(0, title="Seed", ge=0, lt=2**32)

    @model_validator(mode="after")
    def _one_length(self) -> "TrainingSpec":
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs")
        return self


class Checkpoint(BaseModel):
    """One saved checkpoint: its folder's name and the loss (nats a token) on the held-out documents."""

    name: str
    step: int
    held_out_loss: float


class TrainingRecord(BaseModel):
    """What a run did so far; saved as ``training.json`` beside the checkpoints.

    `unigram_entropy` is the entropy (nats a token) of the held-out tokens' own frequencies: no model that ignores
    context can have a lower loss. `seconds` is the time spent in training over all resumed parts.
    """

    spec: TrainingSpec
    text_hash: str
    train_tokens: int
    held_out_tokens: int
    unigram_entropy: float
    steps: int
    environment: str
    step: int = 0
    seconds: float = 0.0
    train_loss: list[tuple[int, float]] = Field(default_factory=list)
    checkpoints: list[Checkpoint] = Field(default_factory=list)


@dataclass(frozen=True)
class TrainingProgress:
    """`loss` is the mean training loss (nats a token) of the step just done; `checkpoint` is set when one was saved."""

    step: int
    steps: int
    loss: float
    seconds: float
    checkpoint: Checkpoint | None


def split(n: int, held_out: float, seed: int) -> tuple[list[int], list[int]]:
    """Indices of the training documents and of the held-out ones (the last of a seeded shuffle; at least one each)."""
    if n < 2:
        raise UserError("Training needs at least two documents, one of them to hold out; the text has fewer.")
    order = np.random.default_rng(seed).permutation(n).tolist()
    cut = min(max(1, round(n * held_out)), n - 1)
    return order[:-cut], order[-cut:]


def schedule(spec: TrainingSpec, step: int, steps: int) -> float:
    """Learning rate of `step` (from 0): linear warm-up, then the chosen decay to zero at `steps`."""
    if step < spec.warmup:
        return spec.learning_rate * (step + 1) / spec.warmup
    through = (step - spec.warmup) / max(1, steps - spec.warmup)
    shape = {"cosine": 0.5 * (1 + math.cos(math.pi * through)), "linear": 1 - through, "constant": 1.0}
    return spec.learning_rate * shape[spec.decay]


def unigram_entropy(tokens: Tokens) -> float:
    """Entropy −Σ p ln p (nats) of the token frequencies p of `tokens` (n,)."""
    counts = np.unique(tokens, return_counts=True)[1]
    p = counts / counts.sum()
    return float(-(p * np.log(p)).sum())


class _Windows:
    """The text as windows of `length` tokens; each epoch cuts it anew (its own offset) and shuffles anew."""

    def __init__(self, stream: Tokens, length: int, ends: tuple[list[int], list[int]]) -> None:
        self.before, self.after = (np.array(part, dtype=np.int64) for part in ends)
        self.length = length - len(self.before) - len(self.after)
        if self.length < 1 or len(stream) < 2 * self.length:
            raise UserError(
                f"The text has {len(stream)} tokens in this part, too few for windows of {length}; "
                "use more text or shorter windows."
            )
        self.stream = stream
        self.count = len(stream) // self.length - 1  # one less than fits: room for the offset

    def _cut(self, starts: Tokens) -> Tokens:
        """Windows (len(starts), length) that begin at `starts`, framed by the special tokens."""
        body = self.stream[starts[:, None] + np.arange(self.length)]
        ends = [np.broadcast_to(part, (len(starts), len(part))) for part in (self.before, self.after)]
        return np.concatenate([ends[0], body, ends[1]], axis=1)

    def batch(self, step: int, size: int, seed: int) -> Tokens:
        """The batch (size, length) of `step`: a function of step and seed only."""
        positions = np.arange(step * size, (step + 1) * size)
        starts = np.empty(size, dtype=np.int64)
        for epoch in np.unique(positions // self.count):
            rng = np.random.default_rng([seed, int(epoch)])
            offset, order = rng.integers(self.length + 1), rng.permutation(self.count)
            here = positions // self.count == epoch
            starts[here] = offset + order[positions[here] % self.count] * self.length
        return self._cut(starts)

    def all(self) -> Tokens:
        """Every window of the text, end to end (n, length)."""
        return self._cut(np.arange(len(self.stream) // self.length) * self.length)


def _mask(
    windows: Tokens, tokenizer: PreTrainedTokenizerBase, rate: float, seed: int, step: int
) -> tuple[Tokens, Tokens]:
    """BERT's masking: of the chosen tokens 80 % become [MASK], 10 % random, 10 % stay; the rest is labelled −100."""
    rng = np.random.default_rng([seed, step, 1])
    chosen = (rng.random(windows.shape) < rate) & ~np.isin(windows, tokenizer.all_special_ids)
    kind = rng.random(windows.shape)
    inputs = np.where(chosen & (kind < 0.8), tokenizer.mask_token_id, windows)
    anything = rng.integers(len(tokenizer), size=windows.shape)
    inputs = np.where(chosen & (kind >= 0.8) & (kind < 0.9), anything, inputs)
    return inputs, np.where(chosen, windows, -100)


class _Task:
    """Windows to loss, for either objective."""

    def __init__(self, spec: TrainingSpec, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.spec, self.model, self.tokenizer = spec, model, tokenizer

    def losses(self, windows: Tokens, step: int, precision: str = "float32") -> torch.Tensor:
        """Loss of every predicted token of `windows` (n, T), in nats, as one vector."""
        inputs, labels = windows, windows
        if self.spec.objective == "masked":
            inputs, labels = _mask(windows, self.tokenizer, self.spec.mask_rate, self.spec.seed, step)
        device = self.model.device
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            logits = self.model(torch.from_numpy(inputs).to(device)).logits
        target = torch.from_numpy(labels).to(device)
        if self.spec.objective == "causal":
            logits, target = logits[:, :-1], target[:, 1:]
        kept = target != -100
        return functional.cross_entropy(logits[kept].float(), target[kept], reduction="none")

    @torch.no_grad()
    def held_out_loss(self, windows: Tokens) -> float:
        """Mean loss over all held-out windows, with the same masks every time."""
        was_training = self.model.training
        self.model.eval()
        parts = [
            self.losses(windows[i : i + self.spec.batch], _EVALUATION - i).double()
            for i in range(0, len(windows), self.spec.batch)
        ]
        self.model.train(was_training)
        return torch.cat(parts).mean().item()


def held_out_loss(self, windows: Tokens) -> float:
    """Mean loss over all held-out windows, with the same masks every time."""
    was_training = self.model.training
    self.model.eval()
    parts = [
        self.losses(windows[i : i + self.spec.batch], _EVALUATION - i).double()
        for i in range(0, len(windows), self.spec.batch)
    ]
    self.model.train(was_training)
    return torch.cat(parts).mean().item()


def _frame(spec: TrainingSpec, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The special tokens that the tokenizer puts around one text, for masked models ([CLS] … [SEP])."""
    if spec.objective == "causal":
        return [], []
    if tokenizer.mask_token_id is None:
        raise UserError("This model's tokenizer has no mask token, so it cannot be trained as a masked model.")
    inner = tokenizer("a", add_special_tokens=False)["input_ids"]
    outer = tokenizer("a")["input_ids"]
    at = next(i for i in range(len(outer)) if outer[i : i + len(inner)] == inner)
    return outer[:at], outer[at + len(inner) :]


def held_out_loss(
    spec: TrainingSpec,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[Tokens],
    limit: int | None = None,
) -> float:
    """Loss (nats a token) of `model` on the documents that `spec` holds out, or on their first `limit` windows."""
    held = np.concatenate([documents[i] for i in split(len(documents), spec.held_out, spec.seed)[1]])
    windows = _Windows(held, spec.length, frame(tokenizer)).all()
    return _Task(spec, model, tokenizer).held_out_loss(windows[:limit])


def train(
    spec: TrainingSpec,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[Tokens],
    out: Path,
    on_progress: Callable[[TrainingProgress], None] = lambda progress: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> TrainingRecord:
    """Train `model` in place on its own device and keep checkpoints as ordinary Hugging Face folders.

    Parameters
    ----------
    documents : sequence of (n_i,) int64 arrays
        Token ids of each document, with the separator that the model should see; −1 pads are dropped.
    out : Path
        Gets ``step<N>/`` for step 0, `spec.checkpoints` and the last step, and ``training.json``. A folder that holds
        an unfinished run of the same spec and text is resumed; one that holds another run is refused.

    Raises
    ------
    Cancelled
        After saving the state, so that the same call resumes.
    UserError
        Too little text, another run's folder, or a loss that is no longer finite.
    """
    documents = [np.asarray(ids, dtype=np.int64)[np.asarray(ids) >= 0] for ids in documents]
    train_ids, held_ids = split(len(documents), spec.held_out, spec.seed)
    if spec.objective == "masked" and tokenizer.mask_token_id is None:
        raise UserError("This model's tokenizer has no mask token, so it cannot be trained as a masked model.")
    ends = frame(tokenizer)
    text, held = (np.concatenate([documents[i] for i in ids]) for ids in (train_ids, held_ids))
    windows, held_windows = _Windows(text, spec.length, ends), _Windows(held, spec.length, ends).all()
    steps = spec.steps if spec.steps is not None else math.ceil(spec.epochs * windows.count / spec.batch)  # type: ignore[operator]
    if steps and max(spec.checkpoints, default=0) > steps:
        raise UserError(f"Checkpoint {max(spec.checkpoints)} lies beyond the last step, {steps}.")
    keep = {0, steps, *spec.checkpoints}

    record = TrainingRecord(
        spec=spec,
        text_hash=blake2b(np.concatenate([text, [-1], held]).tobytes(), digest_size=16).hexdigest(),
        train_tokens=len(text),
        held_out_tokens=len(held),
        unigram_entropy=unigram_entropy(held),
        steps=steps,
        environment=f"Python {platform.python_version()}, torch {torch.__version__}, {model.device.type} "
        f"({platform.machine()}, {torch.get_num_threads()} of {os.cpu_count()} cores)",
    )
    task = _Task(spec, model, tokenizer)
    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]
    others = [p for p in model.parameters() if p.requires_grad and p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": spec.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=spec.learning_rate,
        betas=(0.9, 0.95),
    )
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(spec.seed)  # dropout, if the model has any
    record = _resume(out, record, model, optimizer)

    model.train()
    began, saved = time.monotonic() - record.seconds, time.monotonic()
    loss = math.nan
    while True:
        kept = None
        if record.step in keep and record.step not in {c.step for c in record.checkpoints}:
            kept = Checkpoint(
                name=f"step{record.step}", step=record.step, held_out_loss=task.held_out_loss(held_windows)
            )
            save_checkpoint(out / kept.name, model, tokenizer, spec.dtype)
            record.checkpoints.append(kept)
        record.seconds = time.monotonic() - began
        stop = cancelled()
        if kept or stop or time.monotonic() - saved > _SAVE_EVERY:
            _save_state(out, record, model, optimizer)
            saved = time.monotonic()
        on_progress(TrainingProgress(record.step, steps, loss, record.seconds, kept))
        if record.step == steps:
            break
        if stop:
            raise Cancelled
        for group in optimizer.param_groups:
            group["lr"] = schedule(spec, record.step, steps)
        batch = windows.batch(record.step, spec.batch, spec.seed)
        mean = task.losses(batch, record.step, spec.precision).mean()
        loss = mean.item()
        if not math.isfinite(loss):
            raise UserError(
                f"The training loss is no longer finite at step {record.step}; use a smaller learning rate."
            )
        optimizer.zero_grad(set_to_none=True)
        mean.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), spec.clip)
        optimizer.step()
        record.step += 1
        if record.step % max(1, steps // 256) == 0:
            record.train_loss.append((record.step, loss))
    (out / _STATE).unlink(missing_ok=True)
    model.eval()
    return record


_STATE = "state.pt"
_RECORD = "training.json"


def _replace(path: Path, data: bytes) -> None:
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def _save_state(out: Path, record: TrainingRecord, model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> None:
    """The state first, the record (what people read) after it: the state alone decides where a run resumes."""
    state: dict[str, Any] = {
        "record": record.model_dump_json(),
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": torch.get_rng_state(),
    }
    if model.device.type == "cuda":
        state["random_cuda"] = torch.cuda.get_rng_state(model.device)
    part = out / (_STATE + ".part")
    torch.save(state, part)
    os.replace(part, out / _STATE)
    _replace(out / _RECORD, record.model_dump_json(indent=1).encode())


def _resume(
    out: Path, fresh: TrainingRecord, model: PreTrainedModel, optimizer: torch.optim.Optimizer
) -> TrainingRecord:
    """Put the saved state back, if there is one, and return its record; else return `fresh`."""
    if not (out / _STATE).is_file():
        if (out / _RECORD).exists():
            raise UserError(f"The folder “{out}” already holds a finished training run; choose an empty one.")
        return fresh
    state = torch.load(out / _STATE, map_location=model.device, weights_only=True)
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


def save_checkpoint(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, dtype: str) -> None:
    """Write an ordinary Hugging Face folder (safetensors of `dtype`, config, tokenizer), whole or not at all."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    stored: dict[int, torch.Tensor] = {}  # by address: tied tensors must stay one tensor, to be written once
    weights = {
        name: stored.setdefault(tensor.data_ptr(), tensor.to(getattr(torch, dtype)))
        for name, tensor in model.state_dict().items()
    }
    model.save_pretrained(part, state_dict=weights)
    tokenizer.save_pretrained(part)
    config = json.loads((part / "config.json").read_text())
    config["dtype"] = dtype  # the library writes the dtype that the model trained in
    (part / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    for file in part.iterdir():
        file.chmod(0o644)  # the library leaves the weights readable by their owner only
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(part, folder)
