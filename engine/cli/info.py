"""The command that says what a model is and what each analysis can do with it."""

import json
from typing import Annotated

import typer

from engine.request import ModelSpec


def info(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="builtin, a folder, or a hub id; without it, what opens.")
    ] = None,
    revision: Annotated[str | None, typer.Option(metavar="REVISION", help="Of the model.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Facts and abilities as JSON.")] = False,
) -> None:
    """Say what a model is and what each analysis can do with it; without a model, what opens."""
    from engine.analyses.abilities import abilities, described
    from engine.cli.terminal import line
    from engine.models.info import summary
    from engine.models.opening import describe

    if model is None:
        from engine.analyses.opens import page

        print(page(), end="")
        return
    facts = describe(ModelSpec(source=model, revision=revision))
    if as_json:
        able = {name: {"can": not reason, "because": reason} for name, reason in abilities(facts).items()}
        print(json.dumps(facts.model_dump(mode="json") | {"abilities": able}))
        return
    for text in (summary(facts), described(facts), *facts.notices):
        for part in text.splitlines():
            line(part)
