"""Low-rank adapters (LoRA) merged into their base: each tensor that one changes is W + scale · B A when it is read.

The scale is α/r, or α/√r where the adapter says so (rank-stabilised). Nothing else of PEFT is read: what changes the
model in another way is refused by its name.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from engine.errors import UserError
from engine.models.checkpoint import DTYPES, Stored, listed, read_header
from engine.models.derived import derive
from engine.models.folder import entries, present, read_json
from engine.models.names import Match, rename

WEIGHTS = "adapter_model.safetensors"
# What says nothing about the merged weights: who made the adapter, how it was trained, and what stands in its tensors.
HARMLESS = {
    *(
        "peft_type",
        "peft_version",
        "task_type",
        "auto_mapping",
        "base_model_name_or_path",
        "revision",
        "inference_mode",
    ),
    *("r", "lora_alpha", "alpha_pattern", "rank_pattern", "use_rslora", "fan_in_fan_out", "target_modules"),
    *("modules_to_save", "bias", "lora_dropout", "exclude_modules", "layers_to_transform", "layers_pattern"),
    *("ensure_weight_tying", "runtime_config", "ephemeral_gpu_offload", "save_embedding_layers"),
    *("eva_config", "loftq_config", "corda_config", "megatron_core", "qalora_group_size"),
}
# Ways to begin that leave the base as it is; others (PiSSA, OLoRA, …) change it, and belong to the changed one.
BEGINNINGS = (True, False, None, "gaussian", "eva", "orthogonal")
SUFFIXES = (".lora_A.weight", ".lora_B.weight", ".lora_embedding_A", ".lora_embedding_B")


@dataclass(frozen=True)
class LoraConfig:
    """What scales an adapter's updates."""

    alpha: float
    alphas: Mapping[str, float]
    stabilised: bool

    def scale(self, module: str, rank: int) -> float:
        """What multiplies B A of one module."""
        own = [value for name, value in self.alphas.items() if module == name or module.endswith(f".{name}")]
        alpha = own[0] if own else self.alpha
        return alpha / (math.sqrt(rank) if self.stabilised else rank)


def read_config(folder: Path) -> LoraConfig:
    """Read an adapter's config, and refuse what is not a plain low-rank update.

    Raises
    ------
    UserError
        If the config is damaged, or names another kind of adapter or anything that merging would leave out.
    """
    file = folder / "adapter_config.json"
    raw = read_json(file)
    kind = str(raw.get("peft_type"))
    if kind != "LORA":
        raise UserError(
            f"{folder} holds an adapter of the type {kind}, and only LoRA is merged here. Merge it with "
            "merge_and_unload() of peft, and open the merged model."
        )
    beginning = raw.get("init_lora_weights")
    if isinstance(beginning, dict | list) or beginning not in BEGINNINGS:
        unknown = [f"init_lora_weights ({beginning})"]
    else:
        unknown = sorted(key for key, value in raw.items() if value and key not in {*HARMLESS, "init_lora_weights"})
    alphas = raw.get("alpha_pattern") or {}
    patterns = [*alphas, *(raw.get("rank_pattern") or {})] if isinstance(alphas, dict) else []
    unknown += [f"the pattern {name}" for name in patterns if not str(name).replace(".", "_").isidentifier()]
    if unknown:
        raise UserError(
            f"{listed(unknown, 'setting')} in {file}, which is more than a plain LoRA. Merge the adapter with "
            "merge_and_unload() of peft, and open the merged model."
        )
    try:
        return LoraConfig(
            float(raw["lora_alpha"]),
            {name: float(value) for name, value in alphas.items()},
            bool(raw.get("use_rslora")),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{file} does not say how the adapter is scaled. Download it again.", repr(error)) from error


def read_adapter(folder: Path) -> dict[str, Stored]:
    """The headers of an adapter's weights."""
    if present(folder / WEIGHTS):
        return read_header(folder / WEIGHTS)
    if pickled := [name for name in entries(folder) if name.startswith("adapter_model.")]:
        raise UserError(
            f"{folder} holds only pickled weights ({pickled[0]}), which can run code when they are read, so Eigenscope "
            "does not open them. Save the adapter again with save_pretrained of a current peft."
        )
    raise UserError(f"{folder} holds an adapter without weights: {WEIGHTS} is needed. Download it again.")


def merge(
    folder: Path, base: str, skeleton: PreTrainedModel, matched: Match, stored: Mapping[str, Stored]
) -> tuple[Match, dict[str, Stored], tuple[str, ...]]:
    """Merge an adapter into a model's tensors: by the model's names, by the checkpoint's, and a notice.

    Raises
    ------
    UserError
        If the adapter is not a plain LoRA, or does not belong to this model.
    """
    config = read_config(folder)
    pairs: dict[str, dict[str, Stored]] = {}
    whole: dict[str, Stored] = {}
    for key, tensor in read_adapter(folder).items():
        name = key.removeprefix("base_model.model.").replace(".base_layer.", ".").replace(".modules_to_save.", ".")
        suffix = next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)
        if tensor.dtype not in DTYPES:
            raise UserError(f"Tensor {key} of the adapter in {folder} is stored as {tensor.dtype}. Save it in float32.")
        if suffix is None:
            whole[name] = tensor
        else:
            pairs.setdefault(f"{name.removesuffix(suffix)}.weight", {})[suffix.removesuffix(".weight")[-1]] = tensor
    tensors, by_key = dict(matched.tensors), dict(stored)
    # A whole embedding comes first: an update of it is added to that one.
    for name, tensor in whole.items():
        target = _target(name, skeleton, tensors, folder, tensor)
        tensors[target] = _replaced(name, tensor, tensors[target], folder)
        by_key[matched.tensors[target].key] = tensors[target]
    for name, pair in pairs.items():
        target = _target(name, skeleton, tensors, folder, *pair.values())
        turned = isinstance(skeleton.get_submodule(target.rpartition(".")[0]), Conv1D | nn.Embedding)
        tensors[target] = _updated(name, pair, tensors[target], config, folder, turned)
        by_key[matched.tensors[target].key] = tensors[target]
    ranks = sorted({pair["A"].shape[0] for pair in pairs.values()})
    what = f"LoRA of rank {', '.join(map(str, ranks))} is merged into {len(pairs)} matrices" if pairs else "The adapter"
    also = f"{' and' if pairs else ''} replaces {len(whole)} of the tensors" if whole else ""
    return replace(matched, tensors=tensors), by_key, (f"{what}{also} of {base}.",)


def _updated(
    name: str, pair: Mapping[str, Stored], base: Stored, config: LoraConfig, folder: Path, turned: bool
) -> Stored:
    """W + scale · B A, or its transpose where the module multiplies from the left."""
    if pair.keys() != {"A", "B"} or any(len(part.shape) != 2 for part in pair.values()):
        raise UserError(f"The adapter in {folder} does not hold both factors of {name} as matrices. Download it again.")
    a, b = pair["A"], pair["B"]
    update = (a.shape[1], b.shape[0]) if turned else (b.shape[0], a.shape[1])
    if update != base.shape or a.shape[0] != b.shape[1]:
        raise UserError(
            f"The adapter in {folder} changes {name} by a matrix of shape {update}, and the model's is {base.shape}: "
            "they do not belong together. Give the model that the adapter was made for as the base."
        )
    scale = config.scale(name.removesuffix(".weight"), a.shape[0])

    def make(weight: Tensor, down: Tensor, up: Tensor) -> Tensor:
        change = scale * (up.double() @ down.double())
        return (weight.double() + (change.T if turned else change)).float()

    return derive(base.key, (base, a, b), base.shape, f"merging with scale {scale}", make, stored_as=base.storage)


def _replaced(name: str, tensor: Stored, base: Stored, folder: Path) -> Stored:
    """The tensor that the adapter holds whole, in the place of the model's."""
    if tensor.shape != base.shape:
        raise UserError(
            f"The adapter in {folder} holds {name} of shape {tensor.shape}, and the model's is {base.shape}: they do "
            "not belong together. Give the model that the adapter was made for as the base."
        )
    return derive(base.key, (tensor,), base.shape, "taking the adapter's", Tensor.float, stored_as=tensor.dtype)


def _target(name: str, skeleton: PreTrainedModel, tensors: Mapping[str, Stored], folder: Path, *parts: Stored) -> str:
    """The tensor of the model that an adapter's name means."""
    renamed, converted, _ = rename(skeleton, {name: parts[0]})
    target = next(iter(renamed), name)
    ties = skeleton.all_tied_weights_keys
    if target in {*ties, *ties.values()}:
        raise UserError(
            f"The adapter in {folder} changes {name}, which the model shares between its embedding and its head: "
            "merged, it would change both. Merge it with merge_and_unload() of peft, and open the merged model."
        )
    if converted or target not in tensors:
        raise UserError(
            f"The adapter in {folder} changes {name}, which {type(skeleton).__name__} does not have as one stored "
            "tensor. Give the model that the adapter was made for as the base."
        )
    return target
