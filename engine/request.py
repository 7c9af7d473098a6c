"""What a run is asked to do: the one input of every analysis, in the window, on the command line and on disk."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

DType = Literal["float32", "float64", "bfloat16", "float16"]
Device = Literal["auto", "cpu", "cuda"]


class Tuning(BaseModel):
    """How a model is fine-tuned on the request's text before it is measured (S1: 2 epochs, AdamW, linear warm-up)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: float = Field(2.0, title="Epochs", description="Passes over the training part of the text", gt=0)
    learning_rate: float = Field(5e-5, title="Learning rate", description="Peak, reached after the warm-up", gt=0)
    warmup: float = Field(0.1, title="Warm-up", description="Share of the steps, linear", ge=0, lt=1)
    batch: int = Field(16, title="Batch", description="Windows a step", ge=1)
    length: int = Field(128, title="Length", description="Tokens a window", ge=2)


SOURCES = "builtin, builtin-encoder, a folder, a GGUF file, or a hub id"


class ModelSpec(BaseModel):
    """Which weights to open.

    `source` is ``builtin``, ``builtin-encoder``, a folder, a GGUF file, or a Hugging Face hub id. An adapter (LoRA) is
    merged into its `base`, which is the model that its config names where it is None. A `twin` has the same config,
    freshly initialised by the library's own initialiser. With `tuning`, the weights are first fine-tuned on the text.
    Whatever is random about it (a twin's weights, the order of tuning, which samples it reads) is drawn from `seed`,
    which is the request's where it is None.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field("builtin", title="Model", description=SOURCES)
    revision: str | None = Field(None, title="Revision", description="Branch, tag, commit or checkpoint name")
    twin: bool = Field(False, title="Random twin", description="Same config, freshly initialised")
    dtype: DType = Field("float32", title="Dtype", description="What the forward pass runs in; spectra are fp32/fp64")
    tuning: Tuning | None = Field(None, title="Fine-tuned", description="Fine-tuned on the text before it is measured")
    base: str | None = Field(None, title="Base", description="What an adapter is merged into; if empty, what it names")
    seed: int | None = Field(None, title="Seed", description="Of this model; the run's own if empty", ge=0, lt=2**32)

    @property
    def condition(self) -> str:
        """What it is apart from its seed: models of one condition are averaged."""
        at = f"@{self.revision}" if self.revision else ""
        on = f" on {_short(self.base)}" if self.base else ""
        return (
            f"{_short(self.source)}{at}{on}{' (random twin)' if self.twin else ' (fine-tuned)' if self.tuning else ''}"
        )

    @property
    def label(self) -> str:
        """How plots, tables and the `model` coordinate name it."""
        return self.condition if self.seed is None else f"{self.condition}, seed {self.seed}"

    @model_validator(mode="after")
    def _twin_or_tuned(self) -> "ModelSpec":
        if self.twin and self.tuning:
            raise ValueError("a random twin is not fine-tuned; choose one of the two")
        return self


def _short(source: str) -> str:
    """A path's last part; a hub id, or a built-in name, as it is."""
    return source.rstrip("/").rsplit("/", 1)[-1] if source.startswith(("/", ".", "~")) else source


def conditions(
    pretrained: Sequence[ModelSpec],
    *,
    tuning: Tuning | None = None,
    twin: bool = False,
    seeds: int = 1,
    reads_text: bool = True,
) -> tuple[ModelSpec, ...]:
    """The models of a study: checkpoints as they are, the last one fine-tuned, and its twin, each with seeds 0, 1, ….

    With one seed it is the request's. An analysis that reads no text finds the same in a pre-trained model whatever
    the seed, so there it stands once.
    """
    last = pretrained[-1]
    drawn = [last.model_copy(update={"tuning": tuning})] if tuning else []
    drawn += [last.model_copy(update={"twin": True})] if twin else []
    if seeds == 1:
        return (*pretrained, *drawn)

    def seeded(specs: Sequence[ModelSpec]) -> list[ModelSpec]:
        return [spec.model_copy(update={"seed": seed}) for spec in specs for seed in range(seeds)]

    return (*(seeded(pretrained) if reads_text else pretrained), *seeded(drawn))


TEXT_SUFFIXES = (".txt", ".jsonl", ".parquet", ".csv", ".tsv", ".arrow", ".npy")
"""Of the files that a text can be; the last one holds token ids."""
DEFAULT_LENGTH = 128
"""Tokens a sample where nothing else is said, and no model reads fewer."""


class DataSpec(BaseModel):
    """Which text to use, and how much of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(
        "builtin",
        title="Text",
        description="builtin, a .txt, .jsonl, .parquet, .csv or .arrow file, the folder of a data set saved to disk, "
        "hub:NAME[:config][:split], or a .npy of token ids",
    )
    samples: int = Field(256, title="Number of samples", description="How many samples to draw", ge=1)
    length: int | None = Field(
        None,
        title="Length",
        description=f"Tokens a sample; {DEFAULT_LENGTH} if empty, or as many as the models can read",
        ge=1,
        json_schema_extra={"empty": "what the models read"},
    )

    @property
    def is_ids(self) -> bool:
        """Whether it names a ``.npy`` file of token ids, which needs no tokenizer and has rows of its own."""
        return self.source.lower().endswith(".npy")


class Request(BaseModel):
    """One analysis of one or several models.

    `params` holds the analysis's own parameters as JSON values, already validated by its ``Params`` model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    analysis: str
    params: dict[str, Any] = Field(default_factory=dict)
    models: tuple[ModelSpec, ...] = Field(min_length=1)
    data: DataSpec | None = None
    device: Device = "auto"
    seed: int = Field(0, ge=0, lt=2**32)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seed of each model: its own, or the request's."""
        return tuple(self.seed if spec.seed is None else spec.seed for spec in self.models)
