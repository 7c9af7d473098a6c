"""The command line: results on standard output, progress on standard error."""

import json
import sys
from typing import Annotated

import typer

from benchmarks import BENCHMARKS, harness


def main(
    names: Annotated[list[str] | None, typer.Argument(help=f"Which: {', '.join(BENCHMARKS)}. All by default.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Time Eigenscope against the published methods and check that the numbers agree. Exit 1 if a demand is missed."""
    if unknown := [name for name in names or [] if name not in BENCHMARKS]:
        raise typer.BadParameter(f"There is no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}.")
    results = []
    for name in names or BENCHMARKS:
        print(f"{name} …", file=sys.stderr, flush=True)
        results.append(harness.run(name))
        if not as_json:
            print("\n".join(results[-1].lines()), flush=True)
    if as_json:
        print(json.dumps([result.as_json() for result in results], indent=2))
    if not all(met for result in results for met in result.demands.values()):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
