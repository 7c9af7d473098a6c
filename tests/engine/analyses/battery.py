"""What every analysis promises, as checks to run on any of them: the model is scikit-learn's estimator checks.

An analysis in the registry is examined as it stands; `subjects.ENTRIES` holds small parameters where its defaults take
too long, and what it does not promise.
"""

import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import cycle
from pathlib import Path
from typing import Any, get_args, get_origin

import numpy as np
import pytest
import torch
import xarray as xr
from rich.console import Console
from run_parts import go_on
from subjects import Subject

from engine.analyses.header import Header
from engine.analyses.variables import declared
from engine.cli.report import as_json, as_table
from engine.errors import UserError
from engine.models.blocks import block_row
from engine.runs.loop import start
from engine.sessions.export import export
from engine.sessions.store import Session
from gui.plots.export.numbers import write_csv
from gui.plots.figure import Figure
from gui.plots.selection import Selection
from gui.views.inspection import Inspection
from gui.views.trajectories.views import trajectory_views

Check = Callable[[Subject], None]


def absent(values: np.ndarray) -> np.ndarray:
    """Where a value says that it is not there: NaN, −1 among whole numbers, empty text."""
    if values.dtype.kind in "fc":
        return np.isnan(values)
    if values.dtype.kind == "i":
        return values == -1
    return values == "" if values.dtype.kind in "UTO" else np.zeros(values.shape, bool)


def same(a: xr.DataArray, b: xr.DataArray) -> bool:
    return a.shape == b.shape and a.variable.equals(b.variable)


def check_runs(subject: Subject) -> None:
    """From a request to a committed result that knows what it is, with something of every layer."""
    run, result = subject.run(), subject.result()
    assert run.finished
    assert run.committed() == set(run.plan)
    header = Header.of(result)
    assert header.analysis == subject.name
    assert header.request == run.request
    assert header.models == run.models
    assert header.definition == subject.analysis.definition
    statistics = [
        result[name]
        for name, variable in declared(subject.analysis.variables, subject.params()).items()
        if variable.role == "statistic" and "layer" in variable.dims
    ]
    for m, info in enumerate(run.models):
        for layer in range(info.n_layers):
            assert any(np.isfinite(of.isel(model=m, layer=layer)).any() for of in statistics), f"nothing of {layer}"


def check_resumes(subject: Subject) -> None:
    """A run that stops after every unit, and is resumed by another process each time, is the same run."""
    run = start(subject.session, subject.request())
    for units in range(1, len(run.plan)):
        go_on(subject.session, run, stop_after=units)
        assert len(run.committed()) == units
        assert not run.finished
    go_on(subject.session, run)
    again = run.result()
    assert again is not None
    assert again.drop_attrs().identical(subject.result().drop_attrs())


def check_halves(subject: Subject) -> None:
    """Where memory runs out, batches are halved, and nothing is lost or counted twice."""
    with pytest.MonkeyPatch.context() as patch, poor_device(subject, patch) as refused:
        halved = subject.computed()
    assert bool(refused) == subject.analysis.needs_data  # weights alone go through no model
    for name, values in subject.computed().drop_vars(subject.entry.rounding).data_vars.items():
        if values.dtype.kind in "fc":
            scale = np.nanmax(np.abs(np.where(np.isfinite(values), values, 0)), initial=0)
            np.testing.assert_allclose(halved[name], values, rtol=1e-6, atol=1e-9 * scale, err_msg=str(name))
        else:
            assert same(halved[name], values), name


@contextmanager
def poor_device(subject: Subject, patch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """No room for more than a third of the samples in a block; the list is the batches that were refused.

    The block is the last one: where there are several, something of each batch is measured before.
    """
    refused: list[int] = []
    errors = cycle(
        (
            torch.OutOfMemoryError("CUDA out of memory"),
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
            MemoryError(),
        )
    )

    def need(size: int) -> None:
        if size > subject.entry.samples // 3:
            refused.append(size)
            raise next(errors)

    def enter(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        need(len(args[0] if args else kwargs["hidden_states"]))

    (spec,) = subject.request().models
    block = block_row(subject.workshop.opened(spec).module())[-1][1]
    hook = block.register_forward_pre_hook(enter, with_kwargs=True)
    if subject.entry.crowded is not None:
        name, size_of = subject.entry.crowded
        path, _, attribute = name.rpartition(".")
        function = getattr(import_module(path), attribute)

        def crowded(first: Any, *rest: Any, **named: Any) -> Any:
            need(size_of(first))
            return function(first, *rest, **named)

        patch.setattr(name, crowded)
    try:
        yield refused
    finally:
        hook.remove()


def check_threads(subject: Subject) -> None:
    """One thread and two give the same bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(2 if before == 1 else 1)
    try:
        other = subject.computed()
    finally:
        torch.set_num_threads(before)
    assert other.identical(subject.computed())


def check_declared(subject: Subject) -> None:
    """Every declared variable is there with its dims and attributes, and no other, whatever the parameters."""
    seen = set[str]()
    uneven = any(len(info.head_widths) > 1 for info in subject.run().models)
    for toggle in subject.toggled():
        result = subject.computed(**toggle)
        expected = declared(subject.analysis.variables, subject.params(**toggle), uneven)
        assert {str(name): of.dims for name, of in result.data_vars.items()} == {
            name: variable.dims for name, variable in expected.items()
        }, toggle
        for name, variable in expected.items():
            assert result[name].attrs["long_name"] == variable.full_name
            assert result[name].attrs.get("units", "") == variable.unit
        seen |= expected.keys()
    assert seen == {variable.name for variable in subject.analysis.variables if uneven or not variable.uneven}


def check_absent(subject: Subject) -> None:
    """What has not arrived, and what is beyond a smaller model's shape, is absent and never zero.

    What the request alone tells is there from the beginning.
    """
    whole, run = subject.result(), subject.run()
    small, large = run.models
    assert small.n_layers < large.n_layers
    for units in (0, 1):
        partial = subject.partial(units)
        assert set(partial.data_vars) <= set(whole.data_vars)
        waiting = [(1, None)]
        if (layer := next(iter(subject.analysis.units(run.request, subject.params(), run.models))).layer) is not None:
            waiting += [(0, other) for other in range(large.n_layers) if other != layer]
        for name, values in partial.data_vars.items():
            for m, other in waiting if units else [(0, None), (1, None)]:
                if "model" not in values.dims or (other is not None and "layer" not in values.dims):
                    continue
                where = {"model": m} if other is None else {"model": m, "layer": other}
                part = values.isel(where)
                assert same(part, whole[name].isel(where)) or absent(part.values).all(), f"{name} after {units} units"
    alone = Subject(subject.workshop, subject.name, subject.families[:1]).result()
    for name, own in alone.data_vars.items():
        if "model" not in own.dims or name in subject.entry.shared:
            continue
        padded, own = whole[name].isel(model=0).transpose(*own.dims[1:]), own.isel(model=0)
        inside = tuple(slice(size) for size in own.shape)
        np.testing.assert_array_equal(padded.values[inside], own.values, err_msg=str(name))
        beyond = np.ones(padded.shape, bool)
        beyond[inside] = False
        assert absent(padded.values[beyond]).all(), name


def check_refuses(subject: Subject) -> None:
    """Each kind of bad parameter is refused with a sentence that names it, and nothing is written."""
    runs = len(subject.session.runs())
    for name, value in bad_parameters(subject):
        with pytest.raises(UserError) as caught:
            start(subject.session, subject.request(**{name: value}))
        message = caught.value.message
        assert re.search(rf"“{name}(\.\d+)?”", message), (name, value)
        assert message[0] in "“ABCDEFGHIJKLMNOPQRSTUVWXYZ"
        assert message.endswith((".", "?"))
        assert not re.search(r"\n|Traceback|pydantic|validation error", message)
    assert len(subject.session.runs()) == runs


def bad_parameters(subject: Subject) -> Iterator[tuple[str, Any]]:
    """A name that there is not, a misspelt one; of every parameter, a wrong type and values out of bounds."""
    yield "nonsense", 1
    schema = subject.analysis.params.model_json_schema()["properties"]
    for name, declaration in subject.analysis.params.model_fields.items():
        yield f"{name}x", 1
        yield name, {"not": "a value"}
        kinds = schema[name].get("anyOf", [schema[name]])
        for kind in kinds:
            bounds = {"minimum": -1, "maximum": 1, "exclusiveMinimum": 0, "exclusiveMaximum": 0}
            yield from ((name, kind[bound] + step) for bound, step in bounds.items() if bound in kind)
            if kind.get("type") in ("integer", "number", "boolean"):
                yield name, "perhaps"
            if kind.get("type") == "integer":
                yield name, 1.5
            if "enum" in kind:
                yield name, "nonsense"
            if kind.get("minLength") or kind.get("minItems"):
                yield name, [] if "minItems" in kind else ""
            if kind.get("type") == "array":
                yield name, ["nonsense"]
        if get_origin(declaration.annotation) is tuple and None in get_args(declaration.annotation):
            yield name, None


def check_reported(subject: Subject) -> None:
    """The table and the JSON of the command line tell a whole result and a partial one."""
    run = subject.run()
    for result in (subject.result(), subject.partial(1)):
        page = io.StringIO()
        Console(file=page, width=500).print(as_table(run, result))
        assert all(page.getvalue().count(info.label) == info.n_layers for info in run.models)
        told = json.loads(json.dumps(as_json(run, result, 1.0), allow_nan=False))
        assert told["analysis"] == subject.name
        for name, of in told["variables"].items():
            assert np.shape(of["values"]) == result[name].shape


def check_exported(subject: Subject, folder: Path) -> None:
    """CSV, npz and netCDF of a whole result and of a partial one hold every variable as it is."""
    results = subject.result(), subject.partial(1)
    with Session.create(folder / "exported.eigenscope") as session:
        runs = [start(session, subject.request()) for _ in results]
        for run, result in zip(runs, results, strict=True):
            run.commit_result(result)
    for format in ("csv", "npz", "netcdf"):
        export(folder / "exported.eigenscope", format, folder)
    for run, result in zip(runs, results, strict=True):
        # CSV and netCDF know no complex numbers.
        parts = {
            str(name): {f"{name}_re": of.real, f"{name}_im": of.imag} if of.dtype.kind == "c" else {str(name): of}
            for name, of in result.data_vars.items()
        }
        with np.load(folder / f"{run.id}.npz") as npz, xr.open_dataset(folder / f"{run.id}.nc") as netcdf:
            for name, values in result.data_vars.items():
                np.testing.assert_array_equal(npz[str(name)], values.values.astype(npz[str(name)].dtype))
                with (folder / run.id / f"{name}.csv").open() as file:
                    heading = next(file).rstrip().split(",")
                    assert sum(1 for _ in file) == values.size
                assert {*parts[str(name)], *values.dims} <= set(heading)
                for part, expected in parts[str(name)].items():
                    assert netcdf[part].dims == values.dims
                    np.testing.assert_array_equal(netcdf[part].values.astype(expected.dtype), expected.values)
                    assert netcdf[part].attrs["long_name"] == values.attrs["long_name"]


def check_viewed(subject: Subject, folder: Path) -> None:
    """Every view, the navigator and the inspector have something to say of a result and of a partial one.

    Also where the selection is at the end of everything, so that the smaller model has nothing there.
    """
    views = import_module(f"gui.views.{subject.name}.views")
    every = (*views.VIEWS, views.NAVIGATOR, *trajectory_views(subject.name))
    whole, drawn = (subject.result(), training(subject.result())), set[str]()
    for dataset in (*whole, *(subject.partial(units) for units in (1, len(subject.run().plan) // 2))):
        last = {dim: dataset.sizes[dim] - 1 for dim in ("layer", "head", "sample", "unit") if dim in dataset.sizes}
        for selection in (Selection(), Selection(**last), Selection(model=1, **last)):
            for view in every:
                options = (view.options if view.options_of is None else view.options_of(dataset))()
                figure = view.draw(dataset, selection, options)
                assert isinstance(figure, Figure)
                assert figure.rows or figure.table or figure.empty, view.name
                if any(dataset is one for one in whole) and (figure.rows or figure.table):
                    drawn.add(view.name)
                    write_csv(figure, folder / f"{view.name}.csv")
            assert isinstance(views.INSPECT(dataset, selection), Inspection)
    seen = {name for claim in Header.of(whole[0]).claims for name in claim.evidence.split(", ")}
    assert seen <= {view.name for view in every}
    offered = {view.name for view in every if view.offered is None or any(map(view.offered, whole))}
    assert offered - drawn == subject.entry.undrawn


def training(result: xr.Dataset) -> xr.Dataset:
    """The second model of a result, as if it were four checkpoints of a training."""
    info = Header.of(result).models[1]
    steps = (0, 10, 20, 40)
    infos = [info.model_copy(update={"label": f"m@step{n}", "revision": f"step{n}", "step": n}) for n in steps]
    checkpoints = result.isel(model=[1] * len(steps)).assign_coords(
        model=[one.label for one in infos],
        step=("model", np.array(steps, float)),
        held_out_loss=("model", np.linspace(4, 2, len(steps))),
    )
    return checkpoints.assign_attrs(models=json.dumps([one.model_dump(mode="json") for one in infos]))


OF_EACH_FAMILY: tuple[Check, ...] = (check_runs,)
OF_EACH_DECODER: tuple[Check, ...] = (check_resumes, check_halves)
OF_ONE_MODEL: tuple[Check, ...] = (check_declared, check_refuses)
OF_TWO_MODELS: tuple[Check, ...] = (check_absent, check_reported)
WITH_FILES: tuple[Callable[[Subject, Path], None], ...] = (check_exported, check_viewed)
