"""An analysis's parameters as people read and write them: checked values, and a table made from their declaration."""

import json
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, TypeVar, get_origin

from pydantic import BaseModel, ValidationError

from engine.analyses.base import AnyAnalysis, Params
from engine.errors import UserError

M = TypeVar("M", bound=BaseModel)


def validate(analysis: AnyAnalysis, values: Mapping[str, Any]) -> Params:
    """Make the analysis's parameters from JSON values or from text such as ``"200"``, ``"true"`` and ``"attn,mlp"``.

    Raises
    ------
    UserError
        One sentence that names the parameter, what was given, and what would do.
    """
    params: Params = checked(analysis.params, values, f"“{analysis.name}”")
    return params


def checked(model: type[M], values: Mapping[str, Any], what: str) -> M:
    """Make a `model` of such values; `what` is how the sentence about a wrong one calls it."""
    lists = {name for name, field in model.model_fields.items() if get_origin(field.annotation) is tuple}
    try:
        return model.model_validate(
            {
                name: [part.strip() for part in value.split(",")] if name in lists and isinstance(value, str) else value
                for name, value in values.items()
            }
        )
    except ValidationError as invalid:
        raise UserError(_sentence(list(model.model_fields), what, invalid)) from None


def _sentence(known: list[str], what: str, invalid: ValidationError) -> str:
    problems = []
    for error in invalid.errors():
        name = ".".join(str(part) for part in error["loc"])
        if error["type"] == "extra_forbidden":
            near = get_close_matches(name, known, n=1)
            advice = f"did you mean “{near[0]}”?" if near else f"choose among {', '.join(known)}."
            problems.append(f"{what} has no parameter “{name}”; {advice}")
        else:
            reason = error["msg"].removeprefix("Value error, ").rstrip(".")
            at = f"“{name}”" if name else "These parameters together"
            given = f", and {error['input']!r} was given" if name else ""
            problems.append(f"{at} of {what} cannot be used: {reason[0].lower()}{reason[1:]}{given}.")
    return " ".join(problems)


def table(analysis: AnyAnalysis) -> list[tuple[str, str, str, str]]:
    """One row for each parameter: its name, default, what it accepts, and what it means."""
    schema = analysis.params.model_json_schema()
    return [
        (name, _text(field.get("default")), _accepts(field), _meaning(field))
        for name, field in schema.get("properties", {}).items()
    ]


def _accepts(field: dict[str, Any]) -> str:
    if "enum" in field:
        return " | ".join(_text(value) for value in field["enum"])
    if "anyOf" in field:
        return " | ".join(_accepts(option) for option in field["anyOf"])
    if "const" in field:
        return _text(field["const"])
    low = field.get("minimum", field.get("exclusiveMinimum"))
    high = field.get("maximum", field.get("exclusiveMaximum"))
    bounds = {
        (True, True): f" {low} to {high}",
        (True, False): f" from {low}",
        (False, True): f" up to {high}",
        (False, False): "",
    }[low is not None, high is not None]
    names = {
        "boolean": "true | false",
        "null": "null",
        "array": "values a,b,…",
        "integer": "integer",
        "number": "number",
    }
    unit = f" {field['unit']}" if field.get("unit") else ""
    return f"{names.get(field.get('type', ''), 'text')}{bounds}{unit}"


def _meaning(field: dict[str, Any]) -> str:
    return ": ".join(part for part in (field.get("title"), field.get("description")) if part)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
