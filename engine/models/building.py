"""A limit to how much is built, whatever a config asks for and in whichever field."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from engine.errors import UserError

MOST_MODULES = 50_000
"""For a model that has no headers yet; one takes a quarter of a millisecond or more."""
A_TENSOR = 5
"""Modules for each tensor that a checkpoint stores; architectures have one or two."""
FEW_MODULES = 2500


def allowed(tensors: int) -> int:
    """How many modules a checkpoint with so many tensors can need at most."""
    return min(MOST_MODULES, max(FEW_MODULES, A_TENSOR * tensors))


@contextmanager
def at_most(modules: int) -> Iterator[None]:
    """Stop whatever this thread builds inside at a number of modules.

    Raises
    ------
    UserError
        When there would be more.
    """
    thread, count = threading.get_ident(), 0

    def note(parent: nn.Module, name: str, module: nn.Module | None) -> None:
        nonlocal count
        if threading.get_ident() != thread:
            return
        count += 1
        if count > modules:
            raise UserError(
                f"config.json describes a model of more than {modules:,} parts, which the checkpoint cannot fill or "
                "nobody has trained. Download the model again, or choose another."
            )

    hook = register_module_module_registration_hook(note)
    try:
        yield
    finally:
        hook.remove()
