"""From the words on the command line to a Request."""

import json
from collections.abc import Sequence
from typing import Any

from engine.analyses import get_analysis
from engine.analyses.parameters import validate
from engine.errors import UserError
from engine.request import DataSpec, Device, ModelSpec, Request

EVERY = {"all", "*"}


def build_request(
    analysis: str,
    sources: Sequence[str],
    revisions: Sequence[str],
    twin: bool,
    data: str | None,
    samples: int | None,
    settings: Sequence[str],
    device: Device,
    seed: int,
) -> Request:
    """Put the options together and check them against the analysis's own declaration.

    Every model is taken at every revision; ``all`` (or ``*``) stands for all its checkpoints. A twin depends on the
    config alone, so there is one for each model, made at its last revision.

    Raises
    ------
    UserError
        One sentence that names the option which cannot be used.
    """
    wanted = get_analysis(analysis)
    specs = []
    for source in sources:
        at: list[str | None] = [*(_every_checkpoint(source) if EVERY & set(revisions) else revisions)] or [None]
        specs += [ModelSpec(source=source, revision=revision) for revision in at]
        if twin:
            specs.append(ModelSpec(source=source, revision=at[-1], twin=True))
    if not wanted.needs_data and (data is not None or samples is not None):
        raise UserError(f"“{analysis}” reads no text, so --data and --samples have no meaning for it.")
    chosen = {"source": data, "samples": samples}
    text = DataSpec.model_validate({name: value for name, value in chosen.items() if value is not None})
    return Request(
        analysis=analysis,
        params=validate(wanted, dict(map(_setting, settings))).model_dump(mode="json"),
        models=tuple(specs),
        data=text if wanted.needs_data else None,
        device=device,
        seed=seed,
    )


def _every_checkpoint(source: str) -> tuple[str, ...]:
    """All checkpoints of a built-in model or a folder; of a hub model the revisions whose names say a step."""
    from engine.models.progress import named_step
    from engine.models.source import checkpoints, local

    names = checkpoints(source)
    if local(source) is None:
        names = tuple(
            sorted((name for name in names if named_step(name) is not None), key=lambda name: named_step(name) or 0)
        )
    if not names:
        raise UserError(f"{source} has no checkpoints to take all of: name its revisions, or leave --revision out.")
    return names


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UserError(f"--set takes name=value, and “{text}” is not that.")
    # Numbers and booleans stay text, which the declaration itself turns into what it wants; only JSON can say a list.
    if value[:1] in ("[", "{") or value == "null":
        try:
            return name, json.loads(value)
        except ValueError as error:
            raise UserError(f"--set {name}: “{value}” is not JSON ({error}).") from None
    return name, value
