"""Read a config.json safely: no remote code, an architecture that the library knows."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from transformers import CONFIG_MAPPING, PreTrainedConfig, PreTrainedModel
from transformers.models.auto import modeling_auto
from transformers.utils import logging

from engine.errors import UserError, reason
from engine.models.building import MOST_MODULES, at_most
from engine.models.config_values import require_sound, walk
from engine.models.folder import entries, present, read_json

# For a config that names no class: the head that its training most likely had, then the bare model.
HEADS = ("MODEL_FOR_CAUSAL_LM_MAPPING", "MODEL_FOR_MASKED_LM_MAPPING", "MODEL_MAPPING")
# Keys by which a config reaches for other weights or rewrites the model; the library's defaults stand in their place.
DROPPED = ("transformers_weights", "fusion_config", "torch_dtype", "dtype", "quantization_config", "compression_config")


@dataclass(frozen=True)
class Architecture:
    """A config as it was read (`raw`), as the library understands it, and the library's class for it."""

    raw: dict[str, Any]
    config: PreTrainedConfig
    model: type[PreTrainedModel]

    def skeleton(self, most: int = MOST_MODULES) -> PreTrainedModel:
        """Build the whole model, of `most` modules, without memory: on the meta device, with eager attention."""
        try:
            with torch.device("meta"), at_most(most):
                return self.model._from_config(
                    copy.deepcopy(self.config), attn_implementation="eager", dtype=torch.float32
                )
        except UserError:
            raise
        except ImportError as error:
            raise UserError(
                f"{self.model.__name__} needs a package that is not installed ({reason(error)}). Install it, or choose "
                "another model.",
                str(error),
            ) from error
        except Exception as error:
            raise UserError(
                f"No {self.model.__name__} can be built from this config.json: {why(error)}. "
                "Download the model again, or choose another.",
                repr(error),
            ) from error


def read_config(folder: Path) -> Architecture:
    """Read the config of a folder and find the library's class for it.

    Raises
    ------
    UserError
        If there is none, it is damaged, names remote code or a kernel repository, is beside an adapter's, or
        describes an architecture that the installed transformers does not know.
    """
    file = folder / "config.json"
    if not present(file):
        raise UserError(no_config(folder))
    raw = read_json(file)
    refuse_remote_code(raw, folder)
    require_sound(raw, file)
    if present(folder / "adapter_config.json"):
        raise UserError(
            f"{folder} holds a model and a PEFT adapter (adapter_config.json) beside each other, and either could be "
            "meant. Move the adapter's two files into a folder of their own."
        )
    return architecture_of(raw, f"config.json in {folder}")


def architecture_of(raw: dict[str, Any], where: str) -> Architecture:
    """The library's config and class for a config; `where` begins the sentences that say what is wrong with it."""
    model_type = str(raw.get("model_type"))
    if model_type not in CONFIG_MAPPING:
        named = f"the architecture {model_type}" if "model_type" in raw else "no architecture (model_type)"
        raise UserError(
            f"{where} names {named}, which transformers {transformers.__version__} does not know. "
            "Update transformers, or choose another model."
        )
    try:
        # The library's way to write infinity into JSON, as the step limits of Mamba layers.
        fields = PreTrainedConfig._decode_special_floats({k: v for k, v in raw.items() if k not in DROPPED})
        config = CONFIG_MAPPING[model_type].from_dict(fields)
    except Exception as error:
        raise UserError(
            f"{where} is not a valid {model_type} config: {why(error)}. Download it again.",
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
    names = raw.get("architectures") or ()
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
    for _, key, value in walk(raw):
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


def no_config(folder: Path) -> str:
    """Why a folder without config.json is refused."""
    names = entries(folder)
    if not names:
        return f"{folder} is empty. Choose the folder of a model: it holds config.json and model.safetensors."
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


def why(error: Exception) -> str:
    """What the library says of a config: of a field of another type its name and value."""
    return reason(error.__cause__ if isinstance(error, StrictDataclassError) and error.__cause__ else error)
