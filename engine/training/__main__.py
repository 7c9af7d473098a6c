"""``python -m engine.training builtin NAME --out FOLDER``: train, or resume, a model that comes with the program."""

import sys
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from transformers.utils.logging import disable_progress_bar

from engine.errors import UserError
from engine.training import builtin as recipes
from engine.training.spec import TrainingProgress

app = typer.Typer(add_completion=False, no_args_is_help=True)
console = Console(stderr=True, highlight=False, markup=False)


@app.callback()
def main() -> None:
    """The project's training job."""


@app.command()
def builtin(
    name: Annotated[str, typer.Argument(help=f"One of: {', '.join(recipes.RECIPES)}")],
    out: Annotated[Path, typer.Option(help="Folder for the checkpoints; an unfinished run in it is resumed")],
    threads: Annotated[int, typer.Option(help="CPU threads", min=1)] = 1,
) -> None:
    """Train a built-in model on the built-in text and write its card."""
    if name not in recipes.RECIPES:
        raise typer.BadParameter(f"There is no built-in model “{name}”; choose one of: {', '.join(recipes.RECIPES)}.")
    torch.set_num_threads(threads)
    disable_progress_bar()  # the library's own, one for each checkpoint
    last = 0.0

    def show(progress: TrainingProgress) -> None:
        nonlocal last
        if progress.checkpoint or time.monotonic() - last > 10:
            last = time.monotonic()
            held = f"  held-out {progress.checkpoint.held_out_loss:.4f}" if progress.checkpoint else ""
            console.print(f"{progress.step}/{progress.steps}  {progress.seconds:.0f} s  loss {progress.loss:.4f}{held}")

    try:
        recipes.make(name, out, show)
    except UserError as error:
        console.print(error.message)
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("Stopped; the same command resumes from the last saved state.")
        sys.exit(130)


app()
