"""Open a model: every check first, then its weights as they are asked for."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import huggingface_hub as hub
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from engine.errors import UserError
from engine.models import source
from engine.models.adapters import Adapter, Block, adapter_for
from engine.models.checkpoint import DTYPES, Stored, digest, identity, read_headers, read_tensor
from engine.models.config import Architecture, quiet, read_config
from engine.models.info import ModelInfo
from engine.models.loading import load_module
from engine.models.memory import gigabytes, require
from engine.models.names import Match, match
from engine.models.tokenizer import check_vocabulary, load_tokenizer
from engine.models.twin import fresh_module, fresh_tensor
from engine.request import ModelSpec


@dataclass(frozen=True)
class Checked:
    """A model that passed every check that needs no weights."""

    info: ModelInfo
    folder: Path
    architecture: Architecture
    skeleton: PreTrainedModel
    adapter: Adapter | None
    tensors: Mapping[str, Stored]
    tokenizer: PreTrainedTokenizerBase | UserError


def describe(spec: ModelSpec) -> ModelInfo:
    """Check a model and state the facts about it; from the hub, only configs, tokenizer and headers are fetched.

    Raises
    ------
    UserError
        If the model cannot be opened safely; the sentence says why and what to do.
    """
    return check(spec, weights=False).info


def open_model(spec: ModelSpec, *, seed: int = 0, device: str = "cpu") -> "OpenModel":
    """Open a model after every check; no weights are read yet (from the hub, they are downloaded).

    Parameters
    ----------
    spec : ModelSpec
    seed : int
        What a random twin is drawn from.
    device : str
        ``cpu`` or ``cuda``: where blocks and the module are put.

    Raises
    ------
    UserError
        If the model cannot be opened safely; the sentence says why and what to do.
    """
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise UserError("There is no usable CUDA GPU here. Choose the device cpu, or run `main.py doctor`.")
    return OpenModel(check(spec, weights=not spec.twin), spec, seed, device)


class OpenModel:
    """A model whose weights are read, or drawn for a twin, when they are asked for.

    Attributes
    ----------
    info : ModelInfo
    adapter : Adapter or None
        None for an architecture without one (`info.family` is ``unsupported``).
    config : the library's config
    """

    def __init__(self, checked: Checked, spec: ModelSpec, seed: int, device: str) -> None:
        self.info = checked.info
        self.adapter = checked.adapter
        self.config = checked.architecture.config
        self._checked = checked
        self._spec = spec
        self._seed = seed
        self._device = device
        drawn = dict(checked.skeleton.named_parameters(remove_duplicate=False))
        self._names = frozenset(drawn if spec.twin else checked.tensors)
        self._module: nn.Module | None = None
        self._hashes: dict[int, str] = {}

    def tensor(self, name: str) -> Tensor:
        """Read one tensor by the library's name for it, in its storage dtype, on the device; checked to be finite."""
        return self._get(name).to(self._device)

    def block(self, layer: int) -> Block:
        """Read the tensors of one block's heads and norm, and no others.

        Raises
        ------
        UserError
            If the architecture has no adapter, or a tensor cannot be read or is not finite.
        """
        adapter = self._adapter_or_refuse()
        spelled = adapter.locate(adapter.tensor_names(self.config, layer), self._names)
        digests: dict[str, bytes] = {}

        def get(name: str) -> Tensor:
            tensor = self._get(spelled[name])
            digests[name] = digest(tensor)
            return tensor.to(self._device)

        block = adapter.block(self.config, layer, get)
        hasher = blake2b(digest_size=16)
        for name in sorted(digests):
            hasher.update(name.encode() + digests[name])
        self._hashes[layer] = hasher.hexdigest()
        return block

    def layer_hash(self, layer: int) -> str:
        """BLAKE2b over names, dtypes, shapes and bytes of the tensors that `block` reads."""
        if layer not in self._hashes:
            self.block(layer)
        return self._hashes[layer]

    def module(self) -> nn.Module:
        """Load the whole model, once, in the spec's dtype, with eager attention, in evaluation mode.

        Raises
        ------
        UserError
            If it does not fit into memory or any check of what the library loaded fails.
        """
        if self._module is None:
            dtype = getattr(torch, self._spec.dtype)
            for device in {"cpu", self._device}:  # the library loads by way of the CPU
                require(self.info.load_bytes, device, self.info.label)
            if self._spec.twin:
                fresh: nn.Module = fresh_module(self._checked.architecture.skeleton(), self._seed)
                self._module = fresh.to(dtype=dtype, device=self._device)
            else:
                self._module = load_module(
                    self._checked.folder, self._checked.architecture, self._checked.tensors, dtype, self._device
                )
        return self._module

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's own tokenizer.

        Raises
        ------
        UserError
            If the model came without one, or with one that cannot be loaded.
        """
        if isinstance(self._checked.tokenizer, UserError):
            raise self._checked.tokenizer
        return self._checked.tokenizer

    def close(self) -> None:
        """Let go of the module, so that its memory can be had again."""
        self._module = None

    def _get(self, name: str) -> Tensor:
        if name not in self._names:
            raise UserError(f"{self.info.label} has no tensor named {name}.")
        if self._spec.twin:
            return fresh_tensor(self._checked.skeleton, name, self._seed)
        return read_tensor(self._checked.tensors[name])

    def _adapter_or_refuse(self) -> Adapter:
        if self.adapter is None:
            raise UserError(
                f"Eigenscope has no adapter for {self.info.architecture}, so it cannot find its heads. Run an analysis "
                "that needs none, such as activations, or choose another model."
            )
        return self.adapter


def check(spec: ModelSpec, *, weights: bool) -> Checked:
    """Carry out every check that needs no weights. `weights` says whether a hub model's are downloaded."""
    found = source.resolve(spec, weights=weights)
    with quiet():
        architecture = read_config(found.folder)
        skeleton = architecture.skeleton()
        adapter = adapter_for(architecture.config)
        facts: dict[str, Any] = (
            {**adapter.facts(architecture.config)} if adapter else facts_without_adapter(architecture)
        )
        stored, notices = ({}, ()) if spec.twin else headers(found)
        matched = match(architecture, skeleton, stored) if stored else Match({}, False, ())
        tokenizer, remarks = open_tokenizer(found.folder, facts["vocab_size"])
    if matched.unused:
        notices += (f"{len(matched.unused)} tensors of another head ({matched.unused[0]} …) are stored and not used.",)
    info = ModelInfo(
        label=spec.label,
        source=spec.source,
        revision=found.revision,
        twin=spec.twin,
        architecture=architecture.model.__name__,
        n_parameters=sum(parameter.numel() for parameter in skeleton.parameters()),
        storage_dtype="float32" if spec.twin else storage_dtype(matched.tensors),
        identity=identity(architecture.raw, stored),
        load_bytes=load_bytes(skeleton, spec),
        **facts | {"notices": facts["notices"] + notices + remarks},
    )
    return Checked(info, found.folder, architecture, skeleton, adapter, matched.tensors, tokenizer)


def headers(found: source.Source) -> tuple[dict[str, Stored], tuple[str, ...]]:
    """Headers of the checkpoint: from the folder, or from the hub if its weights are not here yet (with a notice)."""
    if found.repo is None or any(found.folder.glob("model*.safetensors")):
        return read_headers(found.folder), ()
    with source.hub_errors(found.repo, found.revision):
        metadata = hub.get_safetensors_metadata(found.repo, revision=found.revision)
    stored = {
        key: Stored(Path(name), key, tensor.dtype, tuple(tensor.shape), tensor.data_offsets)
        for name, file in metadata.files_metadata.items()
        for key, tensor in file.tensors.items()
    }
    size = gigabytes(sum(tensor.nbytes for tensor in stored.values()))
    return stored, (f"Its weights are not on this machine yet: {size} will be downloaded when a run starts.",)


def facts_without_adapter(architecture: Architecture) -> dict[str, Any]:
    """What a config says under the library's usual names; zero where it says nothing."""
    config = architecture.config.get_text_config()

    def number(name: str) -> int:
        value = getattr(config, name, None)
        return value if isinstance(value, int) else 0

    heads = number("num_attention_heads")
    return {
        "family": "unsupported",
        "causal": "CausalLM" in architecture.model.__name__,
        "n_layers": number("num_hidden_layers"),
        "d_model": number("hidden_size"),
        "n_heads": heads,
        "n_kv_heads": number("num_key_value_heads") or heads,
        "d_head": number("head_dim") or (number("hidden_size") // heads if heads else 0),
        "vocab_size": number("vocab_size"),
        "context": number("max_position_embeddings"),
        "norm": "none",
        "rotary": False,
        "qk_norm": False,
        "notices": (
            f"Eigenscope has no adapter for {architecture.model.__name__}: analyses of heads are not available, those "
            "that need no adapter are.",
        ),
    }


def open_tokenizer(folder: Path, vocab_size: int) -> tuple[PreTrainedTokenizerBase | UserError, tuple[str, ...]]:
    """Load and check a folder's tokenizer; a model without one opens all the same, with a notice."""
    if not vocab_size:
        return UserError("This model reads no text: it has no vocabulary. Choose a language model for texts."), ()
    try:
        tokenizer = load_tokenizer(folder)
    except UserError as error:
        return error, (error.message,)
    return tokenizer, check_vocabulary(tokenizer, folder, vocab_size)


def storage_dtype(tensors: Mapping[str, Stored]) -> str:
    """The dtype that most of the checkpoint's bytes are in."""
    sizes: Counter[str] = Counter()
    for tensor in tensors.values():
        sizes[tensor.dtype] += tensor.nbytes
    return str(DTYPES[sizes.most_common(1)[0][0]]).removeprefix("torch.")


def load_bytes(skeleton: PreTrainedModel, spec: ModelSpec) -> int:
    """Memory of the whole module in the spec's dtype."""
    width = getattr(torch, spec.dtype).itemsize
    return sum(p.numel() * width for p in skeleton.parameters()) + sum(b.nbytes for b in skeleton.buffers())
