"""What a training run is asked to do, and what it has done so far."""

import math
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from engine.models.info import ModelInfo
from engine.request import Tuning


def tuning_bytes(tuning: Tuning, info: ModelInfo) -> int:
    """Memory that fine-tuning takes at its peak.

    Weights, gradients and AdamW's two moments in float32; then what a step keeps: activations of each block, logits.
    """
    kept = info.n_layers * (20 * info.d_model + 3 * info.n_heads * tuning.length) + 4 * info.vocab_size
    return 16 * info.n_parameters + 4 * tuning.batch * tuning.length * kept


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
    keep_start: bool = Field(True, title="Keep the start", description="Save the model as it was before, as step 0")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", title="Dtype", description="Of checkpoints")
    seed: int = Field(0, title="Seed", ge=0, lt=2**32)

    @model_validator(mode="after")
    def _one_length(self) -> "TrainingSpec":
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs")
        return self


class Checkpoint(BaseModel):
    """One checkpoint: its folder's name (empty if it was only measured), its loss (nats a token) on held-out text."""

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


def schedule(spec: TrainingSpec, step: int, steps: int) -> float:
    """Learning rate of `step` (from 0): linear warm-up, then the chosen decay to zero at `steps`."""
    if step < spec.warmup:
        return spec.learning_rate * (step + 1) / spec.warmup
    through = (step - spec.warmup) / max(1, steps - spec.warmup)
    shape = {"cosine": 0.5 * (1 + math.cos(math.pi * through)), "linear": 1 - through, "constant": 1.0}
    return spec.learning_rate * shape[spec.decay]
