"""Every check of a model that needs no weights, and the facts that come out of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub as hub
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from engine.errors import UserError
from engine.models import source
from engine.models.adapters import Adapter, adapter_for
from engine.models.checkpoint import DTYPES, Stored, identity, read_headers
from engine.models.config import Architecture, quiet, read_config
from engine.models.facts import facts, lacks, require_one_stack
from engine.models.info import ModelInfo
from engine.models.memory import gigabytes
from engine.models.names import Match, match, without_head
from engine.models.progress import trained
from engine.models.rehearsal import Rehearsal, rehearse
from engine.models.tokenizer import check_vocabulary, load_tokenizer
from engine.request import ModelSpec


@dataclass(frozen=True)
class CheckedModel:
    """A model that passed every check that needs no weights."""

    info: ModelInfo
    folder: Path
    architecture: Architecture
    skeleton: PreTrainedModel
    adapter: Adapter | None
    tensors: Mapping[str, Stored]
    tokenizer: PreTrainedTokenizerBase | UserError
    rehearsal: Rehearsal


def check(spec: ModelSpec, *, weights: bool) -> CheckedModel:
    """Carry out every check that needs no weights. `weights` says whether a hub model's are downloaded."""
    files = source.resolve(spec, weights=weights)
    with quiet():
        architecture = read_config(files.folder)
        skeleton = architecture.skeleton()
        require_one_stack(architecture, skeleton)
        stored, notices = ({}, ()) if spec.twin else headers(files)
        if not spec.twin and (bare := without_head(architecture, skeleton, stored)) is not None:
            architecture, skeleton, notice = bare
            notices += (notice,)
        matched = Match({}, False, ()) if spec.twin else match(architecture, skeleton, stored)
        adapter, rehearsal = adapter_for(architecture.config), rehearse(architecture)
        known = facts(architecture, adapter, rehearsal)
        tokenizer, remarks = open_tokenizer(files.folder, known["vocab_size"])
        mask = not isinstance(tokenizer, UserError) and tokenizer.mask_token_id is not None
    if matched.unused:
        notices += (f"{len(matched.unused)} tensors of another head ({matched.unused[0]} …) are stored and not used.",)
    # A twin was never trained, and a fine-tuned model no longer is the checkpoint that the record speaks of.
    step, loss = (None, None) if spec.twin or spec.tuning else trained(files, spec.revision)
    info = ModelInfo(
        label=spec.label,
        source=spec.source,
        revision=files.revision,
        twin=spec.twin,
        architecture=architecture.model.__name__,
        n_parameters=sum(parameter.numel() for parameter in skeleton.parameters()),
        storage_dtype="float32" if spec.twin or spec.tuning else storage_dtype(stored),
        identity=identity(architecture.raw, stored),
        load_bytes=load_bytes(skeleton, spec),
        step=step,
        held_out_loss=loss,
        lacks=lacks(architecture, adapter, rehearsal, known["causal"], mask),
        **known | {"notices": known["notices"] + notices + remarks},
    )
    measured = rehearsal or Rehearsal()
    return CheckedModel(info, files.folder, architecture, skeleton, adapter, matched.tensors, tokenizer, measured)


def headers(files: source.Source) -> tuple[dict[str, Stored], tuple[str, ...]]:
    """Headers of the checkpoint: from the folder, or from the hub if its weights are not here yet (with a notice)."""
    if files.repo is None or any(files.folder.glob("model*.safetensors")):
        return read_headers(files.folder), ()
    with source.hub_errors(files.repo, files.revision):
        metadata = hub.get_safetensors_metadata(files.repo, revision=files.revision)
    stored = {
        key: Stored(Path(name), key, tensor.dtype, tuple(tensor.shape), tensor.data_offsets)
        for name, file in metadata.files_metadata.items()
        for key, tensor in file.tensors.items()
    }
    size = gigabytes(sum(tensor.nbytes for tensor in stored.values()))
    return stored, (f"Its weights are not on this machine yet: {size} will be downloaded when a run starts.",)


def open_tokenizer(folder: Path, vocab_size: int) -> tuple[PreTrainedTokenizerBase | UserError, tuple[str, ...]]:
    """Load and check a folder's tokenizer; a model without one opens all the same, with a notice."""
    if not vocab_size:
        return UserError("This model reads no text: it has no vocabulary. Choose a language model for texts."), ()
    try:
        tokenizer = load_tokenizer(folder)
    except UserError as error:
        return error, (error.message,)
    return tokenizer, check_vocabulary(tokenizer, folder, vocab_size)


def storage_dtype(stored: Mapping[str, Stored]) -> str:
    """The floating-point dtype that most of the checkpoint's bytes are in."""
    sizes = dict.fromkeys(DTYPES, 0)
    for tensor in stored.values():
        if tensor.dtype in sizes:
            sizes[tensor.dtype] += tensor.nbytes
    return str(DTYPES[max(sizes, key=sizes.__getitem__)]).removeprefix("torch.")


def load_bytes(skeleton: PreTrainedModel, spec: ModelSpec) -> int:
    """Memory of the whole module in the spec's dtype."""
    width = getattr(torch, spec.dtype).itemsize
    return sum(p.numel() * width for p in skeleton.parameters()) + sum(b.nbytes for b in skeleton.buffers())
