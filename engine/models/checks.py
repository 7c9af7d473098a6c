"""Every check of a model that needs no weights, and the facts that come out of them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub as hub
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from engine.errors import UserError, boundary
from engine.models import gguf_file, lora, source
from engine.models.adapters import Adapter, adapter_for
from engine.models.building import MOST_MODULES, allowed
from engine.models.checkpoint import Stored, identity, read_headers, stored_in
from engine.models.config import Architecture, quiet, read_config
from engine.models.config_values import require_stored
from engine.models.facts import facts, lacks, require_one_stack
from engine.models.folder import require_readable
from engine.models.formats import FLOATS, format_name, is_quantised, storage_floor
from engine.models.header import declared
from engine.models.hub import hub_errors
from engine.models.info import ModelInfo
from engine.models.memory import gigabytes
from engine.models.names import Match, match, without_head
from engine.models.progress import trained
from engine.models.quantised import dequantised
from engine.models.rehearsal import Rehearsal, rehearse
from engine.models.tokenizer import check_vocabulary, has_vocabulary, load_tokenizer
from engine.request import ModelSpec


@dataclass(frozen=True)
class CheckedModel:
    """A model that passed every check that needs no weights.

    `tensors` are by the model's own names, `stored` by the checkpoint's.
    """

    info: ModelInfo
    files: source.Source
    architecture: Architecture
    skeleton: PreTrainedModel
    adapter: Adapter | None
    tensors: Mapping[str, Stored]
    stored: Mapping[str, Stored]
    tokenizer: PreTrainedTokenizerBase | UserError
    rehearsal: Rehearsal


def check(spec: ModelSpec, *, weights: bool) -> CheckedModel:
    """Carry out every check that needs no weights. `weights` says whether a hub model's are downloaded.

    Raises
    ------
    UserError
        Whatever is wrong with the model.
    """
    with boundary(f"{spec.label} cannot be opened", "Download the model again, or choose another."):
        return _check(spec, weights)


def _check(spec: ModelSpec, weights: bool) -> CheckedModel:
    files = source.resolve(spec, weights=weights)
    if files.gguf is None:
        require_readable(files.folder)
    with quiet():
        architecture = gguf_file.read_architecture(files.gguf) if files.gguf else read_config(files.folder)
        stored, notices = ({}, ()) if spec.twin else headers(files)
        if not spec.twin:
            require_stored(architecture.raw, len(stored), files.gguf or files.folder / "config.json")
        skeleton = architecture.skeleton(MOST_MODULES if spec.twin else allowed(len(stored)))
        require_one_stack(architecture, skeleton)
        if files.gguf is not None and not spec.twin:
            stored, notices = gguf_file.read_tensors(files.gguf, architecture, skeleton)
        elif not spec.twin:
            stored = dequantised(architecture.raw, stored, files.folder)
        if not spec.twin and (bare := without_head(architecture, skeleton, stored)) is not None:
            architecture, skeleton, notice = bare
            notices += (notice,)
        matched = Match({}, False, ()) if spec.twin else match(architecture, skeleton, stored)
        if files.adapter is not None and not spec.twin:
            matched, stored, merged = lora.merge(files.adapter.folder, files.name, skeleton, matched, stored)
            notices += merged
        adapter, rehearsal = adapter_for(architecture.config), rehearse(architecture, spec.dtype)
        known = facts(architecture, adapter, rehearsal)
        tokenizer, remarks = open_tokenizer(files, known["vocab_size"])
        mask = not isinstance(tokenizer, UserError) and tokenizer.mask_token_id is not None
    notices += rounded(stored)
    if matched.unused:
        notices += (f"{len(matched.unused)} tensors of another head ({matched.unused[0]} …) are stored and not used.",)
    # A twin was never trained, and a fine-tuned model no longer is the checkpoint that the record speaks of.
    step, loss = (None, None) if spec.twin or spec.tuning else trained(files.asked, spec.revision)
    info = ModelInfo(
        label=spec.label,
        source=spec.source,
        revision=files.asked.revision,
        twin=spec.twin,
        architecture=architecture.model.__name__,
        n_parameters=sum(parameter.numel() for parameter in skeleton.parameters()),
        storage_dtype="float32" if spec.twin or spec.tuning else storage_dtype(stored),
        identity=identity(architecture.raw, stored),
        load_bytes=load_bytes(skeleton, spec),
        step=step,
        held_out_loss=loss,
        base=files.base,
        lacks=lacks(architecture, adapter, rehearsal, known["causal"], mask),
        **known | {"notices": known["notices"] + notices + remarks},
    )
    measured = rehearsal or Rehearsal()
    return CheckedModel(info, files, architecture, skeleton, adapter, matched.tensors, stored, tokenizer, measured)


def headers(files: source.Source) -> tuple[dict[str, Stored], tuple[str, ...]]:
    """Headers of the checkpoint: from its files, or from the hub if its weights are not here yet (with a notice)."""
    if files.gguf is not None:
        return dict(gguf_file.read_header(files.gguf).tensors), ()
    if files.repo is None or any(files.folder.glob("model*.safetensors")):
        return read_headers(files.folder), ()
    with hub_errors(files.repo, files.revision):
        metadata = hub.get_safetensors_metadata(files.repo, revision=files.revision)
    stored: dict[str, Stored] = {}
    for name, file in metadata.files_metadata.items():
        entries = {
            key: {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": list(tensor.data_offsets)}
            for key, tensor in file.tensors.items()
        }
        stored |= stored_in(Path(name), declared(Path(name), entries))
    size = gigabytes(sum(tensor.nbytes for tensor in stored.values()))
    return stored, (f"Its weights are not on this machine yet: {size} will be downloaded when a run starts.",)


def open_tokenizer(
    files: source.Source, vocab_size: int
) -> tuple[PreTrainedTokenizerBase | UserError, tuple[str, ...]]:
    """Load and check the tokenizer of a model's files; a model without one opens all the same, with a notice."""
    if not vocab_size:
        return UserError("This model reads no text: it has no vocabulary. Choose a language model for texts."), ()
    if files.adapter is not None and has_vocabulary(files.adapter.folder):
        files = files.adapter
    try:
        tokenizer = gguf_file.load_tokenizer(files.gguf) if files.gguf else load_tokenizer(files.folder)
    except UserError as error:
        return error, (error.message,)
    return tokenizer, check_vocabulary(tokenizer, files.folder, vocab_size)


def storage_dtype(stored: Mapping[str, Stored]) -> str:
    """The format that most of the checkpoint's bytes are in, of those that hold weights."""
    sizes = dict.fromkeys(FLOATS, 0)
    for tensor in stored.values():
        if tensor.storage in FLOATS or is_quantised(tensor.storage):
            sizes[tensor.storage] = sizes.get(tensor.storage, 0) + tensor.nbytes
    return format_name(max(sizes, key=sizes.__getitem__))


def rounded(stored: Mapping[str, Stored]) -> tuple[str, ...]:
    """What weights were stored as that are dequantised when they are read, and what that rounding hides."""
    counts = Counter(tensor.storage for tensor in stored.values())
    if not any(map(is_quantised, counts)):
        return ()
    kinds = ", ".join(f"{format_name(kind)} ({count})" for kind, count in counts.most_common())
    floor = storage_floor(storage_dtype(stored)) ** 0.5
    return (
        f"Its tensors are stored as {kinds} and dequantised when read: singular values below about {floor:.2g} of the "
        "largest are only rounding.",
    )


def load_bytes(skeleton: PreTrainedModel, spec: ModelSpec) -> int:
    """Memory of the whole module in the spec's dtype."""
    width = getattr(torch, spec.dtype).itemsize
    return sum(p.numel() * width for p in skeleton.parameters()) + sum(b.nbytes for b in skeleton.buffers())
