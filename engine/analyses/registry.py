"""The registry of analyses: one line each, in the order of their tabs."""

from engine.analyses.activations.analysis import ACTIVATIONS
from engine.analyses.attention.analysis import ATTENTION
from engine.analyses.base import AnyAnalysis
from engine.analyses.communities.analysis import COMMUNITIES
from engine.analyses.gradients.analysis import GRADIENTS
from engine.analyses.jacobians.analysis import JACOBIANS
from engine.analyses.variables import Variable
from engine.analyses.weights.analysis import WEIGHTS
from engine.errors import UserError

ANALYSES: dict[str, AnyAnalysis] = {
    analysis.name: analysis
    for analysis in (
        WEIGHTS,
        JACOBIANS,
        ACTIVATIONS,
        GRADIENTS,
        ATTENTION,
        COMMUNITIES,
    )
}


def get_analysis(name: str) -> AnyAnalysis:
    """The analysis called `name`.

    Raises
    ------
    UserError
        If there is none; the sentence lists those there are.
    """
    if name not in ANALYSES:
        raise UserError(f"There is no analysis called “{name}”; choose one of: {', '.join(ANALYSES)}.")
    return ANALYSES[name]


def variables_of(analysis: str) -> dict[str, Variable]:
    """The declared variables of an analysis by name; of two with one name, which differ in their dims, the first."""
    variables: dict[str, Variable] = {}
    for variable in get_analysis(analysis).variables:
        variables.setdefault(variable.name, variable)
    return variables
