"""The architecture is a test, not a wish."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "transformers", "datasets", "matplotlib", "xarray", "zarr", "pandas", "netCDF4")


def tracked(*suffixes: str) -> list[Path]:
    """The project's own files: those that git knows, or, in a copy without git, those of its folders."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    names = listed.stdout.split("\0") if listed.returncode == 0 else [str(p.relative_to(ROOT)) for p in _walk()]
    return [ROOT / name for name in names if name.endswith(suffixes) and (ROOT / name).is_file()]


def _walk() -> list[Path]:
    folders = ("engine", "gui", "tests", "benchmarks", "packaging", "resources", ".ci")
    return [path for name in folders for path in (ROOT / name).rglob("*")] + list(ROOT.glob("*"))


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"QT_QPA_PLATFORM": "offscreen"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def imports() -> dict[str, set[str]]:
    """Which modules of `engine` and `gui` each of them names in its imports, wherever in the file these stand.

    Imports for type checking and inside functions count; ``from package import submodule`` is the submodule. That a
    package is imported on the way to what lies in it does not count.
    """
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in tracked(".py")
        if path.relative_to(ROOT).parts[0] in ("engine", "gui")
    }

    def named(module: str) -> set[str]:
        names = set()
        for node in ast.walk(ast.parse(files[module].read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{module} has an import that does not say where from"
                below = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
                names |= {name if name in files else str(node.module) for name in below.values()}
        return names & files.keys() - {module}

    return {module: named(module) for module in files}


def circle(edges: dict[str, set[str]]) -> list[str]:
    """The modules of one circle of imports, the first of them again at the end; none where there is no circle."""
    clear: set[str] = set()

    def follow(path: list[str]) -> list[str]:
        for module in sorted(edges[path[-1]] - clear):
            if module in path:
                return [*path[path.index(module) :], module]
            if way := follow([*path, module]):
                return way
        clear.add(path[-1])
        return []

    return next(filter(None, (follow([module]) for module in sorted(edges))), [])


def test_circles_are_found_and_named() -> None:
    assert circle({"a": {"b"}, "b": {"c", "d"}, "c": set(), "d": {"b", "c"}}) == ["b", "d", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    edges = imports()
    assert "engine.analyses.base" in edges["engine.analyses.header"]  # at the top
    assert "engine.sessions.store" in edges["engine.sessions.models"]  # for type checking
    assert "engine.spectra.cost" in edges["engine.analyses.jacobians.plan"]  # inside a function
    assert "gui.views.claims" in edges["gui.views.attention.views"]  # a module from its package
    assert " -> ".join(circle(edges)) == ""


def test_the_import_contracts_hold() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.parametrize(
    "module", ["gui.app", "engine.runs.jobs.process", "engine.cli.commands", "engine.sessions.store"]
)
def test_what_is_needed_at_once_imports_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*(set({HEAVY!r}) & set(sys.modules)))"
    assert python(code).split() == []


def test_the_window_shows_without_torch() -> None:
    code = (
        "import sys, main, engine.analyses as a\n"
        "from PySide6.QtWidgets import QApplication\n"
        "import gui.app, gui.window\n"
        "print(*({'torch', 'transformers', 'datasets'} & set(sys.modules)))"
    )
    assert python(code).split() == []


def test_the_engine_runs_where_there_is_no_qt() -> None:
    code = (
        "import sys\n"
        "class NoQt:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('PySide6', 'pyqtgraph', 'superqt', 'gui'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, NoQt())\n"
        "import importlib, pkgutil, engine\n"
        "for found in pkgutil.walk_packages(engine.__path__, 'engine.'):\n"
        "    if not found.name.endswith('__main__'):\n"
        "        importlib.import_module(found.name)\n"
        "print('engine.cli.commands' in sys.modules)"
    )
    assert python(code).split()[-1] == "True"


def test_every_file_can_be_read_in_one_sitting() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in tracked(".py")
        if (lines := len(path.read_text("utf-8").splitlines())) > 400
    }
    assert long == {}


def test_no_path_of_one_machine_and_no_index_address() -> None:
    # Built from pieces, so that this file does not find itself.
    places = "|".join(["/ho" + "me/", "/ro" + "ot/", "/Us" + "ers/", "/wo" + "rk/", "/o" + "pt/", "/tm" + "p/"])
    forbidden = re.compile(
        rf"(?:^|[\s\"'`=(])(?:{places})\w"
        + "|".join(["", "index" + "-url", "find" + "-links", "py" + "pi" + r"\.org", "--tru" + "sted-host"])
    )
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in tracked(
            ".py", ".toml", ".txt", ".md", ".sh", ".json", ".cfg", ".desktop", "Makefile", "run", ".svg"
        )
        if "models" not in path.relative_to(ROOT).parts[:2]  # vocabularies hold any word
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if forbidden.search(line)
    ]
    assert found == []


def test_the_makefile_has_the_commands_that_the_readme_names() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z]+)\b", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE))
    assert {"setup", "run", "test", "lint", "bench", "clean"} <= targets
    assert named <= targets
    assert "make test" in (ROOT / ".ci" / "run").read_text("utf-8")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_every_declared_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = project["dependencies"] + [name for extra in project["optional-dependencies"].values() for name in extra]
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
        if "==" in line
    }
    names = {re.split(r"[<>=!~\[ ]", name)[0].lower().replace("_", "-") for name in wanted}
    assert names - pinned == set()


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in tracked(".py")
        if path.read_text("utf-8").strip() and not ast.get_docstring(ast.parse(path.read_text("utf-8")))
    ]
    assert silent == []
