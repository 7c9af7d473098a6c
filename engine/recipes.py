"""Requests that come with the program, by name."""

import json

from engine.errors import UserError
from engine.request import Request
from engine.resources import RESOURCES

FOLDER = RESOURCES / "recipes"


def titles() -> dict[str, str]:
    """What each recipe does, by name."""
    paths = sorted(FOLDER.glob("*.json"), key=lambda path: path.stem)
    return {path.stem: str(json.loads(path.read_text("utf-8"))["title"]) for path in paths}


def recipe(name: str) -> Request:
    """Return the request of a recipe; UserError lists the recipes if there is none of that name."""
    known_titles = titles()
    if name not in known_titles:
        there_are = "; ".join(f"{name} ({title})" for name, title in known_titles.items())
        raise UserError(f"There is no recipe called “{name}”. There are: {there_are}.")
    return Request.model_validate(json.loads((FOLDER / f"{name}.json").read_text("utf-8"))["request"])
