"""Statistics over training, by step with their phases and against the loss; parts shared by all views over training."""

from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.spectra.trends import Regimes
from gui.plots.figure import Axis, Figure, Floats, Line, Mark, Panel, Points, Rule
from gui.plots.selection import Pick, Selection
from gui.views.trajectories.data import Trajectory, between, change_points, is_log, named

if TYPE_CHECKING:
    import xarray as xr

NOTHING = "This result has nothing of the kind that this view follows over training."
WAITING = "No checkpoint has arrived yet: the first one is drawn as soon as it is computed."


def begin(dataset: "xr.Dataset", selection: Selection, options: Any, what: str) -> Trajectory | Figure:
    """The trajectory, or a figure that says why there is none."""
    if not hasattr(options, what):
        return Figure(empty=NOTHING)
    dims = {dim: str(getattr(options, dim)) for dim in named(dataset) if hasattr(options, dim)}
    trajectory = Trajectory(dataset, selection, dims)
    return Figure(empty=trajectory.why_not) if trajectory.why_not else trajectory


def curves(dataset: "xr.Dataset", selection: Selection, options: Any) -> Figure:
    """A statistic of every layer, or of a layer's heads, by training step, with the phases of the selected one."""
    if isinstance(trajectory := begin(dataset, selection, options, "statistic"), Figure):
        return trajectory
    name = options.statistic
    variable, values = trajectory.variable(name), trajectory.series(name)
    if not np.isfinite(values).any():
        return Figure(empty=WAITING)
    by_head = values.ndim == 3 and getattr(options, "curves", "layers") == "heads"
    title = f"{variable.full_name}{trajectory.places(name)} over training"
    if by_head:
        shown, title = values[:, trajectory.layer], f"{title}, heads of layer {trajectory.layer}"
    elif values.ndim == 3:
        shown, title = trajectory.over_heads(name, values), f"{title}, {variable.heads} over heads"
    else:
        shown = values
    mine = trajectory.head if by_head else trajectory.layer
    x, axis = trajectory.axis(options.axis)
    marks: list[Mark] = []
    what = "head" if by_head else "layer"
    for i in range(shown.shape[1]):
        if np.isfinite(shown[:, i]).any():
            color = f"c{i}" if shown.shape[1] <= 8 else "muted"
            text = f"{what} {i}" if shown.shape[1] <= 8 else f"other {what}s"
            place = (trajectory.layer, i) if by_head else (i, None)
            marks.append(curve(trajectory, x, shown[:, i], text, color, 3.0 if i == mine else 1.0, place))
    own, notes = shown[:, mine], []
    if options.change_points and (regimes := phases_of(own)) is not None:
        marks += phase_marks(regimes[0], x, axis.log, is_log(own))
        notes.append(f"{what} {mine}: {phrase(regimes)}")
    if (level := _twin_level(trajectory, name, mine, by_head)) is not None:
        marks.append(Rule("y", level, f"random twin, {what} {mine}", "twin"))
    marks += marked(x[trajectory.now], own[trajectory.now])
    if "sample" in variable.dims:
        notes.append(f"{variable.samples.capitalize()} over samples")
    panel = Panel(axis, Axis(variable.label, log=variable.log or is_log(shown)), tuple(marks))
    return Figure(((panel,),), title=_capital(title), note=noted(trajectory, *notes))


def curve(
    trajectory: Trajectory, x: Floats, y: Floats, text: str, color: str, width: float, place: tuple[int, int | None]
) -> Line:
    """One line whose points select their checkpoint, layer and head."""
    picks = tuple(Pick(model=m, layer=place[0], head=place[1]) for m in trajectory.checkpoints.models)
    hover = tuple(f"{at}: {value:.4g}" for at, value in zip(trajectory.checkpoints.labels, y, strict=True))
    return Line(x, y, text, color, width, markers=True, picks=picks, hover=hover)


def marked(x: float, y: float) -> list[Mark]:
    """Marks of the selected checkpoint."""
    return [
        Rule("x", float(x), "selected checkpoint", "muted"),
        Points(np.array([x]), np.array([y]), "", "ink", size=15, filled=False),
    ]


def _twin_level(trajectory: Trajectory, name: str, mine: int, by_head: bool) -> float | None:
    """The selected layer or head of the random twin, which has no place among the checkpoints; None without one."""
    infos = trajectory.models.infos
    twins = (i for i, info in enumerate(infos) if info.twin and i not in trajectory.checkpoints.models)
    twin = next(twins, None)
    if twin is None or infos[twin].n_layers != infos[trajectory.at].n_layers:
        return None
    values = trajectory.series(name, twin)[0]
    if by_head:
        level = values[trajectory.layer, mine]
    else:
        level = (trajectory.over_heads(name, values) if values.ndim == 2 else values)[mine]
    return float(level) if np.isfinite(level) else None


def phases_of(values: Floats) -> tuple[Regimes, tuple[str, ...]] | None:
    """Regimes along the checkpoints and the phase of each; None while some are absent, or too few."""
    return _cached_regimes(tuple(map(float, values)))


@lru_cache(maxsize=512)
def _cached_regimes(values: tuple[float, ...]) -> tuple[Regimes, tuple[str, ...]] | None:
    return change_points(np.array(values))


def phase_marks(fit: Regimes, x: Floats, log_x: bool, log_y: bool) -> list[Mark]:
    """The level of every phase, and the change points between them."""
    if not fit.supported or fit.is_slope:
        return []
    starts = fit.breaks[fit.supported]
    edges = [x[0], *(between(x, start, log_x) for start in starts), x[-1]]
    levels = [float(np.exp(m)) if log_y else m for m in fit.means[fit.supported]]
    across = np.array([v for a, b in pairwise(edges) for v in (a, b, np.nan)])
    up = np.array([v for level in levels for v in (level, level, np.nan)])
    return [Line(across, up, "phases", "accent", 1.5), *(Rule("x", at, "change point", "accent") for at in edges[1:-1])]


def phrase(phases: tuple[Regimes, tuple[str, ...]]) -> str:
    """The phases in words, with the p-values of their change points."""
    fit, names = phases
    if fit.supported == 0:
        return "no change point is supported"
    if fit.is_slope:
        return "rather a slope than phases"
    p = " and ".join(f"p {'< 0.001' if p < 0.001 else f'= {p:.2g}'}" for p in fit.p_values[: fit.supported])
    return f"phases {', '.join(dict.fromkeys(names))} ({p} against noise)"


def against_loss(dataset: "xr.Dataset", selection: Selection, options: Any) -> Figure:
    """A statistic of every layer against the loss of the checkpoints; the selected layer's points are coloured."""
    if isinstance(trajectory := begin(dataset, selection, options, "statistic"), Figure):
        return trajectory
    name, losses = options.statistic, trajectory.losses()
    if not np.isfinite(losses).any():
        return Figure(
            empty="No loss of these checkpoints is known: neither a training.json or trainer_state.json with them says "
            "it, nor does this analysis measure it. Activations measure the loss of every model."
        )
    variable, values = trajectory.variable(name), trajectory.series(name)
    own, shown, text = values[:, trajectory.layer], values, "layers"
    if values.ndim == 3:  # means, whatever is declared: one head stands beside them on the same axis
        own, shown, text = own[:, trajectory.head], values.mean(axis=2), "layers, mean over heads"
    marks: list[Mark] = [
        curve(trajectory, losses, shown[:, i], text, "muted", 1.0, (i, None)) for i in range(shown.shape[1])
    ]
    where = trajectory.where(name)
    marks.append(Line(losses, own, "", "data", 1.5))
    picks = tuple(Pick(model=m) for m in trajectory.checkpoints.models)
    hover = tuple(
        f"{at}: loss {a:.4g}, {b:.4g}" for at, a, b in zip(trajectory.checkpoints.labels, losses, own, strict=True)
    )
    order = np.arange(len(losses), dtype=float)
    marks.append(
        Points(losses, own, where, size=9, values=order, values_label="checkpoint, in order", picks=picks, hover=hover)
    )
    marks.append(
        Points(losses[[trajectory.now]], own[[trajectory.now]], "selected checkpoint", "ink", size=16, filled=False)
    )
    both = np.isfinite(losses) & np.isfinite(own)
    note = ""
    if both.sum() > 3:
        ranks = np.array([np.argsort(np.argsort(v[both])) for v in (losses, own)], float)
        rho = float(np.corrcoef(ranks)[0, 1])
        note = f"{_capital(where)}: rank correlation with the loss {rho:.2f} over {both.sum()} checkpoints".replace(
            "-", "−"
        )
        note += ", which training orders in time, so it is no cause"
    panel = Panel(
        Axis("held-out loss (nats a token)"), Axis(variable.label, log=variable.log or is_log(shown)), tuple(marks)
    )
    title = f"{variable.full_name}{trajectory.places(name)} against held-out loss"
    return Figure(((panel,),), title=_capital(title), note=noted(trajectory, note))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:] if text[:1].isascii() else text


def noted(trajectory: Trajectory, *more: str) -> str:
    """The remarks, followed by the models that are not connected with these checkpoints."""
    return "  ·  ".join(filter(None, (*more, trajectory.checkpoints.note())))
