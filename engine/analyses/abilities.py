"""Which analyses a model can have: what each needs of a model, held against what the model lacks."""

from engine.analyses.base import AnyAnalysis
from engine.analyses.registry import ANALYSES
from engine.errors import UserError
from engine.models.info import ModelInfo


def obstacle(analysis: AnyAnalysis, info: ModelInfo) -> str:
    """Why a model cannot have an analysis, in one sentence; empty where it can."""
    return next((info.lacks[need] for need in analysis.needs if need in info.lacks), "")


def abilities(info: ModelInfo) -> dict[str, str]:
    """The obstacle of every analysis of the registry, by its name."""
    return {name: obstacle(analysis, info) for name, analysis in ANALYSES.items()}


def require_able(analysis: AnyAnalysis, info: ModelInfo) -> None:
    """Refuse an analysis that a model cannot have.

    Raises
    ------
    UserError
    """
    if reason := obstacle(analysis, info):
        raise UserError(f"{analysis.title} of {info.label}: {reason} Choose another model, or another analysis.")


def described(info: ModelInfo) -> str:
    """What a model can do, in one line, and what it cannot, a line for each reason."""
    obstacles = abilities(info)
    able = [ANALYSES[name].title.lower() for name, reason in obstacles.items() if not reason]
    lines = [f"Can do: {', '.join(able) or 'nothing here'}."]
    for reason in dict.fromkeys(filter(None, obstacles.values())):
        titles = [ANALYSES[name].title.lower() for name, other in obstacles.items() if other == reason]
        lines.append(f"Cannot do {', '.join(titles)}: {reason}")
    return "\n".join(lines)
