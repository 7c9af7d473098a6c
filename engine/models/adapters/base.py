"""How an architecture's config and tensors become a `Block`: the defaults that every family starts from."""

from collections.abc import Callable, Collection, Iterable, Mapping
from importlib import import_module
from typing import Any, ClassVar

from torch import Tensor

from engine.errors import UserError
from engine.models.adapters.block import Block, Facts, Heads, Norm, NormKind, Rotary


class Adapter:
    """One architecture family. The defaults describe a block with four separate linears; families override the rest.

    Methods take the checkpoint's own config; for a multimodal one they read its text part.

    Attributes
    ----------
    family : str
    prefixes : tuple of str
        What may stand before the base model's tensor names in a checkpoint, the library's own spelling first. Names
        without any prefix are always tried last (`gpt2` on the hub has none).
    renames : tuple of (str, str)
        Fragments of the library's names and their spelling in older checkpoints.
    attention : str
        Path of a block's attention, with ``{layer}``; `projections` are the q, k, v, o linears under it.
    norm_path : str or None
        Path of the norm before attention, with ``{layer}``; None for post-norm blocks.
    rotary_class : str or None
        The library's rotary embedding, as a path under ``transformers.models``.
    """

    family: ClassVar[str]
    prefixes: ClassVar[tuple[str, ...]]
    renames: ClassVar[tuple[tuple[str, str], ...]] = ()
    attention: ClassVar[str] = "layers.{layer}.self_attn"
    projections: ClassVar[tuple[str, str, str, str]] = ("q_proj", "k_proj", "v_proj", "o_proj")
    norm: ClassVar[NormKind]
    norm_path: ClassVar[str | None] = "layers.{layer}.input_layernorm"
    rotary_class: ClassVar[str | None] = None
    qk_norm: ClassVar[bool] = False

    def facts(self, config: Any) -> Facts:
        """Read the shapes and traits that need no weights.

        Raises
        ------
        UserError
            If the config describes something that the names and shapes here cannot represent.
        """
        config = config.get_text_config()
        shapes = sorted({self.shape(config, layer) for layer in range(config.num_hidden_layers)})
        if len(shapes) > 1:
            listed = " and ".join(f"{h} heads of width {d_head} with {kv} key/value heads" for h, kv, d_head in shapes)
            raise UserError(
                f"The layers of this model differ in the shape of their heads ({listed}); spectra and their nulls "
                "assume one shape for all layers. Choose another model."
            )
        n_heads, n_kv_heads, d_head = shapes[0]
        if n_heads % n_kv_heads:
            raise UserError(
                f"The config names {n_heads} query heads and {n_kv_heads} key/value heads, and one is not a multiple "
                "of the other; check config.json."
            )
        return Facts(
            family=self.family,
            causal=self.causal(config),
            n_layers=config.num_hidden_layers,
            d_model=config.hidden_size,
            n_heads=n_heads,
            n_kv_heads=n_kv_heads,
            d_head=d_head,
            vocab_size=getattr(config, "vocab_size", 0),
            context=self.context(config),
            norm=self.norm,
            rotary=self.rotary_class is not None,
            qk_norm=self.qk_norm,
            notices=self.notices(config),
        )

    def tensor_names(self, config: Any, layer: int) -> tuple[str, ...]:
        """Names of the tensors that `block` needs, as the base model's ``state_dict`` spells them (no prefix)."""
        return tuple(self.names(config.get_text_config(), layer).values())

    def locate(self, names: Iterable[str], available: Collection[str]) -> dict[str, str]:
        """Find each of `names` (as `tensor_names` gives them) among a checkpoint's tensor names.

        Returns
        -------
        dict
            From the given name to the checkpoint's.

        Raises
        ------
        UserError
            If one is not there under any known prefix or older spelling.
        """
        found = {}
        for name in names:
            older = name
            for new, old in self.renames:
                older = older.replace(new, old)
            spellings = [prefix + spelling for prefix in (*self.prefixes, "") for spelling in (name, older)]
            match = next((spelling for spelling in spellings if spelling in available), None)
            if match is None:
                raise UserError(
                    f"The checkpoint has no tensor {self.prefixes[0]}{name}; it is incomplete or not a {self.family} "
                    "model. Download it again, or choose another."
                )
            found[name] = match
        return found

    def block(self, config: Any, layer: int, get: Callable[[str], Tensor]) -> Block:
        """Build block `layer` from its tensors; `get` maps each of `tensor_names` to its tensor.

        Raises
        ------
        UserError
            If a tensor's shape is not the one that the config implies.
        """
        config = config.get_text_config()
        tensors = {role: get(name) for role, name in self.names(config, layer).items()}
        return Block(
            layer=layer,
            heads=self.heads(config, layer, tensors),
            attn_norm=self.attn_norm(config, tensors),
            rotary=self.rotary(config, layer),
            qk_norm=self.qk_norm,
            softcap=self.softcap(config),
        )

    # What families override. `config` is the text config from here on.

    def causal(self, config: Any) -> bool:
        """Whether a token attends to earlier tokens only."""
        return True

    def shape(self, config: Any, layer: int) -> tuple[int, int, int]:
        """(H, H_kv, d_h) of one layer."""
        if getattr(config, "is_heterogeneous", False):
            config = config.per_layer_config[layer]
        n_heads = config.num_attention_heads
        return n_heads, getattr(config, "num_key_value_heads", None) or n_heads, self.d_head(config)

    def d_head(self, config: Any) -> int:
        """Head width d_h."""
        return config.hidden_size // config.num_attention_heads

    def context(self, config: Any) -> int:
        """How many positions the model was made for."""
        return config.max_position_embeddings

    def notices(self, config: Any) -> tuple[str, ...]:
        """Sentences about what the matrices alone do not show."""
        return ()

    def softcap(self, config: Any) -> float | None:
        """The bound c of a soft-cap c·tanh(score/c), if there is one."""
        return None

    def names(self, config: Any, layer: int) -> dict[str, str]:
        """Tensor names by role: the projections q, k, v, o (or one fused) and, where there are, gain and bias."""
        attention = self.attention.format(layer=layer)
        names = {role: f"{attention}.{path}.weight" for role, path in zip("qkvo", self.projections, strict=True)}
        if self.norm_path is not None:
            norm = self.norm_path.format(layer=layer)
            names["gain"] = f"{norm}.weight"
            if self.norm == "layernorm":
                names["bias"] = f"{norm}.bias"
        return names

    def heads(self, config: Any, layer: int, tensors: Mapping[str, Tensor]) -> Heads:
        """Split the projections into heads."""
        return split_linears(tensors, *self.shape(config, layer), config.hidden_size)

    def attn_norm(self, config: Any, tensors: Mapping[str, Tensor]) -> Norm | None:
        """The norm before attention."""
        if self.norm_path is None:
            return None
        return Norm(self.norm, tensors.get("gain"), tensors.get("bias"), self.eps(config))

    def eps(self, config: Any) -> float:
        """The ε of that norm."""
        return config.layer_norm_eps if self.norm == "layernorm" else config.rms_norm_eps

    def rotary(self, config: Any, layer: int) -> Rotary | None:
        """The rotary table of one block, from the library's own embedding."""
        if self.rotary_class is None:
            return None
        module, name = self.rotary_class.rsplit(".", 1)
        embedding = getattr(import_module(f"transformers.models.{module}"), name)(config)
        # Families whose layers differ keep one table for each layer type.
        part = "" if hasattr(embedding, "inv_freq") else f"{config.layer_types[layer]}_"
        return Rotary(
            inv_freq=getattr(embedding, f"{part}inv_freq").double(),
            d_head=self.shape(config, layer)[2],
            attention_scaling=getattr(embedding, f"{part}attention_scaling"),
        )


def split_linears(tensors: Mapping[str, Tensor], n_heads: int, n_kv_heads: int, d_head: int, d: int) -> Heads:
    """Split ``nn.Linear`` weights q, k, v (heads·d_h, d) and o (d, H·d_h), all stored as W of y = W x, into heads."""
    expected = {
        "q": (n_heads * d_head, d),
        "k": (n_kv_heads * d_head, d),
        "v": (n_kv_heads * d_head, d),
        "o": (d, n_heads * d_head),
    }
    for role, shape in expected.items():
        check_shape(role, tensors[role], shape)
    return Heads(
        w_q=tensors["q"].reshape(n_heads, d_head, d),
        w_k=tensors["k"].reshape(n_kv_heads, d_head, d),
        w_v=tensors["v"].reshape(n_kv_heads, d_head, d),
        w_o=tensors["o"].reshape(d, n_heads, d_head).transpose(0, 1),
    )


def check_shape(role: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    """Refuse a tensor whose shape is not the config's: a reshape would scramble its heads without a sound."""
    if tuple(tensor.shape) != shape:
        raise UserError(
            f"The checkpoint's {role} projection has shape {tuple(tensor.shape)}, but its config implies {shape}; "
            "config.json and the weights do not belong together."
        )
