"""Train any causal or masked language model of the library, with checkpoints, resume and cancel.

The job is a pure function of (spec, model, documents): every batch and every mask is drawn from the seed and the step
number alone, so a run that was killed and resumed ends in the same weights, bit for bit, as one that was not
(on the same machine with the same number of threads).
"""

import math
import os
import platform
import time
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from engine.data.encoding import frame
from engine.data.splits import divide
from engine.errors import Cancelled, UserError
from engine.sessions.files import folder_at
from engine.sessions.rooted import Root
from engine.training.saving import STATE, resume, save_checkpoint, save_state
from engine.training.spec import Checkpoint, TrainingProgress, TrainingRecord, TrainingSpec, schedule
from engine.training.windows import Tokens, Windows, mask, unigram_entropy

_SAVE_EVERY = 60.0  # seconds between saved states: what a kill can cost
_EVALUATION = 2**32 - 1  # the "step" whose masks the held-out loss uses: the same at every checkpoint


class _Task:
    """Windows to loss, for either objective."""

    def __init__(self, spec: TrainingSpec, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None) -> None:
        self.spec, self.model, self.tokenizer = spec, model, tokenizer

    def losses(self, windows: Tokens, step: int, precision: str = "float32") -> torch.Tensor:
        """Loss of every predicted token of `windows` (n, T), in nats, as one vector."""
        inputs, labels = windows, windows
        if self.spec.objective == "masked":
            assert self.tokenizer is not None  # `train` has seen to it
            inputs, labels = mask(windows, self.tokenizer, self.spec.mask_rate, self.spec.seed, step)
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


def held_out_loss(
    spec: TrainingSpec,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[Tokens],
) -> float:
    """Loss (nats a token) of `model` on the documents that `spec` holds out."""
    held = np.concatenate([documents[i] for i in divide(len(documents), spec.held_out, spec.seed)[1]])
    windows = Windows(held, spec.length, frame(tokenizer)).all()
    return _Task(spec, model, tokenizer).held_out_loss(windows)


def _stream(documents: Sequence[Tokens]) -> Tokens:
    """Documents end to end, without pads."""
    ids = np.concatenate([np.asarray(document, dtype=np.int64) for document in documents])
    return ids[ids >= 0]


def train(
    spec: TrainingSpec,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    documents: Sequence[Tokens],
    out: Path,
    on_progress: Callable[[TrainingProgress], None] = lambda progress: None,
    cancelled: Callable[[], bool] = lambda: False,
    *,
    held: Sequence[Tokens] | None = None,
    root: Root | None = None,
) -> TrainingRecord:
    """Train `model` in place on its own device and keep checkpoints as ordinary Hugging Face folders.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase, optional
        A causal model can do without: its windows have no special tokens then.
    documents : sequence of (n_i,) int64 arrays
        Token ids of each document, with the separator that the model should see; −1 pads are dropped.
    out : Path
        Gets ``step<N>/`` for step 0, `spec.checkpoints` and the last step, and ``training.json``. A folder that holds
        an unfinished run of the same spec and text is resumed; one that holds another run is refused.
    held : sequence of (n_i,) int64 arrays, optional
        The documents to hold out, none of which is in `documents`; by default the spec's share of `documents`.
    root : Root, optional
        The session in which `out` lies: no link inside it is followed, and it is not made again if it is gone.

    Raises
    ------
    Cancelled
        After saving the state, so that the same call resumes.
    UserError
        Too little text, another run's folder, or a loss that is no longer finite.
    """
    if held is None:
        learnt, unseen = divide(len(documents), spec.held_out, spec.seed)
        documents, held = [documents[i] for i in learnt], [documents[i] for i in unseen]
    if spec.objective == "masked" and (tokenizer is None or tokenizer.mask_token_id is None):
        raise UserError("No tokenizer of this model has a mask token, so it cannot be trained as a masked model.")
    ends = frame(tokenizer) if tokenizer is not None else ([], [])
    text, unseen_text = (_stream(part) for part in (documents, held))
    windows, held_windows = Windows(text, spec.length, ends), Windows(unseen_text, spec.length, ends, least=1).all()
    steps = spec.steps
    if steps is None:
        steps = math.ceil((spec.epochs or 0.0) * windows.count / spec.batch)
    if max(spec.checkpoints, default=0) > steps:
        raise UserError(f"Checkpoint {max(spec.checkpoints)} lies beyond the last step, {steps}.")
    keep = {0, steps, *spec.checkpoints}

    record = TrainingRecord(
        spec=spec,
        text_hash=blake2b(np.concatenate([text, [-1], unseen_text]).tobytes(), digest_size=16).hexdigest(),
        train_tokens=len(text),
        held_out_tokens=len(unseen_text),
        unigram_entropy=unigram_entropy(unseen_text),
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
    torch.manual_seed(spec.seed)  # dropout, if the model has any
    record = resume(out, record, model, optimizer, root)

    model.train()
    began, saved = time.monotonic() - record.seconds, time.monotonic()
    loss = math.nan
    while True:
        kept = None
        if record.step in keep and record.step not in {c.step for c in record.checkpoints}:
            name = f"step{record.step}" if record.step or spec.keep_start else ""
            kept = Checkpoint(name=name, step=record.step, held_out_loss=task.held_out_loss(held_windows))
            if name:
                save_checkpoint(out / name, model, tokenizer, spec.dtype, root)
            record.checkpoints.append(kept)
        record.seconds = time.monotonic() - began
        stop = cancelled()
        if kept or stop or time.monotonic() - saved > _SAVE_EVERY:
            save_state(out, record, model, optimizer, root)
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
    with folder_at(out, root) as place:
        place.remove(STATE)
    model.eval()
    return record
