"""The whole model as a module of the library, with nothing left to its silent repairs."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from engine.errors import UserError, boundary
from engine.models.checkpoint import Stored, all_finite, listed, read_tensor
from engine.models.checks import CheckedModel
from engine.models.config import quiet
from engine.models.derived import Derived
from engine.models.folder import require_readable

# Tensors compared with the file: the ends, and some between.
SAMPLED = 8


class Unread:
    """A tensor as the library takes one from a file: it is read when its entries are asked for."""

    def __init__(self, stored: Stored) -> None:
        self.stored = stored

    def __getitem__(self, _: object) -> Tensor:
        return read_tensor(self.stored)


def load_module(checked: CheckedModel, dtype: torch.dtype, device: str) -> PreTrainedModel:
    """Load a checkpoint with the library and check what it made.

    What is made of other tensors when it is read, the library is handed tensor by tensor.

    Parameters
    ----------
    checked : CheckedModel
    dtype : torch.dtype
    device : str

    Raises
    ------
    UserError
        If the library filled a gap, left something out, changed the dtype, or the result is not finite or not the file.
    """
    architecture, folder = checked.architecture, checked.files.gguf or checked.files.folder
    derived = any(isinstance(tensor, Derived) for tensor in checked.stored.values())
    if not derived:
        require_readable(checked.files.folder)
    with boundary(f"transformers cannot load {folder}", "Download the model again, or choose another."), quiet():
        loaded: Any = architecture.model.from_pretrained(
            None if derived else folder,
            config=architecture.config,
            state_dict={name: Unread(stored) for name, stored in checked.stored.items()} if derived else None,
            dtype=dtype,
            attn_implementation="eager",
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
        model, report = loaded
    wrong = sorted(report["missing_keys"]) + sorted(str(key) for key in report["mismatched_keys"])
    if wrong or report["error_msgs"]:
        raise UserError(
            f"{listed(wrong or report['error_msgs'], 'Tensor')} missing from {folder} or of another shape; the library "
            "would put random numbers there. Download the model again."
        )
    # The library leaves tensors mapped onto the file: a later write to it would change them, or kill the process.
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()
    for parameter in model.parameters() if dtype == torch.float64 else ():
        parameter.data = parameter.data.to(dtype)  # also what the library keeps in float32, for its precision
    check_dtype(model, dtype)
    check_finite(model, dtype)
    compare(model, checked.tensors)
    return model.eval().to(device)


def check_dtype(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Refuse parameters in another dtype than was asked for, save those that the library keeps in float32."""
    kept = torch.float32 if model._get_dtype_plan(dtype) else dtype
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and parameter.dtype not in (dtype, kept):
            raise UserError(f"The library loaded {name} as {parameter.dtype} instead of {dtype}. Choose another dtype.")


def check_finite(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Refuse values that are not finite: in the file, or because they overflow the dtype."""
    for name, parameter in model.named_parameters():
        if not all_finite(parameter):
            raise UserError(
                f"Parameter {name} holds values that are not finite in {str(dtype).removeprefix('torch.')}: the "
                "checkpoint holds NaN or infinity, or its values overflow. Choose float32, or another checkpoint."
            )


def compare(model: PreTrainedModel, tensors: Mapping[str, Stored]) -> None:
    """Compare a sample of parameters with the file, entry by entry."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    names = [name for name in tensors if name in parameters]
    for name in {names[round(step * (len(names) - 1) / (SAMPLED - 1))] for step in range(SAMPLED) if names}:
        if not torch.equal(parameters[name], read_tensor(tensors[name]).to(parameters[name].dtype)):
            raise UserError(
                f"Parameter {name} is not what {tensors[name].file.name} holds: the library changed it on loading. "
                "Please report this with the model's name."
            )
