"""Labels of result variables live in their declaration: no folder of the window keeps a table of its own."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.analyses.registry import ANALYSES

ROOT = Path(__file__).resolve().parents[3]
GUI = ROOT / "gui"
NAMES = {variable.name for analysis in ANALYSES.values() for variable in analysis.variables}
NO_TEXT = re.compile(rf"c\d|{'|'.join(NAMES)}")
FOLDERS = sorted({path.parent for path in GUI.rglob("*.py")})


def tables(source: str) -> Iterator[tuple[int, list[str]]]:
    """Line and names of each literal that gives texts to two or more result variables.

    It may be a dict by name, or a tuple or list of tuples that begin with the name. Names of other variables and
    colours are no texts.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Dict):
            rows = list(zip(node.keys, map(_parts, node.values), strict=True))
        elif isinstance(node, ast.Tuple | ast.List):
            rows = [(row.elts[0], row.elts[1:]) for row in node.elts if isinstance(row, ast.Tuple) and row.elts]
        else:
            continue
        names = [key.value for key, parts in rows if _is_name(key) and any(map(_is_text, parts))]
        if len(names) > 1:
            yield node.lineno, names


def _parts(value: ast.expr) -> list[ast.expr]:
    return value.args if isinstance(value, ast.Call) else value.elts if isinstance(value, ast.Tuple) else [value]


def _is_name(key: ast.expr | None) -> bool:
    return isinstance(key, ast.Constant) and key.value in NAMES


def _is_text(part: ast.expr) -> bool:
    if isinstance(part, ast.JoinedStr):
        return True
    return isinstance(part, ast.Constant) and isinstance(part.value, str) and not NO_TEXT.fullmatch(part.value)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_table_of_labels_beside_the_declaration(folder: Path) -> None:
    kept = [
        f"{path.relative_to(ROOT)}:{line}: {', '.join(names)}"
        for path in folder.glob("*.py")
        for line, names in tables(path.read_text("utf-8"))
    ]
    assert kept == []


@pytest.mark.parametrize(
    "source",
    [
        '{"npr": "NPR", "entropy": "H"}',
        '{"npr": Kind("NPR"), "entropy": ("H", "nats")}',
        '(("npr", "NPR"), ("kappa", "κ"))',
    ],
)
def test_tables_are_noticed(source: str) -> None:
    assert [len(names) for _, names in tables(source)] == [2]


@pytest.mark.parametrize(
    "source",
    [
        '("npr", "entropy")',
        '{"npr": 1, "entropy": 2}',
        '{"npr": "q_npr", "entropy": "q_entropy"}',
        '{"npr": "NPR", "other": "text"}',
        '(("npr", "c0"), ("entropy", "c1"))',
    ],
)
def test_other_literals_are_none(source: str) -> None:
    assert list(tables(source)) == []
