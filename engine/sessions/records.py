"""What the sealed JSON files of a session must hold, each value of exactly its type."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from engine.models.info import ModelInfo
from engine.request import Request

KEY = r"[A-Za-z0-9_-]+"
COUNTS = (
    "n_layers",
    "d_model",
    "n_heads",
    "n_kv_heads",
    "d_head",
    "vocab_size",
    "context",
    "n_parameters",
    "load_bytes",
)


def _in_iso_8601(text: str) -> str:
    datetime.fromisoformat(text)
    return text


def _counted(info: ModelInfo) -> ModelInfo:
    if any(getattr(info, name) < 0 for name in COUNTS):
        raise ValueError("counts are not negative")
    return info


def _unique(keys: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(keys)) < len(keys):
        raise ValueError("keys are unique")
    return keys


class Record(BaseModel):
    """Validate with `model_validate_json`: there a list may stand for a tuple, and nothing else is converted."""

    model_config = ConfigDict(strict=True, frozen=True)


class Head(Record):
    """``session.json``: whose it is and how it is to be read."""

    format: str
    schema_version: int = Field(alias="schema", ge=1)


class RunRecord(Record):
    """``run.json``: what a run was asked to do."""

    created: Annotated[str, AfterValidator(_in_iso_8601)]
    request: Request
    models: tuple[Annotated[ModelInfo, AfterValidator(_counted)], ...]
    plan: Annotated[tuple[Annotated[str, StringConstraints(pattern=rf"^{KEY}$")], ...], AfterValidator(_unique)]
    provenance: dict[str, Any]


class FileRecord(Record):
    """A line of a manifest."""

    size: int = Field(ge=0)
    blake2b: str


class UnitMeta(Record):
    """What is read of the facts beside a unit; others are kept as they are."""

    seconds: float = Field(0.0, ge=0, allow_inf_nan=False)
    peak_bytes: int = Field(0, ge=0)
    tuned: str | None = None


def _readable(meta: dict[str, Any]) -> dict[str, Any]:
    UnitMeta.model_validate(meta)
    return meta


class Manifest(Record):
    """``manifest.json`` of a committed folder."""

    files: dict[str, FileRecord]
    meta: Annotated[dict[str, Any], AfterValidator(_readable)]


class View(Record):
    """The settings of a view."""

    settings: dict[str, Any]
