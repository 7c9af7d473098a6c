"""Read a config.json safely: no remote code, no quantisation, an architecture that the library knows."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING, PreTrainedConfig, PreTrainedModel
from transformers.models.auto import modeling_auto
from transformers.utils import logging

from engine.errors import UserError
from engine.models.checkpoint import entries, read_json

# For a config that names no class: the head that its training most likely had, then the bare model.
HEADS = ("MODEL_FOR_CAUSAL_LM_MAPPING", "MODEL_FOR_MASKED_LM_MAPPING", "MODEL_MAPPING")
# Keys by which a config reaches for other weights or rewrites the model; the library's defaults stand in their place.
DROPPED = ("transformers_weights", "fusion_config", "torch_dtype", "dtype")


@dataclass(frozen=True)
class Architecture:
    """A config as it was read (`raw`), as the library understands it, and the library's class for it."""

    raw: dict[str, Any]
    config: PreTrainedConfig
    model: type[PreTrainedModel]

    def skeleton(self) -> PreTrainedModel:
        """Build the whole model without memory, on the meta device, with eager attention."""
        try:
            with torch.device("meta"):
                return self.model._from_config(
                    copy.deepcopy(self.config), attn_implementation="eager", dtype=torch.float32
                )
        except ImportError as error:
            raise UserError(
                f"{self.model.__name__} needs a package that is not installed. Install it, or choose another model: "
                f"{first_line(error)}",
                str(error),
            ) from error
        except Exception as error:
            raise UserError(
                f"No {self.model.__name__} can be built from this config.json: {first_line(error)}. "
                "Download the model again, or choose another.",
                repr(error),
            ) from error


def read_config(folder: Path) -> Architecture:
    """Read the config of a folder and find the library's class for it.

    Raises
    ------
    UserError
        If there is none, it is damaged, names remote code or a kernel repository, is quantised or an adapter's, or
        describes an architecture that the installed transformers does not know.
    """
    if not (folder / "config.json").exists():
        raise UserError(no_config(folder))
    raw = read_json(folder / "config.json")
    refuse_remote_code(raw, folder)
    if (folder / "adapter_config.json").exists():
        raise UserError(
            f"{folder} holds a PEFT adapter (adapter_config.json). Merge it into its model first, with "
            "merge_and_unload() of peft, and open the merged model."
        )
    if raw.get("quantization_config"):
        method = raw["quantization_config"].get("quant_method", "unknown method")
        raise UserError(
            f"The weights in {folder} are quantised ({method}): their spectra would be those of the rounding. Open the "
            "unquantised model that they were made from."
        )
    model_type = str(raw.get("model_type"))
    if model_type not in CONFIG_MAPPING:
        named = f"the architecture {model_type}" if "model_type" in raw else "no architecture (model_type)"
        raise UserError(
            f"config.json in {folder} names {named}, which transformers {transformers.__version__} does not know. "
            "Update transformers, or choose another model."
        )
    try:
        config = CONFIG_MAPPING[model_type].from_dict({k: v for k, v in raw.items() if k not in DROPPED})
    except Exception as error:
        raise UserError(
            f"config.json in {folder} is not a valid {model_type} config: {first_line(error)}. Download it again.",
            repr(error),
        ) from error
    mend_padding(config.get_text_config())
    return Architecture(raw, config, model_class(config, raw))


def mend_padding(config: Any) -> None:
    """Put the class's own default for a padding id that is no entry of the vocabulary, such as −1."""
    size = getattr(config, "vocab_size", None)
    for pad in (getattr(config, "pad_token_id", None), getattr(type(config), "pad_token_id", None), None):
        if pad is None or not isinstance(size, int) or 0 <= pad < size:
            if hasattr(config, "pad_token_id"):
                config.pad_token_id = pad
            return


def model_class(config: PreTrainedConfig, raw: dict[str, Any]) -> type[PreTrainedModel]:
    """The library's class that the config names, or else the one with the likeliest head."""
    names = [str(name) for name in raw.get("architectures") or ()]
    for name in names:
        candidate = getattr(transformers, name, None)
        if isinstance(candidate, type) and issubclass(candidate, PreTrainedModel):
            return candidate
    if names:
        raise UserError(
            f"config.json names the model class {names[0]}, which transformers {transformers.__version__} does not "
            "have. Update transformers, or choose another model."
        )
    for head in HEADS:
        mapping = getattr(modeling_auto, head)
        if type(config) in mapping:
            candidate = mapping[type(config)]
            return candidate[0] if isinstance(candidate, tuple) else candidate
    raise UserError(f"transformers has a config but no model for {config.model_type}. Choose another model.")


def refuse_remote_code(raw: dict[str, Any], folder: Path) -> None:
    """Refuse a config that would have the library run code, or load a compiled kernel, from a repository."""
    for key, value in walk(raw):
        if key == "auto_map":
            raise UserError(
                f"config.json in {folder} names Python code to run with the model (auto_map), and Eigenscope runs no "
                "code from a model. Choose a version whose architecture is part of transformers."
            )
        if key.endswith(("attn_implementation", "experts_implementation", "implementation_internal")) and "/" in str(
            value
        ):
            raise UserError(
                f"config.json in {folder} names a repository for its kernels ({key}: {value}), and Eigenscope runs no "
                f"code from a model. Remove {key} from config.json if you trust the rest."
            )


def walk(raw: Any) -> Iterator[tuple[str, Any]]:
    """Every key and value of nested JSON."""
    if isinstance(raw, dict):
        for key, value in raw.items():
            yield key, value
            yield from walk(value)
    elif isinstance(raw, list):
        for value in raw:
            yield from walk(value)


def no_config(folder: Path) -> str:
    """Why a folder without config.json is refused."""
    names = entries(folder)
    if not names:
        return f"{folder} is empty. Choose the folder of a model: it holds config.json and model.safetensors."
    if "adapter_config.json" in names:
        return (
            f"{folder} holds a PEFT adapter, not a model. Merge it into its model first, with merge_and_unload() of "
            "peft, and open the merged model."
        )
    shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    return (
        f"{folder} is not the folder of a model: it has no config.json (it holds {shown}). Choose the folder that "
        "holds config.json and model.safetensors."
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the library's own reports and progress bars: what they would say is checked and said here."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def first_line(error: Exception) -> str:
    """The first line of an error's text, without its full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".: ")
