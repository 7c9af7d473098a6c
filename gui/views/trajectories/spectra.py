"""Spectra over training: in motion, and the relaxation of their modes (S2 fig. 1 and eq. 1)."""

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.spectra.relaxation import Relaxation, relax
from engine.spectra.trends import Regimes
from engine.studies import cited
from gui.plots.figure import Axis, Figure, Floats, Line, Mark, Panel, Points, Rule
from gui.plots.selection import Pick, Selection
from gui.views.trajectories.curves import WAITING, begin, curve, marked, noted, phase_marks, phases_of, phrase
from gui.views.trajectories.data import TRAIL, Trajectory, is_log, label

if TYPE_CHECKING:
    import xarray as xr


def evolution(dataset: "xr.Dataset", selection: Selection, options: Any) -> Figure:
    """The selected spectrum in motion, with top |λ|, effective rank, concentration and phase (S2 fig. 1)."""
    if isinstance(found := begin(dataset, selection, options, "spectrum"), Figure):
        return found
    name = options.spectrum
    values = found.spectrum(name)
    now = found.now
    if not values.size or not np.isfinite(values[now]).any():
        return Figure(empty=f"{found.checkpoints.labels[now]} has no such spectrum here, or it has not arrived yet.")
    size = np.sort(np.abs(values), axis=1)[:, ::-1]  # NaN first, and only in rows that are absent
    total = np.nansum(size, axis=1)
    squares = np.nansum(size**2, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        top = np.where(squares > 0, np.nanmax(np.where(np.isnan(size), -np.inf, size), axis=1), np.nan)
        rank, concentration = total**2 / squares, top**2 / squares
    draw = _cloud if np.iscomplexobj(values) else _ranks
    x, axis = found.axis(options.axis)
    fit = phases_of(concentration)
    phase = fit[1][now] if fit is not None else "not known"
    sign = "σ" if "singular" in name else "λ"
    tops = [
        _small(found, x, axis, top, f"top |{sign}|"),
        _small(found, x, axis, rank, "effective rank"),
        _small(found, x, axis, concentration, "concentration", fit),
    ]
    title = f"{found.checkpoints.labels[now]}: {label(name)}, {found.where(name)}"
    note = f"Phase by the change points of concentration: {phase}" + (f"; {phrase(fit)}" if fit else "")
    formulas = f"Effective rank (Σ|{sign}|)²/Σ|{sign}|², concentration |{sign}₁|²/Σ|{sign}|²"
    rows = ((draw(found, values, options.trail), tops[0]), (tops[1], tops[2]))
    return Figure(rows, title=title, note=noted(found, note, formulas))


def _trail(found: Trajectory) -> list[int]:
    """The checkpoints besides the selected one, at most so many, evenly."""
    count = len(found.checkpoints.models)
    chosen = np.unique(np.linspace(0, count - 1, min(count, TRAIL)).round().astype(int))
    return [int(i) for i in chosen if i != found.now]


def _cloud(found: Trajectory, values: np.ndarray, trail: bool) -> Panel:
    """Eigenvalues in the complex plane with the unit circle; the other checkpoints behind, coloured by their order."""
    angle = np.linspace(0, 2 * np.pi, 121)
    marks: list[Mark] = [Line(np.cos(angle), np.sin(angle), "unit circle", "null", dash=True)]
    if trail and (others := _trail(found)):
        z = values[others]
        order = np.repeat(np.array(others, float), z.shape[1])
        cloud = z.ravel()
        marks.append(
            Points(
                cloud.real, cloud.imag, "all checkpoints", size=3.5, values=order, values_label="checkpoint, in order"
            )
        )
    now = values[found.now]
    hover = tuple(f"|λ| = {abs(z):.4g}" for z in now)
    marks.append(Points(now.real, now.imag, "selected checkpoint", "accent", size=6, hover=hover))
    there = np.abs(values[np.isfinite(values)])
    reach = 1.05 * float(max(there.max(), 1.0 if there.max() > 0.5 else 0.0))
    limits = (-reach, reach)
    return Panel(Axis("Re λ", limits=limits), Axis("Im λ", limits=limits), tuple(marks), equal=True)


def _ranks(found: Trajectory, values: np.ndarray, trail: bool) -> Panel:
    """A sorted spectrum on log-log axes; the other checkpoints behind, coloured by their order."""
    rank = np.arange(1, values.shape[1] + 1, dtype=float)
    marks: list[Mark] = []
    if trail and (others := _trail(found)):
        order = np.repeat(np.array(others, float), len(rank))
        x, y = np.tile(rank, len(others)), values[others].ravel()
        marks.append(Points(x, y, "all checkpoints", size=3.0, values=order, values_label="checkpoint, in order"))
    marks.append(Line(rank, values[found.now], "selected checkpoint", "accent", 2, markers=True))
    return Panel(Axis("rank i", log=True), Axis("value", log=True), tuple(marks))


def _small(
    found: Trajectory,
    x: Floats,
    axis: Axis,
    y: Floats,
    text: str,
    fit: tuple[Regimes, tuple[str, ...]] | None = None,
) -> Panel:
    """One quantity by step; a click selects the checkpoint."""
    marks: list[Mark] = [curve(found, x, y, "", "data", 2.0, (found.layer, found.head))]
    if fit is not None:
        marks += phase_marks(fit[0], x, axis.log, is_log(y))
    marks += marked(x[found.now], y[found.now])
    return Panel(axis, Axis(text, log=is_log(y)), tuple(marks))


def relaxation(dataset: "xr.Dataset", selection: Selection, options: Any) -> Figure:
    """S2's λ(t) = λ(∞)(1 − e^(−t/τ)) + λ(0)e^(−t/τ) fitted to each of the first modes, and τ with its error."""
    if isinstance(found := begin(dataset, selection, options, "spectrum"), Figure):
        return found
    if not found.checkpoints.known:
        return Figure(empty="Relaxation needs training steps, which neither names nor records of these models say.")
    name = options.spectrum
    values = np.sort(np.abs(found.spectrum(name)), axis=1)[:, ::-1]
    modes = values[:, : options.modes].T
    if not np.isfinite(modes).any():
        return Figure(empty=WAITING)
    fit = _relax(tuple(map(float, found.checkpoints.steps)), tuple(tuple(map(float, mode)) for mode in modes))
    x, axis = found.axis(options.axis)
    times, along = _dense(found, x, axis)
    curves = fit.curves(np.asarray(times, np.float64))
    marks: list[Mark] = []
    sign = "σ" if "singular" in name else "λ"
    picks = tuple(Pick(model=m) for m in found.checkpoints.models)
    for i, mode in enumerate(modes):
        color = f"c{i}" if i < 8 else "muted"
        text = f"|{sign}{_subscript(i + 1)}|"
        marks.append(Points(x, mode, text, color, size=6, picks=picks))
        if np.isfinite(curves[i]).all():
            marks.append(Line(along, curves[i], "" if i else "fit", color, 1.5, dash=bool(fit.why[i])))
    marks.append(Rule("x", float(x[found.now]), "selected checkpoint", "muted"))
    left = Panel(axis, Axis(f"|{sign}|", log=is_log(modes)), tuple(marks))
    notes = [_order(fit)]
    for why in dict.fromkeys(filter(None, fit.why)):
        those = ", ".join(str(i + 1) for i, one in enumerate(fit.why) if one == why)
        notes.append(f"No sure τ for mode{'s' if ',' in those else ''} {those}: {why}")
    title = f"Relaxation of {label(name)}, {found.where(name)}"
    return Figure(((left, _taus(fit)),), title=title, note=noted(found, *notes))


@lru_cache(maxsize=64)
def _relax(steps: tuple[float, ...], modes: tuple[tuple[float, ...], ...]) -> Relaxation:
    return relax(np.array(steps), np.array(modes))


def _dense(found: Trajectory, x: Floats, axis: Axis) -> tuple[Floats, Floats]:
    """Times close enough for a smooth curve, and where they stand on the axis."""
    steps = found.checkpoints.steps
    along = np.geomspace(x[0], x[-1], 160) if axis.log else np.linspace(x[0], x[-1], 160)
    return np.interp(along, x, steps), along


def _taus(fit: Relaxation) -> Panel:
    """τ of every mode with one standard error; what is not sure is a ring."""
    mode = np.arange(1, len(fit.tau) + 1, dtype=float)
    sure = np.array([not why for why in fit.why])
    low, high = np.maximum(fit.tau - fit.tau_se, fit.tau * 0.02), fit.tau + fit.tau_se
    marks: list[Mark] = []
    if sure.any():
        bars = np.stack([low, high, np.full(len(mode), np.nan)], axis=1)[sure].ravel()
        at = np.stack([mode, mode, np.full(len(mode), np.nan)], axis=1)[sure].ravel()
        hover = tuple(f"τ = {t:.4g} ± {e:.2g} steps" for t, e in zip(fit.tau[sure], fit.tau_se[sure], strict=True))
        marks += [
            Line(at, bars, "± standard error", "data", 1.5),
            Points(mode[sure], fit.tau[sure], "τ", "data", size=8, hover=hover),
        ]
    unsure = ~sure & np.isfinite(fit.tau)
    if unsure.any():
        marks.append(Points(mode[unsure], fit.tau[unsure], "not sure", "muted", size=8, filled=False))
    ticks = tuple((float(i), f"{i:.0f}") for i in mode)
    x = Axis("mode", ticks=ticks, limits=(0.5, len(mode) + 0.5))
    return Panel(x, Axis("relaxation time τ (steps)", log=True), tuple(marks))


def _order(fit: Relaxation) -> str:
    """What the sure times say about S2's τ₁ < τ₂ < …"""
    tau = fit.tau[[not why for why in fit.why]]
    if len(tau) < 2:
        return cited("Fewer than two modes have a sure τ, so the order τ₁ < τ₂ < … (S2 eq. 1) cannot be judged")
    rising = int((np.diff(tau) > 0).sum())
    order = cited("The order τ₁ < τ₂ < … (S2 eq. 1) is found between")
    return f"{order} {rising} of {len(tau) - 1} neighbours with a sure τ"


def _subscript(number: int) -> str:
    return str(number).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))
