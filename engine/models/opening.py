"""Open a model: every check first, then its weights as they are asked for."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from engine.errors import UserError
from engine.models.adapters import Adapter, Block, Parts
from engine.models.checkpoint import digest, read_tensor, stamp
from engine.models.checks import CheckedModel, check
from engine.models.info import ModelInfo
from engine.models.loading import load_module
from engine.models.memory import require
from engine.models.twin import fresh_module, fresh_tensor
from engine.request import ModelSpec


def describe(spec: ModelSpec) -> ModelInfo:
    """Check a model and state the facts about it; from the hub, only configs, tokenizer and headers are fetched.

    A fine-tuned model has the shape and the identity of the checkpoint that it starts from: it may not be made yet.

    Raises
    ------
    UserError
        If the model cannot be opened safely; the sentence says why and what to do.
    """
    return check(spec, weights=False).info


def open_model(spec: ModelSpec, *, seed: int = 0, device: str = "cpu", tuned: Path | None = None) -> "OpenModel":
    """Open a model after every check; no weights are read yet (from the hub, they are downloaded).

    Parameters
    ----------
    spec : ModelSpec
    seed : int
        What a random twin is drawn from, where the spec has no seed of its own.
    device : str
        ``cpu`` or ``cuda``: where blocks and the module are put.
    tuned : Path, optional
        The folder with the weights of a spec with `tuning`, which a run has made.

    Raises
    ------
    UserError
        If the model cannot be opened safely; the sentence says why and what to do.
    """
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise UserError("There is no usable CUDA GPU here. Choose the device cpu, or run `main.py doctor`.")
    if spec.seed is not None:
        seed = spec.seed
    if spec.tuning is None:
        return OpenModel(check(spec, weights=not spec.twin), spec, seed, device)
    if tuned is None:
        raise UserError(f"{spec.label} is made when a run needs it; fine-tune it into a folder and open that instead.")
    checked = check(ModelSpec(source=str(tuned), dtype=spec.dtype), weights=True)
    return OpenModel(replace(checked, info=describe(spec)), spec, seed, device)


class OpenModel:
    """A model whose weights are read, or drawn for a twin, when they are asked for.

    Attributes
    ----------
    info : ModelInfo
    adapter : Adapter or None
        None for an architecture without one (`info.family` is ``unsupported``).
    projections : tuple of str
        Paths of the modules that make each layer's attention output, where they were seen.
    config : the library's config
    device : str
        Where blocks and the module are put.
    """

    def __init__(self, checked: CheckedModel, spec: ModelSpec, seed: int, device: str) -> None:
        self.info = checked.info
        self.adapter = checked.adapter
        self.projections = checked.rehearsal.projections
        self.config = checked.architecture.config
        self._checked = checked
        self._spec = spec
        self._seed = seed
        self.device = device
        self._names = frozenset(checked.skeleton.state_dict() if spec.twin else checked.tensors)
        self._module: nn.Module | None = None
        self._hashes: dict[int, str] = {}

    def tensor(self, name: str) -> Tensor:
        """Read one tensor by the library's name for it, in its storage dtype, on the device; checked to be finite."""
        return self._get(name).to(self.device)

    def block(self, layer: int, parts: Parts = "heads") -> Block:
        """Read the tensors of one block: those of its heads and the norm before them and no others, or all.

        Raises
        ------
        UserError
            If the architecture has no adapter, a tensor cannot be read or is not finite, or all is asked for and a
            `Block` cannot describe it (`closed_form_refusal`).
        """
        adapter = self._adapter_or_refuse()
        spelled = adapter.locate(adapter.tensor_names(self.config, layer, parts), self._names)
        digests: dict[str, bytes] = {}

        def get(name: str) -> Tensor:
            tensor = self._get(spelled[name])
            digests[name] = digest(tensor)
            return tensor.to(self.device)

        block = adapter.block(self.config, layer, get, parts)
        self._hashes[layer] = hashed(digests)
        return block

    def closed_form_refusal(self) -> str | None:
        """Say why no `Block` describes what this model computes, so that the reference path is due; or None."""
        if self.adapter is None:
            return f"Eigenscope has no adapter for {self.info.architecture}."
        return self.adapter.closed_form_refusal(self.config)

    def stamp(self) -> str:
        """Hash of parts of every tensor as it is on disk now; empty for a twin, which has no files of weights.

        It costs a few milliseconds, so that weights that were overwritten in the middle of a run are noticed.
        """
        return stamp(self._checked.tensors) if self._checked.tensors else ""

    def written(self) -> str:
        """When the files of the weights were written, and how long they are; empty for a twin."""
        files = sorted({part.file for tensor in self._checked.tensors.values() for part in tensor.parts})
        states = [(file.name, state.st_size, state.st_mtime_ns) for file in files for state in [file.stat()]]
        return blake2b(repr(states).encode(), digest_size=16).hexdigest() if files else ""

    def layer_hashes(self, layer: int) -> set[str]:
        """`layer_hash` as the files are now, for whatever part of the layer may have been read."""
        hashes = set()
        parts: list[Parts] = ["heads"] if self.closed_form_refusal() else ["heads", "all"]
        for part in parts if self.adapter is not None and self.info.head_count(layer) else ():
            self.block(layer, part)
            hashes.add(self._hashes[layer])
        if not hashes:
            self._hashes.pop(layer, None)
            hashes.add(self.layer_hash(layer))
        return hashes

    def layer_hash(self, layer: int) -> str:
        """BLAKE2b over names, dtypes, shapes and bytes of one layer's tensors.

        They are those that `block` read of this layer the last time; without an adapter or without heads, all tensors
        of the block, as they are stored or, where the library merges some of them on loading, as they are loaded.
        """
        if layer not in self._hashes:
            if self.adapter is None or not self.info.head_count(layer):
                self._hashes[layer] = hashed({name: digest(tensor) for name, tensor in self._block_tensors(layer)})
            else:
                self.block(layer)
        return self._hashes[layer]

    def _block_tensors(self, layer: int) -> Iterator[tuple[str, Tensor]]:
        """The tensors of one block by their names in the module, on the CPU."""
        prefix = f"{self._checked.rehearsal.blocks[layer]}." if self._checked.rehearsal.blocks else ""
        own = [name for name in self._checked.skeleton.state_dict() if name.startswith(prefix)]
        if self._names.issuperset(own):
            yield from ((name, self._get(name)) for name in own)
        else:
            loaded = self.module().state_dict()
            yield from ((name, loaded[name].cpu()) for name in own)

    def module(self) -> nn.Module:
        """Load the whole model, once, in the spec's dtype, with eager attention, in evaluation mode.

        Raises
        ------
        UserError
            If it does not fit into memory or any check of what the library loaded fails.
        """
        if self._module is None:
            dtype = getattr(torch, self._spec.dtype)
            # Either way by the CPU: the library loads there, and a twin is drawn there in float32.
            drawn = 4 * self.info.n_parameters if self._spec.twin else 0
            require(max(self.info.load_bytes, drawn), "cpu", self.info.label)
            require(self.info.load_bytes, self.device, self.info.label)
            if self._spec.twin:
                fresh: nn.Module = fresh_module(self._checked.architecture.skeleton(), self._seed)
                self._module = fresh.to(dtype=dtype, device=self.device)
            else:
                self._module = load_module(self._checked, dtype, self.device)
            if self.adapter is not None:
                self.adapter.mend(self._module)
            module: Any = self._module
            if dtype == torch.float64 and hasattr(module, "set_experts_implementation"):
                module.set_experts_implementation("eager")  # the fused one knows no float64
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


def hashed(digests: Mapping[str, bytes]) -> str:
    """One hash of several tensors' digests, by name."""
    hasher = blake2b(digest_size=16)
    for name in sorted(digests):
        hasher.update(name.encode() + digests[name])
    return hasher.hexdigest()
