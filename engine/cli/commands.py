"""The commands and their options."""

import json
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from engine.analyses.registry import ANALYSES, get_analysis
from engine.cli.info import info
from engine.cli.terminal import WIDE, PlainTable, line, reports, say, show
from engine.cli.tune import tune
from engine.errors import UserError
from engine.request import SOURCES, DataSpec, Device, ModelSpec, Request

if TYPE_CHECKING:
    import xarray as xr

    from engine.runs.model_cache import ModelCache
    from engine.sessions.store import Run, Session

app = typer.Typer(
    help="Spectra of transformers beside their nulls. Without a command, the window opens.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

SessionPath = Annotated[Path, typer.Argument(help="A session.", metavar="NAME.eigenscope", exists=True)]
AsJson = Annotated[bool, typer.Option("--json", help="Results as JSON on standard output.")]


@app.command()
def run(
    analysis: Annotated[str | None, typer.Argument(metavar="ANALYSIS", help=f"One of: {', '.join(ANALYSES)}.")] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL", help=f"{SOURCES}; may be repeated."),
    ] = None,
    revision: Annotated[
        list[str] | None,
        typer.Option(metavar="REVISION", help="Branch, tag, commit or checkpoint; may be repeated; all for every one."),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="What adapters (LoRA) are merged into, instead of what they name."),
    ] = None,
    twin: Annotated[bool, typer.Option("--twin", help="Also a freshly initialised twin of each model.")] = False,
    tuned: Annotated[bool, typer.Option("--tuned", help="Also each model, fine-tuned on the text first.")] = False,
    tuning: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="How: epochs, learning_rate, warmup, batch, length; may be repeated."),
    ] = None,
    seeds: Annotated[
        int, typer.Option(metavar="N", min=1, max=100, help="Each of these once for each of the seeds 0 to N − 1.")
    ] = 1,
    data: Annotated[
        str | None, typer.Option(metavar="DATA", help="The text, or a .npy of token ids, for analyses that read one.")
    ] = None,
    samples: Annotated[int | None, typer.Option(metavar="N", min=1, help="How many samples of the text.")] = None,
    length: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Tokens a sample; 128, or what the models can read.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A parameter; may be repeated. See: params ANALYSIS."),
    ] = None,
    device: Annotated[Device, typer.Option(help="auto takes the GPU where there is one.")] = "auto",
    seed: Annotated[int, typer.Option(metavar="N", min=0, max=2**32 - 1, help="Of everything random.")] = 0,
    recipe: Annotated[
        str | None, typer.Option(metavar="NAME", help="A request that comes with the program, instead of ANALYSIS.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The session: made, or added to.", metavar="NAME.eigenscope")] = None,
    as_json: AsJson = False,
) -> None:
    """Compute an analysis of one or several models into a session."""
    from engine.cli.options import build_request, build_tuning
    from engine.recipes import recipe as recipe_called

    try:
        request: Request
        if recipe is not None:
            given = (analysis, model, base, revision, twin, tuned, tuning, data, samples, length, settings)
            if seeds > 1 or any(given):
                raise UserError("A recipe is a whole request: give only --out, --device, --seed and --json with it.")
            request = recipe_called(recipe).model_copy(update={"device": device, "seed": seed})
            out = out or Path(f"{recipe}.eigenscope")
        elif analysis is None or out is None:
            raise UserError("Say which analysis and where to: run ANALYSIS --model MODEL --out NAME.eigenscope.")
        else:
            request = build_request(
                analysis,
                model or ["builtin"],
                revision or [],
                twin,
                data,
                samples,
                settings or [],
                device,
                seed,
                build_tuning(tuned, tuning or []),
                seeds,
                length,
                base,
            )
    except UserError as error:
        raise typer.BadParameter(error.message) from None

    from engine.runs.loop import start
    from engine.sessions.files import is_taken
    from engine.sessions.store import Session

    with Session.open(out) if is_taken(out) else Session.create(out) as session:
        _require_writable(session)
        _carry_out(session, start(session, request), as_json)


app.command()(tune)
app.command()(info)


@app.command()
def resume(session: SessionPath, as_json: AsJson = False) -> None:
    """Finish every run of a session that is not finished; damaged units are computed again."""
    from engine.runs.model_cache import ModelCache
    from engine.sessions.store import Session

    with Session.open(session) as store:
        _require_writable(store)
        runs = store.runs()
        if not runs and not store.notices:
            raise UserError(f"There is no run in “{session}” yet.")
        models = ModelCache()
        for stored in runs:  # finished ones too: it looks at their units and result, which costs little
            _carry_out(store, stored, as_json, models, quiet=stored.finished)
        if store.notices:  # of runs that cannot be read, which nobody can finish
            raise UserError(" ".join(store.notices))


def _require_writable(session: "Session") -> None:
    if session.readonly and session.notices:
        raise UserError(" ".join(session.notices))
    session.require_writable()


def _carry_out(
    session: "Session", run: "Run", as_json: bool, models: "ModelCache | None" = None, quiet: bool = False
) -> None:
    from engine import events
    from engine.cli.follow import follow

    errors = reports()
    resumable = f"Resume with: python main.py resume {quote(str(session.path))}"
    try:
        follower = follow(session, run, errors, models)
    except KeyboardInterrupt:
        say(errors, f"Stopped at once; what was committed is kept. {resumable}")
        raise typer.Exit(130) from None
    match follower.end:
        case events.Failed(message=message, detail=detail):
            raise UserError(message, detail)
        case events.Stopped(done=done, total=total):
            say(errors, f"Cancelled: {done} of {total} units are kept. {resumable}")
            raise typer.Exit(130)
        case events.Finished(seconds=seconds, missing=missing):
            if follower.result is not None and not quiet:
                _print_result(run, follower.result.dataset, seconds, as_json)
            if missing:
                raise UserError(f"Not every model is wholly in the result. {' '.join(missing)} {resumable}")


def _print_result(run: "Run", result: "xr.Dataset", seconds: float, as_json: bool) -> None:
    from engine.cli import report

    if as_json:
        print(json.dumps(report.as_json(run, result, seconds)))
        return
    show(report.as_table(run, result), WIDE)
    for note in report.notes(result):
        line()
        line(note)
    line()
    line(f"Session: {run.session.path}")
    line(f"Result:  {run.path / 'result.zarr'}")


@app.command()
def params(
    analysis: Annotated[str, typer.Argument(metavar="ANALYSIS", help=f"One of: {', '.join(ANALYSES)}.")],
) -> None:
    """List an analysis's parameters, for --set."""
    from engine.analyses.parameters import table

    try:
        chosen = get_analysis(analysis)
    except UserError as error:
        raise typer.BadParameter(error.message) from None
    line(f"{chosen.title}: {chosen.summary}")
    line()
    listing = PlainTable("parameter", "default", "accepts", "meaning")
    for row in table(chosen):
        listing.add_row(*row)
    show(listing)


@app.command()
def verify(
    session: Annotated[
        Path | None, typer.Argument(help="A session.", metavar="NAME.eigenscope", exists=True, show_default=False)
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="A model, instead of a session.")] = None,
    revision: Annotated[str | None, typer.Option(metavar="REVISION", help="Of the model.")] = None,
    data: Annotated[str, typer.Option(metavar="DATA", help="The text that the samples are of.")] = "builtin",
    samples: Annotated[int, typer.Option(metavar="N", min=1, help="How many samples; one says it all.")] = 1,
    device: Annotated[Device, typer.Option(help="auto takes the GPU where there is one.")] = "auto",
    seed: Annotated[int, typer.Option(metavar="N", min=0, max=2**32 - 1, help="Of the draw of samples.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Compare a session's files with their checksums, or a model's Jacobians with automatic differentiation."""
    if (session is None) == (model is None):
        raise typer.BadParameter("Say what to verify: either NAME.eigenscope or --model MODEL.")
    if session is not None:
        _verify_files(session)
        return
    from engine.cli import report
    from engine.runs.verification import verify_model

    errors = reports()
    outcome = verify_model(
        ModelSpec(source=model, revision=revision),
        DataSpec(source=data, samples=samples),
        device,
        seed,
        lambda doing: say(errors, doing),
    )
    if as_json:
        print(json.dumps(report.verification_as_json(outcome)))
    else:
        heading, *rows = outcome.rows()
        listing = PlainTable(*heading)
        for row in rows:
            listing.add_row(*row)
        show(listing)
    if not outcome.passed:
        raise UserError(outcome.sentence)
    if not as_json:
        line()
        line(outcome.sentence)


def _verify_files(session: Path) -> None:
    from engine.sessions.verify import verify as compare

    report = compare(session)
    for problem in report.problems:
        line(problem)
    if report.problems:
        raise UserError(f"{len(report.problems)} problems in “{session}”. Resuming computes damaged units again.")
    line(f"{report.files} files, {report.bytes / 1e6:.1f} MB: all as committed.")


@app.command()
def export(
    session: SessionPath,
    out: Annotated[Path, typer.Option(help="A folder; made if need be.", metavar="DIR")],
    file_format: Annotated[
        Literal["csv", "npz", "netcdf", "graphml"], typer.Option("--format", help="How; graphml is for communities.")
    ] = "csv",
) -> None:
    """Write the results of a session in a format that other programs read."""
    from engine.sessions.export import export as write

    for path in write(session, file_format, out):
        line(str(path))


@app.command()
def pack(
    session: SessionPath,
    out: Annotated[Path | None, typer.Argument(help="The zip; beside the session by default.")] = None,
) -> None:
    """Make one verified zip of a session, for a colleague."""
    from engine.sessions.archive import pack as zip_up

    session = session.absolute()
    target = out or session.parent / f"{session.stem}.eigenscope.zip"
    report = zip_up(session, target)
    line(f"{target}: {report.files} files, {report.bytes / 1e6:.1f} MB, verified.")


@app.command()
def unpack(
    archive: Annotated[Path, typer.Argument(help="A zip that pack made.", exists=True, dir_okay=False)],
    out: Annotated[Path, typer.Argument(help="The session folder to make.", metavar="NAME.eigenscope")],
) -> None:
    """Make a session folder of a zip, verified."""
    from engine.sessions.archive import unpack as unzip

    report = unzip(archive, out)
    line(f"{out}: {report.files} files, {report.bytes / 1e6:.1f} MB, verified.")


@app.command()
def doctor() -> None:
    """Look at Python, Qt, PyTorch and the GPU, memory, the models, the cache and the disk."""
    from engine.doctor import examine

    checks = examine()
    for check in checks:
        line(f"{check.name:<8}{check.state:<9}{check.text}")
    if any(check.state == "problem" for check in checks):
        raise UserError("Not everything is in order; the lines marked “problem” say what to do.")
