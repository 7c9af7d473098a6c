"""Views over training, offered by every analysis: statistics by step, spectra in motion, relaxation, against loss."""

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, create_model

from engine.analyses.variables import Variable
from gui.views.base import Options, View
from gui.views.trajectories.curves import against_loss, curves
from gui.views.trajectories.data import Scale, named, spectra, statistics
from gui.views.trajectories.spectra import evolution, relaxation

if TYPE_CHECKING:
    import xarray as xr

HELP = "trajectories"
Choices = tuple[tuple[str, str], ...]
"""Names of variables, each with its full name."""
Dims = tuple[tuple[str, tuple[str, ...]], ...]
"""Dimensions, each with the names of its places."""


def trajectory_views(analysis: str) -> tuple[View, ...]:
    """The views of `analysis` over training."""
    views = (
        ("training", "Training", curves, curve_options, several),
        ("training_spectrum", "Evolution", evolution, evolution_options, several_spectra),
        ("training_relaxation", "Relaxation", relaxation, relaxation_options, several_spectra),
        ("training_loss", "Against loss", against_loss, loss_options, several),
    )
    return tuple(
        View(name, title, analysis, HELP, Options, draw, offered=offered, options_of=options_of)
        for name, title, draw, options_of, offered in views
    )


def several(dataset: "xr.Dataset") -> bool:
    return bool(dataset.sizes.get("model", 1) > 1)


def several_spectra(dataset: "xr.Dataset") -> bool:
    return several(dataset) and bool(spectra(dataset))


def curve_options(dataset: "xr.Dataset") -> type[Options]:
    return _options("curves", "statistic", _names(statistics(dataset)), _named(dataset), "head" in dataset.dims)


def evolution_options(dataset: "xr.Dataset") -> type[Options]:
    return _options("evolution", "spectrum", _names(spectra(dataset)), _named(dataset))


def relaxation_options(dataset: "xr.Dataset") -> type[Options]:
    return _options("relaxation", "spectrum", _names(spectra(dataset)), _named(dataset))


def loss_options(dataset: "xr.Dataset") -> type[Options]:
    return _options("loss", "statistic", _names(statistics(dataset)), _named(dataset))


def _names(variables: Mapping[str, Variable]) -> Choices:
    return tuple((name, variable.full_name) for name, variable in variables.items())


def _named(dataset: "xr.Dataset") -> Dims:
    return tuple(named(dataset).items())


@cache
def _options(view: str, what: str, choices: Choices, dims: Dims, heads: bool = False) -> type[Options]:
    """Options of one view: which variable, which component or site, and what else it lets one choose."""
    fields: dict[str, Any] = {}
    if choices:
        names = tuple(name for name, _ in choices)
        labels: Any = {"labels": dict(choices)}
        fields[what] = (Literal[names], Field(names[0], title=what.capitalize(), json_schema_extra=labels))
    for dim, values in dims:
        fields[dim] = (Literal[values], Field(values[0], title=dim.capitalize()))
    if view == "curves":
        if heads:
            fields["curves"] = (
                Literal["layers", "heads"],
                Field("layers", title="Curves", description="The mean over heads of each layer, or a layer's heads"),
            )
        fields["change_points"] = (bool, Field(True, title="Phases", description="Levels between change points"))
    if view == "evolution":
        fields["trail"] = (bool, Field(True, title="All", description="The other checkpoints too, coloured by order"))
    if view == "relaxation":
        fields["modes"] = (int, Field(8, title="Modes", description="How many of the first modes", ge=1, le=32))
    if view != "loss":
        scale: Any = {"labels": {"log": "log steps", "linear": "steps", "order": "in order"}}
        fields["axis"] = (Scale, Field("log", title="Axis", json_schema_extra=scale))
    options: type[Options] = create_model(f"{view.capitalize()}Options", __base__=Options, **fields)
    return options
