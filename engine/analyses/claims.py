"""A published statement with its measurement and verdict on the loaded models (methods §9)."""

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal, get_args

Verdict = Literal["holds", "fails", "cannot say"]


@dataclass(frozen=True)
class Claim:
    """One statement and its verdict; kept as JSON in the header of a result.

    `measurement` is a sentence with the number, its interval or spread, and its null; for the verdict “cannot say” it
    tells what is missing. `evidence` holds the names of the views that show it, such as “layers, trends”. A `theorem`
    is decided by mathematics, whatever the model, and not counted among the verdicts on models.

    Raises
    ------
    ValueError
        For an unknown verdict, or one without a number.
    """

    source: str
    statement: str
    measurement: str
    verdict: Verdict
    evidence: str
    theorem: bool = False

    def __post_init__(self) -> None:
        if self.verdict not in get_args(Verdict):
            raise ValueError(f"“{self.verdict}” is no verdict: it holds, it fails, or nobody can say")
        if self.verdict != "cannot say" and not re.search(r"\d", self.measurement):
            raise ValueError(f"a verdict needs its number: “{self.statement}”")


def to_json(claims: Iterable[Claim]) -> str:
    """Serialise claims for the header of a result."""
    return json.dumps([asdict(claim) for claim in claims], ensure_ascii=False)


def from_json(text: str) -> tuple[Claim, ...]:
    """The inverse of `to_json`."""
    return tuple(Claim(**record) for record in json.loads(text))
