"""The registry: one line for each analysis, loaded when it is asked for."""

from importlib import import_module
from typing import TYPE_CHECKING

from engine.errors import UserError

if TYPE_CHECKING:
    from engine.analyses.base import AnyAnalysis

ANALYSES = {
    "weights": "engine.analyses.weights:Weights",
    "jacobians": "engine.analyses.jacobians:Jacobians",
    "activations": "engine.analyses.activations:Activations",
    "gradients": "engine.analyses.gradients:Gradients",
    "attention": "engine.analyses.attention:Attention",
    "communities": "engine.analyses.communities:Communities",
}


def get_analysis(name: str) -> "AnyAnalysis":
    """Load the analysis called `name`, or say which there are."""
    if name not in ANALYSES:
        raise UserError(f"There is no analysis called “{name}”; choose one of: {', '.join(ANALYSES)}.")
    module, cls = ANALYSES[name].split(":")
    return getattr(import_module(module), cls)()
