"""How an architecture's config and tensors become a `Block`: the defaults that every family starts from."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from transformers.activations import ACT2FN

from engine.errors import UserError
from engine.models.adapters.block import (
    AttentionRule,
    Block,
    Borrowed,
    HeadNorm,
    Heads,
    Mlp,
    Norm,
    NormKind,
    Parts,
    Rotary,
)
from engine.models.adapters.split import halve_pairs, split_linears
from engine.models.info import HeadShape

# Roles of the tensors that the matrices of the heads are made of.
HEAD_ROLES = frozenset({"q", "k", "v", "o", "qkv", "attn_norm", "attn_norm_bias", "kv_norm", "kv_norm_bias"})
# Those that an earlier layer has in place of one that reads its keys and values.
BORROWED_ROLES = frozenset({"k", "v", "k_bias", "v_bias", "k_norm"})


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
    layer_path : str
        Path of a block, with ``{layer}``; `linears` and `norm_paths` are under it.
    linears : mapping
        Paths of the linears q, k, v, o of attention and in, out of the MLP, and of its gate where it has one. A fused
        ``qkv`` stands for the first three where `heads` takes it apart, as ``gate_up`` does for gate and in.
    mlp_path : str or None
        Path of an MLP that is not made of linears (experts).
    norm : ``layernorm`` or ``rmsnorm``
    norm_paths : mapping
        Paths of the norms by their place, as `Block` names it, and of ``q_norm`` and ``k_norm``.
    qk_norm : ``head``, ``all`` or None
        What the norms on queries and keys normalise at a time (see `HeadNorm`).
    final_norm : str or None
        Path of the norm after the last block, beside the row of blocks; a config may leave it out (OPT).
    rotary_class : str or None
        The library's rotary embedding, as a path under ``transformers.models``.
    closed_form : bool
        Whether a `Block` describes the blocks of any config of the family; `closed_form_refusal` says which.
    one_stream : bool
        Whether blocks pass one residual stream from each to the next.
    interleaved : bool
        Whether the library rotates neighbours (2i, 2i + 1): `block` then reorders the rows of W_Q and W_K alike, to the
        pairs that `Rotary` has.
    """

    family: ClassVar[str]
    prefixes: ClassVar[tuple[str, ...]]
    renames: ClassVar[tuple[tuple[str, str], ...]] = ()
    layer_path: ClassVar[str] = "layers.{layer}"
    linears: ClassVar[Mapping[str, str]]
    mlp_path: ClassVar[str | None] = None
    norm: ClassVar[NormKind]
    norm_paths: ClassVar[Mapping[str, str]]
    qk_norm: ClassVar[Literal["head", "all"] | None] = None
    final_norm: ClassVar[str | None] = None
    rotary_class: ClassVar[str | None] = None
    closed_form: ClassVar[bool] = True
    one_stream: ClassVar[bool] = True
    interleaved: ClassVar[bool] = False

    def facts(self, config: Any) -> dict[str, Any]:
        """Read the fields of `ModelInfo` that the config alone decides.

        Raises
        ------
        UserError
            If the config describes something that the names and shapes here cannot represent.
        """
        config = config.get_text_config()
        shapes = [
            self.head_shape(config, layer) if self.attends(config, layer) else None
            for layer in range(config.num_hidden_layers)
        ]
        headed = [shape for shape in shapes if shape]
        headless = (
            f"{len(headed)} of its {len(shapes)} layers have softmax heads; analyses of heads see these alone.",
        ) * (len(headed) < len(shapes))
        return {
            "family": self.family,
            "causal": self.causal(config),
            "n_layers": config.num_hidden_layers,
            "d_model": config.hidden_size,
            "n_heads": max((shape.n_heads for shape in headed), default=0),
            "n_kv_heads": max((shape.n_kv_heads for shape in headed), default=0),
            "d_head": max((shape.d_head for shape in headed), default=0),
            "head_shapes": tuple(shapes) if len(set(shapes)) > 1 else (),
            "vocab_size": getattr(config, "vocab_size", 0),
            "context": self.context(config),
            "norm": self.norm,
            "rotary": self.rotates(config),
            "qk_norm": "q_norm" in self.norms(config),
            "notices": (*self.notices(config), *headless),
        }

    def closed_form_refusal(self, config: Any) -> str | None:
        """Say why a `Block` does not describe all that this model's blocks compute; None where it does."""
        config = config.get_text_config()
        name = self.activation(config)
        if name not in ACT2FN or any(True for _ in ACT2FN[name].parameters()):
            return f"Its activation, {name}, is not a fixed function of one number."
        ropes = getattr(config, "rope_parameters", None) or {}
        if "longrope" in (
            ropes.get("rope_type"),
            *(rope["rope_type"] for rope in ropes.values() if isinstance(rope, dict)),
        ):
            return "Its rotary angles depend on the length of the text."
        return None

    def tensor_names(self, config: Any, layer: int, parts: Parts = "heads") -> tuple[str, ...]:
        """Names of the tensors that `block` needs, as the base model's ``state_dict`` spells them (no prefix)."""
        # One norm may stand at two places.
        return tuple(dict.fromkeys(self.roles(config.get_text_config(), layer, parts).values()))

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
        located = {}
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
            located[name] = match
        return located

    def block(self, config: Any, layer: int, get: Callable[[str], Tensor], parts: Parts = "heads") -> Block:
        """Build block `layer` from its tensors; `get` maps each of `tensor_names` to its tensor.

        Raises
        ------
        UserError
            If a tensor's shape is not the one that the config implies, the layer has no softmax heads, or a whole block
            is asked for and a `Block` cannot describe it (`closed_form_refusal`).
        """
        if parts == "all" and (refusal := self.closed_form_refusal(config)):
            raise UserError(f"{refusal} So there is no closed form of its blocks; use the reference path.")
        config = config.get_text_config()
        if not self.attends(config, layer):
            raise UserError(f"Layer {layer} has no softmax heads; choose a layer that has some.")
        tensors = {role: get(name) for role, name in self.roles(config, layer, parts).items()}
        places, source = self.norms(config), self.kv_source(config, layer)
        heads, rotary = self.heads(config, layer, tensors), self.rotary(config, layer)
        if self.interleaved and rotary is not None:
            heads = halve_pairs(heads, 2 * len(rotary.inv_freq))

        def norm(place: str) -> Norm | None:
            return self.norm_at(config, place, tensors) if place in places else None

        block = Block(
            layer=layer,
            heads=heads,
            attn_norm=norm("attn_norm"),
            rotary=rotary,
            qk_norm="q_norm" in places,
            softcap=self.softcap(config),
            borrowed=None if source == layer else Borrowed(source, self.norm_at(config, "kv_norm", tensors)),
        )
        if parts == "heads":
            return block
        return replace(
            block,
            attention=self.attention(config, layer, tensors),
            mlp=self.mlp(config, tensors),
            attn_post=norm("attn_post"),
            attn_sum=norm("attn_sum"),
            mlp_norm=norm("mlp_norm"),
            mlp_post=norm("mlp_post"),
            mlp_sum=norm("mlp_sum"),
            parallel=self.parallel(config),
            residual_scale=float(tensors["scale"]) if "scale" in tensors else 1.0,
            sublayer_scale=self.sublayer_scale(config),
        )

    def mend(self, module: nn.Module) -> None:
        """Put right, in the library's module, what its eager attention does otherwise than the trained model."""

    def head_shape(self, config: Any, layer: int) -> HeadShape:
        """The shape of one layer's heads.

        Raises
        ------
        UserError
            If the query heads do not divide into the key/value heads.
        """
        n_heads, n_kv_heads, d_head = self.shape(config, layer)
        if n_heads % n_kv_heads:
            raise UserError(
                f"The config names {n_heads} query heads and {n_kv_heads} key/value heads, and one is not a multiple "
                "of the other; check config.json."
            )
        return HeadShape(n_heads=n_heads, n_kv_heads=n_kv_heads, d_head=d_head)

    def roles(self, config: Any, layer: int, parts: Parts) -> dict[str, str]:
        """Tensor names by role, those of `parts` only."""
        names = self.names(config, layer)
        return names if parts == "all" else {role: name for role, name in names.items() if role in HEAD_ROLES}

    # What families override. `config` is the text config from here on.

    def causal(self, config: Any) -> bool:
        """Whether a token attends to earlier tokens only."""
        return True

    def attends(self, config: Any, layer: int) -> bool:
        """Whether a layer has softmax heads; `shape` and all that follows is asked of such layers only."""
        return True

    def kv_source(self, config: Any, layer: int) -> int:
        """The layer whose keys and values this one reads: its own, or those that an earlier one has made."""
        return layer

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

    def biased(self, config: Any) -> Collection[str]:
        """Which of the linears have a bias."""
        return self.linears

    def norms(self, config: Any) -> Mapping[str, str]:
        """Paths of the norms by place."""
        return self.norm_paths

    def learned(self, config: Any) -> bool:
        """Whether the norms have a gain (and, for LayerNorm, a bias)."""
        return True

    def norm_biased(self, config: Any) -> bool:
        """Whether the norms have a bias."""
        return self.norm == "layernorm"

    def parallel(self, config: Any) -> bool:
        """Whether attention and MLP read the same residual stream."""
        return False

    def sublayer_scale(self, config: Any) -> float:
        """What each sublayer's output is multiplied by before the sum."""
        return 1.0

    def activation(self, config: Any) -> str:
        """The MLP's activation, as ``ACT2FN`` names it."""
        return config.hidden_act

    def scale(self, config: Any, layer: int) -> float:
        """What multiplies q·k."""
        return self.shape(config, layer)[2] ** -0.5

    def window(self, config: Any, layer: int) -> int | None:
        """How far a query of this layer sees (see `AttentionRule.window`)."""
        return None

    def names(self, config: Any, layer: int) -> dict[str, str]:
        """Tensor names by role: each linear and norm under its own name, its bias under that and ``_bias``."""
        biased, names = self.biased(config), {}
        for role, path in self.linears.items():
            names[role] = f"{path}.weight"
            if role in biased:
                names[f"{role}_bias"] = f"{path}.bias"
        for place, path in self.norms(config).items() if self.learned(config) else ():
            names[place] = f"{path}.weight"
            if self.norm_biased(config):
                names[f"{place}_bias"] = f"{path}.bias"
        source = self.kv_source(config, layer)
        paths = {role: (source if role in BORROWED_ROLES else layer, name) for role, name in names.items()}
        if source != layer:
            paths |= {f"kv{role[4:]}": (source, name) for role, name in names.items() if role.startswith("attn_norm")}
        return {role: f"{self.layer_path.format(layer=at)}.{name}" for role, (at, name) in paths.items()}

    def heads(self, config: Any, layer: int, tensors: Mapping[str, Tensor]) -> Heads:
        """Split the projections into heads."""
        return split_linears(tensors, *self.shape(config, layer), config.hidden_size)

    def mlp(self, config: Any, tensors: Mapping[str, Tensor]) -> Mlp:
        """The MLP, gated where there is a gate."""
        return Mlp(
            w_in=tensors["in"],
            b_in=tensors.get("in_bias"),
            w_gate=tensors.get("gate"),
            b_gate=tensors.get("gate_bias"),
            w_out=tensors["out"],
            b_out=tensors.get("out_bias"),
            activation=self.activation(config),
        )

    def attention(self, config: Any, layer: int, tensors: Mapping[str, Tensor]) -> AttentionRule:
        """How scores become outputs."""
        return AttentionRule(
            scale=self.scale(config, layer),
            softcap=self.softcap(config),
            q_norm=self.head_norm(config, "q_norm", tensors),
            k_norm=self.head_norm(config, "k_norm", tensors),
            v_norm=None,
            window=self.window(config, layer),
            causal=self.causal(config),
            slopes=self.slopes(config),
        )

    def head_norm(self, config: Any, role: str, tensors: Mapping[str, Tensor]) -> HeadNorm | None:
        """The norm on queries or keys."""
        if role not in tensors:
            return None
        assert self.qk_norm is not None
        return HeadNorm("rmsnorm", self.gain(tensors[role]), self.eps(config), self.qk_norm)

    def slopes(self, config: Any) -> Tensor | None:
        """ALiBi's slopes (see `AttentionRule.slopes`)."""
        return None

    def norm_at(self, config: Any, place: str, tensors: Mapping[str, Tensor]) -> Norm:
        """The norm that stands at one place."""
        gain = tensors.get(place)
        return Norm(
            self.norm, None if gain is None else self.gain(gain), tensors.get(f"{place}_bias"), self.eps(config)
        )

    def gain(self, weight: Tensor) -> Tensor:
        """What a norm multiplies by, given the weight that it stores."""
        return weight

    def eps(self, config: Any) -> float:
        """The ε of the norms."""
        return config.layer_norm_eps if self.norm == "layernorm" else config.rms_norm_eps

    def rotates(self, config: Any) -> bool:
        """Whether positions are rotary."""
        return self.rotary_class is not None

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
