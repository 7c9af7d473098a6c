"""What a run is asked to do: the one input of every analysis, in the window, on the command line and on disk."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

DType = Literal["float32", "float64", "bfloat16", "float16"]
Device = Literal["auto", "cpu", "cuda"]


class ModelSpec(BaseModel):
    """Which weights to open.

    `source` is ``builtin``, ``builtin-encoder``, a folder, or a Hugging Face hub id. A `twin` has the same config,
    freshly initialised by the library's own initialiser from the request's seed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field("builtin", title="Model", description="builtin, builtin-encoder, a folder, or a hub id")
    revision: str | None = Field(None, title="Revision", description="Branch, tag, commit or checkpoint name")
    twin: bool = Field(False, title="Random twin", description="Same config, freshly initialised")
    dtype: DType = Field("float32", title="Dtype", description="What the forward pass runs in; spectra are fp32/fp64")

    @property
    def label(self) -> str:
        """How plots, tables and the `model` coordinate name it."""
        name = self.source.rstrip("/").rsplit("/", 1)[-1] if self.source.startswith(("/", ".", "~")) else self.source
        at = f"@{self.revision}" if self.revision else ""
        return f"{name}{at}{' (random twin)' if self.twin else ''}"


class DataSpec(BaseModel):
    """Which text to use, and how much of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(
        "builtin",
        title="Text",
        description="builtin, a .txt/.jsonl/.parquet file, hub:NAME[:config][:split], or a .npy of token ids",
    )
    samples: int = Field(256, title="Samples", description="How many samples to draw", ge=1)
    length: int = Field(128, title="Length", description="Tokens a sample", ge=1)


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
