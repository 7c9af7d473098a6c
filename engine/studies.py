"""The five studies that the program puts to the test: their names wherever a person reads them.

Code, and the claims that results keep on disk, cite S0 to S4 (``docs/references.md``); what a person reads names the
study. `cited` turns the one into the other.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Study:
    """How a study is cited: `authors` by surname, `year`, and its full `title`."""

    authors: str
    year: int
    title: str

    @property
    def short(self) -> str:
        """Authors and year, such as “Adkine 2025”."""
        return f"{self.authors} {self.year}"


STUDIES: Mapping[str, Study] = MappingProxyType(
    {
        "S0": Study("Vo and Tong", 2025, "Analyzing Spectral Information of Transformers"),
        "S1": Study("Liu, Paquette and Sous", 2025, "Evolution of the Spectral Dimension of Transformer Activations"),
        "S2": Study("Adkine", 2025, "Spectral Properties of Attention Matrices in Transformer Models"),
        "S3": Study(
            "Fernando and Guitchounts",
            2026,
            "Dynamics of the Transformer Residual Stream: Coupling Spectral Geometry to Network Topology",
        ),
        "S4": Study("Angerami", 2026, "Singular Value Structure of Transformer Attention Heads"),
    }
)

_KEY = re.compile(r"\bS[0-4]\b(?P<genitive>['’]s\b)?(?P<place> (?=§|eq\.|figs?\.?|table|[A-E]\.))?")


def cited(text: str) -> str:
    """The text with every key S0 to S4 in it replaced by the study's name.

    “S2 eq. 5” becomes “Adkine 2025, eq. 5”, and “S2’s criterion” “Adkine’s criterion”.
    """

    def name(found: re.Match[str]) -> str:
        study = STUDIES[found[0][:2]]
        if found["genitive"]:
            return f"{study.authors}’s{found['place'] or ''}"
        return study.short + (", " if found["place"] else "")

    return _KEY.sub(name, text)
