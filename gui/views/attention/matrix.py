"""One head on one sample: its matrix with tokens on the axes, its eigenvalues, its singular values."""

from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from engine.errors import UserError
from engine.spectra import power_law
from engine.studies import cited
from gui.plots.figure import Axis, Band, Cell, Figure, Floats, Image, Line, Mark, Panel, Points, Rule, Span, Table
from gui.plots.selection import Pick, Selection
from gui.views.attention.data import NOTHING, VARIABLES, AttentionSlice, number_axis, quantiles
from gui.views.base import Options

if TYPE_CHECKING:
    import xarray as xr

CROWDED = 40
"""Tokens beyond which axes label only some of them."""
FAINT = 1e-4
"""Lower end of the logarithmic colour scale."""
SMALLEST = 1e-7
"""Rounding of float32: eigenvalues below are noise."""


class MatrixOptions(Options):
    scale: Literal["linear", "log"] = Field(
        "log", title="Colours", description="The logarithmic scale shows the small weights too"
    )


def matrix(dataset: "xr.Dataset", selection: Selection, options: MatrixOptions) -> Figure:
    """The attention matrix of one head on one kept sample, tokens on both axes; the kept samples below."""
    attention = AttentionSlice.of(dataset, selection)
    if "matrices" not in dataset or not dataset.sizes["shown"]:
        return Figure(empty="This run has kept no matrices. Ask for some in a new run: “Kept matrices”.")
    head, sample = attention.selected_head(selection), attention.sample(selection)
    kept = attention.of_heads("matrices")[head]
    kept_samples = [s for s in range(len(kept)) if np.isfinite(kept[s, 0, 0])]
    if not kept_samples:
        return Figure(empty=NOTHING if not attention.has("entropy") else f"Layer {head[0]} has no attention matrices.")
    if sample not in kept_samples:
        title = f"{attention.label}: the matrix of sample {sample} was not kept; choose one of those below"
        return Figure(
            title=title,
            table=_kept_samples(attention, head, kept_samples),
            note=attention.caveats(attention.sentence(sample)),
        )
    tokens = tuple(map(_readable, attention.array("token")[attention.model, sample].tolist()))
    size = int(np.isfinite(kept[sample, :, 0]).sum())
    weights = kept[sample, :size, :size].astype(float)
    if attention.causal:  # masked entries are absent, not zero
        weights = np.where(np.tri(size, dtype=bool), weights, np.nan)
    edges = np.arange(size + 1) - 0.5
    log = options.scale == "log"
    limits = (FAINT, 1.0) if log else (0.0, float(np.nanmax(weights)))
    image = Image(np.maximum(weights, FAINT) if log else weights, edges, edges, "weight", log=log, limits=limits)
    ticks = tuple(enumerate(tokens[:size]))
    x = Axis("token that is read", ticks=ticks, limits=(-0.5, size - 0.5), upright=True)
    y = Axis("token that reads", ticks=ticks, limits=(-0.5, size - 0.5), inverted=True)
    panels = [Panel(x, y, (image,))]
    if len(kept_samples) > 1:
        panels.append(_samples(attention, head, sample, kept_samples))
    crowded = "Not every token is written at the axes: zoom in, or point at a cell" if size > CROWDED else ""
    note = attention.caveats(attention.sentence(sample, 140), crowded)
    return Figure((tuple(panels),), title=attention.title("attention", selection), note=note)


def _samples(attention: AttentionSlice, head: tuple[int, int], sample: int, kept_samples: list[int]) -> Panel:
    """The head on every sample; a click on one whose matrix was kept shows it."""
    entropy, sink = attention.sampled("exp_entropy")[head], attention.sampled("sink")[head]
    others = [s for s in range(len(entropy)) if s not in kept_samples]
    marks: list[Mark] = []
    for samples, label, color in (
        (others, "matrix not kept", "muted"),
        (kept_samples, "matrix kept: click to see", "data"),
    ):
        if samples:
            hover = tuple(f"sample {s}  {attention.text(s, 60)}" for s in samples)
            picks = tuple(attention.pick(head, s) for s in samples)
            marks.append(Points(entropy[samples], sink[samples], label, color, 7, hover=hover, picks=picks))
    marks.append(Points(entropy[[sample]], sink[[sample]], "selected", "accent", size=13, filled=False))
    x, y = Axis(VARIABLES["exp_entropy"].label), Axis(VARIABLES["sink"].label)
    return Panel(x, y, tuple(marks), title="the head on every sample")


@cache
def _readable(token: str) -> str:
    """A token as an axis can show it."""
    return token.strip() or ("⏎" if "\n" in token else "␣" if token else "")


def _kept_samples(attention: AttentionSlice, head: tuple[int, int], kept_samples: list[int]) -> Table:
    names = [name for name in ("entropy", "sink", "spectral_norm", "erank") if name in attention.dataset]
    rows: list[tuple[Cell, ...]] = [
        (s, *(float(attention.sampled(name)[head][s]) for name in names), attention.text(s, 160)) for s in kept_samples
    ]
    columns = ("sample", *(VARIABLES[name].symbol for name in names), "text")
    return Table(columns, tuple(rows), picks=tuple(attention.pick(head, s) for s in kept_samples))


class EigenOptions(Options):
    samples: Literal["this sample", "all"] = Field("this sample", title="Cloud")
    log: bool = Field(True, title="Log", description="|λ| on a logarithmic axis")
    twin: bool = Field(True, title="Twin", description="The same sample through the random-init twin")


def eigenvalues(dataset: "xr.Dataset", selection: Selection, options: EigenOptions) -> Figure:
    """The eigenvalues in the complex plane with the unit circle, and by rank over all samples."""
    attention = AttentionSlice.of(dataset, selection)
    head, sample = attention.selected_head(selection), attention.sample(selection)
    every = attention.spectra("eigenvalues", head)
    values = every[sample][np.isfinite(every[sample])].astype(complex)
    if not len(values):
        return Figure(empty=_absent(attention, head, sample))
    turn = np.linspace(0, 2 * np.pi, 181)
    plane: list[Mark] = [Line(np.cos(turn), np.sin(turn), "unit circle", "null", dash=True)]
    if options.samples == "all":
        cloud = every[np.isfinite(every)].astype(complex)
        plane.append(Points(cloud.real, cloud.imag, "all samples", "muted", size=4))
    hover = tuple(f"λ{i} = {v.real:.4g} {v.imag:+.4g}i" for i, v in enumerate(values, 1))
    plane.append(Points(values.real, values.imag, "this sample", "data", size=6, hover=hover))
    what = "λ = the diagonal: A is triangular" if attention.causal else "λ by a general solver"
    side = (-1.08, 1.08)
    left = Panel(Axis("Re λ", limits=side), Axis("Im λ", limits=side), tuple(plane), title=what, equal=True)
    sizes = np.abs(every)
    marks = _over_samples(sizes)
    if options.twin and (twin := attention.twin) is not None:
        marks.append(_curve(np.abs(twin.spectra("eigenvalues", head)[sample]), "random-init twin", "twin"))
    marks.append(_curve(sizes[sample], "this sample", "data", 2))
    lowest = max(float(np.nanmin(sizes[sample])), SMALLEST)
    y = Axis("|λ|", log=options.log, limits=(lowest / 1.5, 1.5) if options.log else None)
    right = Panel(Axis("rank", log=True), y, tuple(marks), title="by size")
    statistics = _statistics(attention, head, sample, ("second_eigenvalue", "concentration"))
    return Figure(
        ((left, right),),
        title=attention.title("eigenvalues", selection),
        note=attention.caveats(statistics, attention.sentence(sample, 120)),
    )


def _statistics(attention: AttentionSlice, head: tuple[int, int], sample: int, names: tuple[str, ...]) -> str:
    """Statistics of the sample beside their means over all."""
    several = np.isfinite(attention.sampled(names[0])[head]).sum() > 1
    parts = (
        f"{VARIABLES[name].symbol} = {attention.sampled(name)[head][sample]:.3g}"
        + (f" (mean over samples {attention.mean(name)[head]:.3g})" if several else "")
        for name in names
    )
    return "  ·  ".join(parts)


def _absent(attention: AttentionSlice, head: tuple[int, int], sample: int) -> str:
    if not attention.has("entropy"):
        return NOTHING
    if not np.isfinite(attention.sampled("entropy")[head]).any():
        return f"Layer {head[0]} has no attention matrices. Choose another layer."
    return f"Sample {sample} is not there: it has not arrived yet, or its attention is not finite."


def _curve(values: Floats, label: str, color: str, width: float = 1.2) -> Line:
    finite = values[np.isfinite(values)]
    return Line(np.arange(1, len(finite) + 1, dtype=float), np.where(finite > 0, finite, np.nan), label, color, width)


def _over_samples(values: Floats) -> list[Mark]:
    if np.isfinite(values[:, 0]).sum() < 2:
        return []
    low, middle, high = quantiles(values)
    rank = np.arange(1, len(middle) + 1, dtype=float)
    return [Band(rank, low, high, "middle 90 % of samples"), Line(rank, middle, "median over samples", "null")]


class SingularOptions(Options):
    fit_start: int = Field(
        0,
        ge=0,
        title="Ranks",
        description="First rank of the fit; or drag the window on the plot",
        json_schema_extra={"lowest": "as in the run"},
    )
    fit_stop: int = Field(
        0,
        ge=0,
        title="to",
        description="Last rank of the fit; or drag the window on the plot",
        json_schema_extra={"lowest": "as in the run"},
    )
    noise: bool = Field(True, title="Noise", description="An iid Gaussian matrix of the same size and ‖A‖_F")
    twin: bool = Field(True, title="Twin", description="The same sample through the random-init twin")


def singular(dataset: "xr.Dataset", selection: Selection, options: SingularOptions) -> Figure:
    """Singular values by rank, log-log, with the power law over a window to drag; α of every head beside it."""
    attention = AttentionSlice.of(dataset, selection)
    if "singular_values" not in dataset:
        return Figure(empty="This run has no singular values. Ask for them in a new run.")
    head, sample = attention.selected_head(selection), attention.sample(selection)
    every = attention.of_heads("singular_values")[:, :, sample].astype(float)
    size = int(np.isfinite(every[head]).sum())
    if not size:
        return Figure(empty=_absent(attention, head, sample))
    params = attention.params
    start = options.fit_start or params.get("fit_start") or 1
    stop = options.fit_stop or params.get("fit_stop") or size // 2
    window = Span(start, min(stop, size), "fit_start", "fit_stop", (1.0, float(size)), "fit window")
    marks: list[Mark] = [window, *_over_samples(attention.spectra("singular_values", head).astype(float))]
    shown = [("this sample", "data", every[head])]
    if options.twin and (twin := attention.twin) is not None:
        shown.insert(0, ("random-init twin", "twin", twin.spectra("singular_values", head)[sample].astype(float)))
    if options.noise and "noise_singular_values" in dataset and size == int(attention.tokens.max()):
        noise = attention.array("noise_singular_values")[attention.model] * attention.sampled("frobenius")[head][sample]
        shown.insert(0, ("noise control", "null", noise))
    rows: list[tuple[Cell, ...]] = []
    trouble = ""
    for label, color, sigma in shown:
        marks.append(_curve(sigma, label, color, 2 if color == "data" else 1.2))
        try:
            fitted = power_law.fit(_above_rounding(sigma[:size]), start, stop)
        except UserError as error:
            trouble = error.message
            continue
        if np.isfinite(fitted.alpha):
            marks.append(Line(fitted.ranks.astype(float), fitted.line(), "power law", "ink", 1.3, dash=True))
        rows.append((label, float(fitted.alpha), float(fitted.se), float(fitted.r2), int(fitted.points)))
    names = ("erank", "r_l1l2", "stable_rank")
    y = Axis("σᵢ", log=True, limits=_limits(every[head][:size]))
    panels = [Panel(Axis("rank i", log=True), y, tuple(marks))]
    if not trouble:
        panels.append(_alphas(attention, every[..., :size], (start, stop), head))
    note = attention.caveats(trouble, _statistics(attention, head, sample, names))
    what = f"singular values, power law over ranks {start} to {stop},"
    table = Table(("of", "α", "standard error", "R²", "ranks"), tuple(rows)) if rows else None
    return Figure((tuple(panels),), title=attention.title(what, selection), note=note, table=table)


def _above_rounding(sigma: Floats) -> Floats:
    """Zero what lies below the rounding of float32, where a fit has to end."""
    return np.where(sigma > float(np.finfo(np.float32).eps) * sigma.shape[-1] * sigma[..., :1], sigma, 0)


def _limits(sigma: Floats) -> tuple[float, float]:
    kept = _above_rounding(sigma)
    return float(kept[kept > 0].min()) / 2, float(sigma[0]) * 1.6


def _alphas(attention: AttentionSlice, every: Floats, window: tuple[int, int], head: tuple[int, int]) -> Panel:
    """α of every head on this sample over the window, between what S2 expects."""
    alpha = power_law.fit(_above_rounding(every), *window).alpha
    layer, index = np.mgrid[: attention.layers, : attention.heads].reshape(2, -1)
    x = layer + (index - (attention.heads - 1) / 2) * 0.5 / attention.heads
    picks = tuple(Pick(attention.model, int(i), int(h)) for i, h in zip(layer, index, strict=True))
    hover = tuple(f"layer {i}, head {h}: α = {a:.3f}" for i, h, a in zip(layer, index, alpha.ravel(), strict=True))
    at = head[0] * attention.heads + head[1]
    marks = (
        Rule("y", 0.5, cited("α from 0.5 (S2 eq. 2)"), "law"),
        Rule("y", 1.0, cited("α up to 1 (S2 eq. 2)"), "law"),
        Points(x, alpha.ravel(), "heads", "data", picks=picks, hover=hover),
        Points(x[[at]], alpha.ravel()[[at]], "selected", "accent", size=13, filled=False),
    )
    return Panel(number_axis("layer", attention.layers), Axis("α"), marks, title="α of every head on this sample")
