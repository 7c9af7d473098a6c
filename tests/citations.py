"""What the documentation defines, what a text cites of it, and what a person reads: for the test of citations."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from engine.studies import STUDIES

KEY = re.compile(r"\bS[0-4]\b")
_NAMES = {study.short: key for key, study in STUDIES.items()}
_STUDY = re.compile(rf"(?:\bS[0-4]\b|{'|'.join(map(re.escape, _NAMES))})(?:['’]s)?")
_GAP = re.compile(r"(?:[,;]| and)? \(?")
_ITEM = r"S?\d+[a-z]?\b"
_NUMBERED = re.compile(
    rf"(?P<kind>fig(?:ure)?|eq(?:uation)?|table)s?\.? (?P<items>{_ITEM}(?:(?:,? and |, |–|-){_ITEM})*)", re.IGNORECASE
)
_SECTION = re.compile(r"§\d+(?:\.\d+)*(?:, \d\b)?|[A-E]\.\d\b|[A-E](?=[,;.)\]])")
_KINDS = {"figure": "fig.", "fig": "fig.", "equation": "eq.", "eq": "eq.", "table": "table"}
_METHODS_SECTION = re.compile(
    r"\bmethods §(?P<items>\d+(?:\.\d+)*(?:(?:, §|–§?| and §)\d+(?:\.\d+)*)*)(?:, [\"“](?P<name>[^\"”]+)[\"”])?",
    re.IGNORECASE,
)
_METHODS_EQUATION = re.compile(r"\bmethods eqs?\. (?P<items>\d+\.\d+(?:(?:, |–| and )\d+\.\d+)*)", re.IGNORECASE)
# Surnames and a year: “Hubert and Arabie 1985”, “Devlin et al. (2019)”.
_SURNAME = r"(?:[Vv]an )?[A-ZÀ-Ý](?:[^\W\d_]|-)+"
_WORK = re.compile(
    rf"\b(?P<first>{_SURNAME})(?:(?:, {_SURNAME})*,? and {_SURNAME}| et al\.)?,? \(?(?P<year>(?:1[89]|20)\d\d)\b"
)


@dataclass(frozen=True)
class Documentation:
    """Everything that can be cited.

    Attributes
    ----------
    sections : dict
        Of the methods: the number, and the headings below it.
    equations : frozenset of str
        Numbers of the methods' equations.
    places : dict
        For each study its figures, tables, equations and sections, as ``fig. 4``, ``§3.1``, ``A.5``.
    works : frozenset
        Surname of the first author and year of everything else.
    """

    sections: dict[str, tuple[str, ...]]
    equations: frozenset[str]
    places: dict[str, frozenset[str]]
    works: frozenset[tuple[str, int]]

    @classmethod
    def read(cls, methods: str, references: str) -> "Documentation":
        """From the text of ``docs/methods.md`` and ``docs/references.md``."""
        sections: dict[str, list[str]] = {}
        number = ""
        for heading in re.findall(r"^#{2,} (.+)$", methods, re.MULTILINE):
            found = re.match(r"§(\d+(?:\.\d+)*) ", heading)
            number = found[1] if found else number
            sections.setdefault(number, []).append(heading)
        studies, _, others = references.partition("\n## Methods by others")
        places = {
            part[:2]: frozenset(re.findall(r"^\| ([^|]+?) \|", part, re.MULTILINE)) - {"place", "---"}
            for part in studies.split("\n### ")[1:]
        }
        entries = re.findall(r"^- ([^\W\d_][\w-]+|Van Dooren), .*?\((\d{4})\)", _one_line(others), re.MULTILINE)
        return cls(
            {number: tuple(names) for number, names in sections.items()},
            frozenset(re.findall(r"\(eq\. (\d+\.\d+)\)$", methods, re.MULTILINE)),
            places,
            frozenset((name, int(year)) for name, year in entries)
            | {(study.authors.split(",")[0].split(" ")[0], study.year) for study in STUDIES.values()},
        )

    def missing(self, text: str) -> list[str]:
        """The citations in a text of what is not there."""
        flat = re.sub(r"\s*\n\s*(?:# ?)?", " ", text)
        return [said for said, there in self._citations(flat) if not there]

    def _citations(self, text: str) -> Iterator[tuple[str, bool]]:
        for found in _STUDY.finditer(text):
            key, at = found[0][:2] if KEY.match(found[0]) else _NAMES[re.sub("['’]s$", "", found[0])], found.end()
            while (gap := _GAP.match(text, at)) is not None:
                if numbered := _NUMBERED.match(text, gap.end()):
                    kind, items = _KINDS[numbered["kind"].lower()], _expanded(numbered["items"])
                    # A panel of a figure that has no entries of its own is the figure's.
                    there = all({f"{kind} {i}", f"{kind} {i.rstrip('abcdefgh')}"} & self.places[key] for i in items)
                elif numbered := _SECTION.match(text, gap.end()):
                    there = numbered[0] in self.places[key]
                else:
                    break
                at = numbered.end()
                yield text[found.start() : at], there
        for found in _METHODS_SECTION.finditer(text):
            headings = [self.sections.get(item, ()) for item in _expanded(found["items"].replace("§", ""))]
            yield found[0], all(headings)
            if found["name"] is not None:
                yield found[0], any(found["name"] in names for names in headings)
        for found in _METHODS_EQUATION.finditer(text):
            yield found[0], set(_expanded(found["items"])) <= self.equations
        for found in _WORK.finditer(text):
            yield found[0], (found["first"], int(found["year"])) in self.works


def _one_line(entries: str) -> str:
    """List items that go over several lines, one to a line."""
    return re.sub(r"\n  +", " ", entries)


def _expanded(items: str) -> list[str]:
    """“1, 3–5 and S2” as its members."""
    members = []
    for part in re.split(r",? and |, ", items):
        ends = re.split(r"[–-]", part)
        if len(ends) == 1:
            members.append(part)
            continue
        (lead, first), (_, last) = (_split_number(end) for end in ends)
        members += [f"{lead}{number}" for number in range(first, last + 1)]
    return members


def _split_number(item: str) -> tuple[str, int]:
    """“7.2” as “7.” and 2, “S6” as “S” and 6."""
    found = re.fullmatch(r"(.*?)(\d+)", item)
    assert found is not None, item
    return found[1], int(found[2])


def spoken(source: str) -> list[tuple[int, str]]:
    """The string literals of a Python file that a person may read, with their lines.

    Docstrings are not read, and in what goes through ``cited`` there are names by then.
    """
    tree = ast.parse(source)
    silent = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            silent.add(id(node.value))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "cited":
            silent.update(map(id, ast.walk(node)))
    literals = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return sorted((node.lineno, node.value) for node in literals if id(node) not in silent)


def bare_keys(path: Path) -> list[str]:
    """Where a file says S0 to S4 to a person instead of naming the study."""
    text = path.read_text("utf-8")
    pieces = spoken(text) if path.suffix == ".py" else enumerate(text.splitlines(), 1)
    return [f"{path.name}:{line}: {piece.strip()[:80]}" for line, piece in pieces if KEY.search(piece)]


def texts(value: Any) -> Iterator[str]:
    """Every text of a figure: titles, axes, labels, notes, tables."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from texts(part)
    elif is_dataclass(value):
        for field in fields(value):
            yield from texts(getattr(value, field.name))
