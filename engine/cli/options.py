"""From the words on the command line to a Request."""

import json
from collections.abc import Sequence
from typing import Any

from engine.analyses.parameters import checked, validate
from engine.analyses.registry import get_analysis
from engine.errors import UserError
from engine.request import DataSpec, Device, ModelSpec, Request, Tuning, conditions

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
    tuning: Tuning | None = None,
    seeds: int = 1,
    length: int | None = None,
    base: str | None = None,
) -> Request:
    """Put the options together and check them against the analysis's own declaration.

    Every model is taken at every revision; ``all`` (or ``*``) stands for all its checkpoints. A twin depends on the
    config alone, so there is one for each model, made at its last revision; that is also the one that is fine-tuned.
    `base` is what the other models, which are adapters, are merged into.

    Raises
    ------
    UserError
        One sentence that names the option which cannot be used.
    """
    wanted = get_analysis(analysis)
    specs: list[ModelSpec] = []
    for source in sources:
        at: list[str | None] = [*(_every_checkpoint(source) if EVERY & set(revisions) else revisions)] or [None]
        into = base if source != base else None
        pretrained = [ModelSpec(source=source, revision=revision, base=into) for revision in at]
        specs += conditions(pretrained, tuning=tuning, twin=twin, seeds=seeds, reads_text=wanted.needs_data)
    reads = wanted.needs_data or tuning is not None
    chosen = {"source": data, "samples": samples, "length": length}
    if not reads and any(value is not None for value in chosen.values()):
        raise UserError(f"“{analysis}” reads no text, so --data, --samples and --length have no meaning for it.")
    text = DataSpec.model_validate({name: value for name, value in chosen.items() if value is not None})
    return Request(
        analysis=analysis,
        params=validate(wanted, dict(map(_setting, settings))).model_dump(mode="json"),
        models=tuple(specs),
        data=text if reads else None,
        device=device,
        seed=seed,
    )


def build_tuning(tuned: bool, settings: Sequence[str]) -> Tuning | None:
    """How models are fine-tuned, where that is asked for: a setting alone asks for it too."""
    if not tuned and not settings:
        return None
    return checked(Tuning, dict(_setting(text, "--tuning") for text in settings), "fine-tuning")


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


def _setting(text: str, option: str = "--set") -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UserError(f"{option} takes name=value, and “{text}” is not that.")
    # Numbers and booleans stay text, which the declaration itself turns into what it wants; only JSON can say a list.
    if value[:1] in ("[", "{") or value == "null":
        try:
            return name, json.loads(value)
        except ValueError as error:
            raise UserError(f"{option} {name}: “{value}” is not JSON ({error}).") from None
    return name, value
