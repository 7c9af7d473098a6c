"""Statistics over training: by step with their phases, and against the loss; what all views over training share."""

from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.spectra.trends import Regimes
from gui.plots.figure import Axis, Figure, Floats, Line, Mark, Panel, Points, Rule
from gui.plots.selection import Pick, Selection
from gui.views.trajectories.data import Trajectory, between, change_points, is_log, label, named

if TYPE_CHECKING:
    import xarray as xr

NOTHING = "This result has nothing of the kind that this view follows over training."
WAITING = "No checkpoint has arrived yet: the first one is drawn as soon as it is computed."


def begin(dataset: "xr.Dataset", selection: Selection, options: Any, what: str) -> Trajectory | Figure:
    """The trajectory, or the figure that says why there is none."""
    if not hasattr(options, what):
        return Figure(empty=NOTHING)
    dims = {dim: str(getattr(options, dim)) for dim in named(dataset) if hasattr(options, dim)}
    found = Trajectory(dataset, selection, dims)
    return Figure(empty=found.why_not) if found.why_not else found


def curves(dataset: "xr.Dataset", selection: Selection, options: Any) -> Figure:
    """A statistic of every layer, or of a layer's heads, by training step, with the phases of the selected one."""
    if isinstance(found := begin(dataset, selection, options, "statistic"), Figure):
        return found
    name = options.statistic
    values = found.series(name)
    if not np.isfinite(values).any():
        return Figure(empty=WAITING)
    by_head = values.ndim == 3 and getattr(options, "curves", "layers") == "heads"
    shown = values[:, found.layer] if by_head else values.mean(axis=2) if values.ndim == 3 else values
    mine = found.head if by_head else found.layer
    x, axis = found.axis(options.axis)
    marks: list[Mark] = []
    what = "head" if by_head else "layer"
    for i in range(shown.shape[1]):
        if np.isfinite(shown[:, i]).any():
            color = f"c{i}" if shown.shape[1] <= 8 else "muted"
            text = f"{what} {i}" if shown.shape[1] <= 8 else f"other {what}s"
            place = (found.layer, i) if by_head else (i, None)
            marks.append(curve(found, x, shown[:, i], text, color, 3.0 if i == mine else 1.0, place))
    own, notes = shown[:, mine], []
    title = f"{label(name)}{found.of(name)} over training"
    title += f", heads of layer {found.layer}" if by_head else ", mean over heads" if values.ndim == 3 else ""
    if options.change_points and (regimes := phases_of(own)) is not None:
        marks += phase_marks(regimes[0], x, axis.log, is_log(own))
        notes.append(f"{what} {mine}: {phrase(regimes)}")
    if (level := _twin_level(found, name, mine, by_head)) is not None:
        marks.append(Rule("y", level, f"random twin, {what} {mine}", "twin"))
    marks += marked(x[found.now], own[found.now])
    if "sample" in dataset[name].dims:
        notes.append("Medians over samples")
    panel = Panel(axis, Axis(label(name), log=is_log(shown)), tuple(marks))
    return Figure(((panel,),), title=_capital(title), note=noted(found, *notes))


def curve(
    found: Trajectory, x: Floats, y: Floats, text: str, color: str, width: float, place: tuple[int, int | None]
) -> Line:
    """One line whose points select their checkpoint, layer and head."""
    picks = tuple(Pick(model=m, layer=place[0], head=place[1]) for m in found.checkpoints.models)
    hover = tuple(f"{at}: {value:.4g}" for at, value in zip(found.checkpoints.labels, y, strict=True))
    return Line(x, y, text, color, width, markers=True, picks=picks, hover=hover)


def marked(x: float, y: float) -> list[Mark]:
    """Where the selected checkpoint stands."""
    return [
        Rule("x", float(x), "selected checkpoint", "muted"),
        Points(np.array([x]), np.array([y]), "", "ink", size=15, filled=False),
    ]


def _twin_level(found: Trajectory, name: str, mine: int, by_head: bool) -> float | None:
    infos = found.models.infos
    twin = next((i for i, info in enumerate(infos) if info.twin and i not in found.checkpoints.models), None)
    if twin is None or infos[twin].n_layers != infos[found.at].n_layers:
        return None
    values = found.series(name, twin)[0]
    level = values[found.layer, mine] if by_head else values[mine].mean() if values.ndim == 2 else values[mine]
    return float(level) if np.isfinite(level) else None


def phases_of(values: Floats) -> tuple[Regimes, tuple[str, ...]] | None:
    return _cached_regimes(tuple(map(float, values)))


@lru_cache(maxsize=512)
def _cached_regimes(values: tuple[float, ...]) -> tuple[Regimes, tuple[str, ...]] | None:
    return change_points(np.array(values))


def phase_marks(found: Regimes, x: Floats, log_x: bool, log_y: bool) -> list[Mark]:
    """The level of every phase, and the change points between them."""
    if not found.supported or found.is_slope:
        return []
    starts = found.breaks[found.supported]
    edges = [x[0], *(between(x, start, log_x) for start in starts), x[-1]]
    levels = [float(np.exp(m)) if log_y else m for m in found.means[found.supported]]
    across = np.array([v for a, b in pairwise(edges) for v in (a, b, np.nan)])
    up = np.array([v for level in levels for v in (level, level, np.nan)])
    return [Line(across, up, "phases", "accent", 1.5), *(Rule("x", at, "change point", "accent") for at in edges[1:-1])]


def phrase(found: tuple[Regimes, tuple[str, ...]]) -> str:
    fit, names = found
    if fit.supported == 0:
        return "no change point is supported"
    if fit.is_slope:
        return "rather a slope than phases"
    p = " and ".join(f"p {'< 0.001' if p < 0.001 else f'= {p:.2g}'}" for p in fit.p_values[: fit.supported])
    return f"phases {', '.join(dict.fromkeys(names))} ({p} against noise)"


def against_loss(dataset: "xr.Dataset", selection: Selection, options: Any) -> Figure:
    """A statistic of every layer against the loss of the checkpoints; the selected layer's points are coloured."""
    if isinstance(found := begin(dataset, selection, options, "statistic"), Figure):
        return found
    name, losses = options.statistic, found.losses()
    if not np.isfinite(losses).any():
        return Figure(
            empty="No loss of these checkpoints is known: neither a training.json or trainer_state.json with them says "
            "it, nor does this analysis measure it. Activations measure the loss of every model."
        )
    values = found.series(name)
    shown = values.mean(axis=2) if values.ndim == 3 else values
    own = values[:, found.layer, found.head] if values.ndim == 3 else values[:, found.layer]
    marks: list[Mark] = [
        curve(found, losses, shown[:, i], "layers", "muted", 1.0, (i, None)) for i in range(shown.shape[1])
    ]
    where = found.where(name)
    marks.append(Line(losses, own, "", "data", 1.5))
    picks = tuple(Pick(model=m) for m in found.checkpoints.models)
    hover = tuple(
        f"{at}: loss {a:.4g}, {b:.4g}" for at, a, b in zip(found.checkpoints.labels, losses, own, strict=True)
    )
    order = np.arange(len(losses), dtype=float)
    marks.append(
        Points(losses, own, where, size=9, values=order, values_label="checkpoint, in order", picks=picks, hover=hover)
    )
    marks.append(Points(losses[[found.now]], own[[found.now]], "selected checkpoint", "ink", size=16, filled=False))
    there = np.isfinite(losses) & np.isfinite(own)
    note = ""
    if there.sum() > 3:
        ranks = np.array([np.argsort(np.argsort(v[there])) for v in (losses, own)], float)
        rho = float(np.corrcoef(ranks)[0, 1])
        note = f"{_capital(where)}: rank correlation with the loss {rho:.2f} over {there.sum()} checkpoints".replace(
            "-", "−"
        )
        note += ", which training orders in time, so it is no cause"
    panel = Panel(Axis("held-out loss (nats a token)"), Axis(label(name), log=is_log(shown)), tuple(marks))
    title = f"{label(name)}{found.of(name)} against held-out loss"
    return Figure(((panel,),), title=_capital(title), note=noted(found, note))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:] if text[:1].isascii() else text


def noted(found: Trajectory, *more: str) -> str:
    """`more`, then what is not connected with these checkpoints."""
    return "  ·  ".join(filter(None, (*more, found.checkpoints.note())))
