"""The facts about a model that need no weights: read from its config, kept in the provenance."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

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


class HeadShape(BaseModel):
    """The softmax heads of one layer: query heads, key/value heads, and how wide a head is; 0 where nothing says."""

    model_config = ConfigDict(frozen=True)

    n_heads: int = Field(ge=1)
    n_kv_heads: int = Field(ge=0)
    d_head: int = Field(ge=0)


class ModelInfo(BaseModel):
    """Shapes and identity of one opened model (all counts are plain integers).

    `revision` is what the spec's resolved to: a checkpoint's name, or on the hub the commit; None for a plain folder.
    `family` is the adapter's name (``gpt2``, ``gpt_neox``, ``llama`` …) or ``unsupported``. `storage_dtype` is what the
    checkpoint holds. `identity` is a hash of the config and of the safetensors headers: it changes when any name,
    shape, dtype or file size does, and costs no read of the weights. `notices` are sentences for the user. `step` and
    `held_out_loss` (nats a token) say how far a checkpoint was trained, None where nothing says. `lacks` are the facts
    that an analysis could need and the model does not have, and why; runs of older versions know of none.
    `base` names the model that an adapter was merged into; None for a model that is whole.

    `n_heads`, `n_kv_heads` and `d_head` are the largest of any layer. `head_shapes` has an entry for each layer where
    layers differ, None for one without softmax heads; it is empty where all have the same. `heads_at` reads either.
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
    base: str | None = None
    lacks: dict[Fact, str] = Field(default_factory=dict)
    head_shapes: tuple[HeadShape | None, ...] = ()

    @model_validator(mode="after")
    def _a_shape_for_each_layer(self) -> Self:
        if self.head_shapes and len(self.head_shapes) != self.n_layers:
            raise ValueError(f"{len(self.head_shapes)} layers have a shape, and there are {self.n_layers}")
        return self

    def heads_at(self, layer: int) -> HeadShape | None:
        """The softmax heads of a layer; None where it has none."""
        if self.head_shapes:
            return self.head_shapes[layer]
        if not self.n_heads:
            return None
        return HeadShape(n_heads=self.n_heads, n_kv_heads=self.n_kv_heads, d_head=self.d_head)

    def head_count(self, layer: int) -> int:
        """Query heads of a layer; 0 where it has no softmax heads."""
        shape = self.heads_at(layer)
        return shape.n_heads if shape else 0

    @property
    def headed_layers(self) -> tuple[int, ...]:
        """The layers that have softmax heads."""
        return tuple(layer for layer in range(self.n_layers) if self.head_count(layer))

    @property
    def total_heads(self) -> int:
        """Query heads of all layers together."""
        return sum(map(self.head_count, range(self.n_layers)))

    @property
    def head_widths(self) -> tuple[int, ...]:
        """The widths d_h that occur, each once, the first layer's first."""
        shapes = map(self.heads_at, range(self.n_layers))
        return tuple(dict.fromkeys(shape.d_head for shape in shapes if shape))


def summary(info: ModelInfo) -> str:
    """Describe the architecture, shape and size of a model in three lines."""
    heads = f"{info.n_heads} heads"
    if info.n_kv_heads != info.n_heads:
        heads += f" ({info.n_kv_heads} key/value)"
    headed = len(info.headed_layers)
    layers = f"{info.n_layers} layers" + ("" if headed in (0, info.n_layers) else f", {headed} of them")
    width = " and ".join(map(str, info.head_widths)) or "0"
    revision = f" at {info.revision[:12]}" if info.revision else ""
    return (
        f"{info.architecture}{revision}\n{layers} × {heads}, d = {info.d_model}, d_h = {width}\n"
        f"{info.n_parameters / 1e6:,.1f} M parameters, stored as {info.storage_dtype}"
    )
