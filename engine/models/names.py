"""Match a checkpoint's tensors with the model's own, by the library's rules, and refuse what does not fit."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key, rename_source_key
from transformers.models.auto.modeling_auto import MODEL_FOR_PRETRAINING_MAPPING, MODEL_MAPPING
from transformers.utils.loading_report import LoadStateDictInfo

from engine.errors import UserError
from engine.models.checkpoint import DTYPES, Stored, listed
from engine.models.config import Architecture

# What stands before every name where a model was saved with what had wrapped it, in the words of its own project.
WRAPPERS = {
    "module.": "DistributedDataParallel",
    "_orig_mod.": "torch.compile",
    "_fsdp_wrapped_module.": "FullyShardedDataParallel",
    "_forward_module.": "Lightning Fabric",
}


@dataclass(frozen=True)
class Match:
    """The checkpoint's tensors by the model's own names.

    `converted` says that the library merges or splits some tensors on loading, so that those have no entry here.
    `unused` are tensors of another head of the same architecture.
    """

    tensors: Mapping[str, Stored]
    converted: bool
    unused: tuple[str, ...]


def match(architecture: Architecture, model: PreTrainedModel, stored: Mapping[str, Stored]) -> Match:
    """Match headers with the names and shapes of `model` (on the meta device).

    Differences that the library itself tolerates pass: a base model's prefix, older names, tied tensors stored once,
    masks and tables that used to be stored. Tensors of another head of the same architecture pass and are reported.

    Raises
    ------
    UserError
        If a tensor is missing, belongs to no head of the architecture, or has another shape or a quantised dtype.
    """
    renamed, converted, extra = rename(model, stored)
    wanted = model.state_dict()
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    for name, tensor in renamed.items():
        if tensor.shape != tuple(wanted[name].shape):
            raise UserError(
                f"Tensor {tensor.key} has shape {tensor.shape} in {tensor.file.name}, but config.json implies "
                f"{tuple(wanted[name].shape)}: they do not belong together. Download the model again."
            )
        if name in parameters and tensor.dtype not in DTYPES:
            raise UserError(
                f"Tensor {tensor.key} is stored as {tensor.dtype}: the weights are quantised. Open the unquantised "
                "model that they were made from."
            )
    report = LoadStateDictInfo(
        missing_keys=set(wanted) - set(renamed),
        unexpected_keys=set(extra),
        mismatched_keys=set(),
        error_msgs=[],
        conversion_errors={},
        skipped_pp_keys=set(),
    )
    model._adjust_missing_and_unexpected_keys(report)
    missing = report.missing_keys - tied(model, renamed)
    if missing and not converted:
        refuse_wrapped(stored)
        names = sorted(missing, key=dot_natural_key)
        raise UserError(
            f"{listed(names, 'Tensor')} missing from the checkpoint; the library would put random numbers in "
            f"{'its' if len(names) == 1 else 'their'} place. Download the model again, or choose another checkpoint."
        )
    unknown = report.unexpected_keys - other_heads(architecture, {key: stored[key] for key in report.unexpected_keys})
    if unknown:
        names = sorted(unknown, key=dot_natural_key)
        raise UserError(
            f"{listed(names, 'Tensor')} in the checkpoint but not in {type(model).__name__}, so config.json does not "
            "describe these weights. Choose another checkpoint, or correct config.json."
        )
    return Match(renamed, converted, tuple(sorted(report.unexpected_keys, key=dot_natural_key)))


def without_head(
    architecture: Architecture, model: PreTrainedModel, stored: Mapping[str, Stored]
) -> tuple[Architecture, PreTrainedModel, str] | None:
    """The bare model, where the checkpoint holds nothing of the head that its config names, and what to say of it."""
    cls: Any = MODEL_MAPPING.get(type(architecture.config), None)
    prefix = f"{model.base_model_prefix}."
    if not isinstance(cls, type) or isinstance(model, cls) or not hasattr(model, model.base_model_prefix):
        return None
    renamed, _, _ = rename(model, stored)
    head = {name for name, _ in model.named_parameters(remove_duplicate=False) if not name.startswith(prefix)}
    missing = sorted(head - set(renamed) - tied(model, renamed), key=dot_natural_key)
    if not missing or not renamed or not head.isdisjoint(renamed):
        return None
    bare = replace(architecture, model=cls)
    notice = (
        f"The checkpoint holds nothing of the head of {type(model).__name__} ({missing[0]}), so it opens as "
        f"{cls.__name__}."
    )
    return bare, bare.skeleton(), notice


def rename(model: PreTrainedModel, stored: Mapping[str, Stored]) -> tuple[dict[str, Stored], bool, list[str]]:
    """Apply the library's renamings to a checkpoint's names, in its own order.

    Returns the tensors found by the model's names, whether any goes through a conversion, and the names left over.
    """
    rules = get_model_conversion_mapping(model)
    renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
    converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
    wanted = model.state_dict()
    renamed: dict[str, Stored] = {}
    converted = False
    extra = []
    for key in sorted(stored, key=dot_natural_key):
        name, pattern = rename_source_key(key, renamings, converters, model.base_model_prefix, wanted)
        if name not in wanted and key in wanted:
            name, pattern = rename_source_key(key, [], [], model.base_model_prefix, wanted)
        if name not in wanted:
            extra.append(key)
        elif pattern is not None:
            converted = True
        else:
            renamed[name] = stored[key]
    return renamed, converted, extra


def refuse_wrapped(stored: Mapping[str, Stored]) -> None:
    """Say what it is where every name carries the prefix of something that had wrapped the model when it was saved."""
    for prefix, wrapper in WRAPPERS.items():
        if stored and all(key.startswith(prefix) for key in stored):
            first = min(stored, key=dot_natural_key)
            raise UserError(
                f"The names in the checkpoint carry the prefix {prefix} of {wrapper} ({first}): the wrapped model was "
                f"saved. Save the model inside it, or take {prefix} off the names.",
            )


def tied(model: PreTrainedModel, renamed: Mapping[str, Stored]) -> set[str]:
    """Names that need not be stored because a tensor they share is."""
    pairs = model.all_tied_weights_keys.items()
    return {target for target, source in pairs if source in renamed} | {
        source for target, source in pairs if target in renamed
    }


def other_heads(architecture: Architecture, extra: Mapping[str, Stored]) -> set[str]:
    """Those of `extra` that another class of the same architecture has, with the same shape."""
    accepted: set[str] = set()
    for mapping in (MODEL_MAPPING, MODEL_FOR_PRETRAINING_MAPPING):
        classes: Any = mapping[type(architecture.config)] if extra and type(architecture.config) in mapping else ()
        for cls in classes if isinstance(classes, tuple) else (classes,):
            sibling = Architecture(architecture.raw, architecture.config, cls).skeleton()
            shapes = {name: tuple(tensor.shape) for name, tensor in sibling.state_dict().items()}
            renamed, _, _ = rename(sibling, extra)
            accepted |= {tensor.key for name, tensor in renamed.items() if tensor.shape == shapes[name]}
    return accepted
