"""The command that fine-tunes a model on a text into a folder of its own."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from engine.cli.terminal import line, reports, say
from engine.errors import Cancelled, UserError
from engine.request import SOURCES, DataSpec, Device, ModelSpec, Tuning

if TYPE_CHECKING:
    from engine.training.spec import TrainingProgress

_DEFAULT = Tuning()


def tune(
    out: Annotated[Path, typer.Option(help="Gets the checkpoints; an unfinished one in it goes on.", metavar="FOLDER")],
    model: Annotated[str, typer.Option(metavar="MODEL", help=f"{SOURCES}.")] = "builtin",
    revision: Annotated[str | None, typer.Option(metavar="REVISION", help="Of the model.")] = None,
    data: Annotated[
        str, typer.Option(metavar="DATA", help="The text, or a .npy of token ids; its last 5 % is held out.")
    ] = "builtin",
    epochs: Annotated[float, typer.Option(metavar="N", help="Passes over the training part.")] = _DEFAULT.epochs,
    learning_rate: Annotated[float, typer.Option(metavar="X", help="The highest.")] = _DEFAULT.learning_rate,
    warmup: Annotated[float, typer.Option(metavar="SHARE", help="Of the steps, linear.")] = _DEFAULT.warmup,
    batch: Annotated[int, typer.Option(metavar="N", help="Windows a step.")] = _DEFAULT.batch,
    length: Annotated[int, typer.Option(metavar="N", help="Tokens a window.")] = _DEFAULT.length,
    history: Annotated[bool, typer.Option("--history", help="Keep the start and every epoch as checkpoints.")] = False,
    device: Annotated[Device, typer.Option(help="auto takes the GPU where there is one.")] = "auto",
    seed: Annotated[int, typer.Option(metavar="N", min=0, max=2**32 - 1, help="Of everything random.")] = 0,
) -> None:
    """Fine-tune a causal or masked model on a text; the same command resumes what was stopped."""
    from engine.analyses.parameters import checked
    from engine.cli.follow import interruptible
    from engine.runs.device import resolve_device
    from engine.training.tuning import tune as carry_out

    values = {"epochs": epochs, "learning_rate": learning_rate, "warmup": warmup, "batch": batch, "length": length}
    try:
        spec = ModelSpec(source=model, revision=revision, tuning=checked(Tuning, values, "fine-tuning"))
    except UserError as error:
        raise typer.BadParameter(error.message) from None
    console = reports()
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading the text", total=None)

        def show(progress: "TrainingProgress") -> None:
            loss = "" if math.isnan(progress.loss) else f"loss {progress.loss:.4f}"
            bar.update(task, total=progress.steps, completed=progress.step, description=loss)
            if progress.checkpoint:
                at = f"step {progress.step} of {progress.steps}, {progress.seconds:.0f} s"
                say(console, f"{at}: {_measured(progress.checkpoint.held_out_loss)} on the held-out part")

        try:
            with interruptible(lambda: say(console, "Stopping; Ctrl-C again to stop at once.")) as cancelled:
                device_name = resolve_device(device)
                record = carry_out(
                    spec, DataSpec(source=data), seed, device_name, out, show, cancelled.is_set, history=history
                )
        except (Cancelled, KeyboardInterrupt):
            say(console, "Stopped; the same command goes on from the last saved state.")
            raise typer.Exit(130) from None
    before, after = record.checkpoints[0], record.checkpoints[-1]
    line(f"before  {_measured(before.held_out_loss)}")
    line(f"after   {_measured(after.held_out_loss)}  ({record.steps} steps, {record.seconds:.0f} s)")
    line()
    line(f"Model: {out / after.name}")
    line(f"Curve: {out / 'training.json'}")


def _measured(loss: float) -> str:
    return f"loss {loss:.4f}, perplexity {math.exp(min(loss, 700)):.2f}"
