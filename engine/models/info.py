"""The facts about a model that need no weights: read from its config, kept in the provenance."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Fact = Literal["heads", "text", "blocks", "stream", "attention", "loss"]
FACTS: dict[Fact, str] = {
    "heads": "the matrices of its heads are known: its architecture has an adapter",
    "text": "it reads token ids and nothing else",
    "blocks": "its blocks pass one residual stream from each to the next",
    "stream": "its blocks read nothing of each other but the residual stream",
    "attention": "its layers show their softmax weights",
    "loss": "its head gives a number for each entry of the vocabulary; in front of a model that reads in both "
    "directions, the tokenizer has a mask token too",
}
"""What an analysis can need of a model."""


class ModelInfo(BaseModel):
    """Shapes and identity of one opened model (all counts are plain integers).

    `revision` is what the spec's resolved to: a checkpoint's name, or on the hub the commit; None for a plain folder.
    `family` is the adapter's name (``gpt2``, ``gpt_neox``, ``llama`` …) or ``unsupported``. `storage_dtype` is what the
    checkpoint holds. `identity` is a hash of the config and of the safetensors headers: it changes when any name,
    shape, dtype or file size does, and costs no read of the weights. `notices` are sentences for the user. `step` and
    `held_out_loss` (nats a token) say how far a checkpoint was trained, None where nothing says. `lacks` are the facts
    that an analysis could need and the model does not have, and why; runs of older versions know of none.
    """

    model_config = ConfigDict(frozen=True)

    label: str
    source: str
    revision: str | None
    twin: bool
    architecture: str
    family: str
    causal: bool
    n_layers: int
    d_model: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    vocab_size: int
    context: int
    n_parameters: int
    storage_dtype: str
    norm: Literal["layernorm", "rmsnorm", "none"]
    rotary: bool
    qk_norm: bool
    identity: str
    load_bytes: int
    notices: tuple[str, ...] = ()
    step: int | None = None
    held_out_loss: float | None = None
    lacks: dict[Fact, str] = Field(default_factory=dict)


def summary(info: ModelInfo) -> str:
    """Describe the architecture, shape and size of a model in three lines."""
    heads = f"{info.n_heads} heads"
    if info.n_kv_heads != info.n_heads:
        heads += f" ({info.n_kv_heads} key/value)"
    revision = f" at {info.revision[:12]}" if info.revision else ""
    return (
        f"{info.architecture}{revision}\n{info.n_layers} layers × {heads}, d = {info.d_model}, d_h = {info.d_head}\n"
        f"{info.n_parameters / 1e6:,.1f} M parameters, stored as {info.storage_dtype}"
    )
