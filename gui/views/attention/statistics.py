"""Statistics of heads: by layer, by sample, one against another, on the navigator."""

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from engine.analyses.attention.plan import SINK
from engine.studies import cited
from gui.plots.figure import Axis, Boxes, Figure, Floats, Image, Line, Mark, Panel, Points, Rule
from gui.plots.selection import Pick, Selection
from gui.views.attention.data import (
    LABELS,
    NOTHING,
    STATISTICS,
    SYMBOLS,
    VARIABLES,
    AttentionSlice,
    HeadStatistic,
    Statistic,
    number_axis,
)
from gui.views.base import Options
from gui.views.boxes import box_of

if TYPE_CHECKING:
    import xarray as xr

MOST = 20_000
"""Points in one figure; more take too long to draw at every step."""
EXPECTED: dict[str, tuple[tuple[float, str], ...]] = {
    "spectral_norm": ((2.0, cited("stable below 2 (S2 §4)")),),
    "alpha_rank": ((0.5, cited("α from 0.5 (S2 eq. 2)")), (1.0, cited("α up to 1 (S2 eq. 2)"))),
    "sink": ((SINK, "sink heads above"),),
}


class LayerOptions(Options):
    statistic: Statistic = Field("spectral_norm", title="Show", json_schema_extra=LABELS)
    samples: Literal["mean", "this sample"] = Field(
        "mean", title="Of", description="The mean over all samples, or the selected sample alone"
    )
    twin: bool = Field(True, title="Twin", description="The random-init twin")


def by_layer(dataset: "xr.Dataset", selection: Selection, options: LayerOptions) -> Figure:
    """One statistic of every head against its layer: the mean over the samples, or one sample."""
    attention = AttentionSlice.of(dataset, selection)
    name, sample = options.statistic, attention.sample(selection) if options.samples == "this sample" else None
    variable = VARIABLES[name]
    if trouble := _lacking(attention, name):
        return Figure(empty=trouble)
    values = _values(attention, name, sample)
    marks: list[Mark] = [Rule("y", at, label, "law") for at, label in EXPECTED.get(name, ())]
    if name == "alpha_rank" and "noise_alpha_rank" in dataset:
        marks.append(
            Rule("y", float(attention.array("noise_alpha_rank")[attention.model]), "iid Gaussian noise", "null")
        )
    if options.twin and (twin := attention.twin) is not None:
        marks.append(_profile(_values(twin, name, sample), "random-init twin, mean over heads", "twin"))
    layer, head = np.mgrid[: attention.layers, : attention.heads].reshape(2, -1)
    picks = tuple(Pick(model=attention.model, layer=int(i), head=int(h)) for i, h in zip(layer, head, strict=True))
    hover = tuple(
        f"layer {i}, head {h}: {variable.symbol} = {value:.4g}"
        for i, h, value in zip(layer, head, values.ravel(), strict=True)
    )
    # Heads of a layer stand side by side, so that equal values stay visible.
    spread = (head - (attention.heads - 1) / 2) * 0.5 / attention.heads
    marks.append(Points(layer + spread, values.ravel(), "heads", picks=picks, hover=hover))
    marks.append(_profile(values, "mean over heads", "accent"))
    i, h = attention.selected_head(selection)
    at = i + (h - (attention.heads - 1) / 2) * 0.5 / attention.heads
    marks.append(Points(np.array([at]), values[i, h : h + 1], "selected", "accent", size=13, filled=False))
    panel = Panel(number_axis("layer", attention.layers), Axis(variable.label, log=variable.log), tuple(marks))
    over = "mean over the samples" if sample is None else f"sample {sample}"
    text = "" if sample is None else attention.sentence(sample)
    return Figure(
        ((panel,),), title=f"{attention.label}: {variable.symbol} of every head, {over}", note=attention.caveats(text)
    )


def _values(attention: AttentionSlice, name: str, sample: int | None) -> Floats:
    return attention.mean(name) if sample is None else attention.sampled(name)[..., sample]


def _lacking(attention: AttentionSlice, name: str) -> str:
    """Why a statistic cannot be drawn, and what to do; empty if it can be drawn."""
    if name not in attention.dataset:
        return f"This run has no {VARIABLES[name].long_name}: it needs the singular values. Ask for them in a new run."
    if not attention.has(name):
        if attention.has("entropy"):
            return "The samples are too short for a fit of α; choose longer ones in a new run."
        return NOTHING
    return ""


def _profile(values: Floats, label: str, color: str) -> Line:
    counts = np.isfinite(values).sum(1)
    mean = np.where(counts > 0, np.nansum(values, 1) / np.maximum(counts, 1), np.nan)
    return Line(np.arange(len(values), dtype=float), mean, label, color, width=2)


class SampleOptions(Options):
    statistic: Statistic = Field("spectral_norm", title="Show", json_schema_extra=LABELS)


def by_sample(dataset: "xr.Dataset", selection: Selection, options: SampleOptions) -> Figure:
    """A statistic of every sample and head of the selected layer; a click reads the sample."""
    attention = AttentionSlice.of(dataset, selection)
    variable = VARIABLES[options.statistic]
    if trouble := _lacking(attention, options.statistic):
        return Figure(empty=trouble)
    layer, head = attention.selected_head(selection)
    sample = attention.sample(selection)
    values = attention.sampled(options.statistic)[layer]
    heads, samples = np.nonzero(np.isfinite(values))
    if not len(heads):
        return Figure(empty=f"Layer {layer} has no attention matrices. Choose another layer.")
    box = box_of(values)
    if len(heads) > MOST:  # draw outliers only
        outside = (values[heads, samples] < box[0][heads]) | (values[heads, samples] > box[4][heads])
        heads, samples = heads[outside], samples[outside]
    # The golden ratio spreads neighbours evenly and reproducibly
    x, y = heads + 0.55 * ((samples * 0.6180339887) % 1 - 0.5), values[heads, samples]
    texts = {s: attention.text(s, 60) for s in set(samples.tolist())}
    picks = tuple(attention.pick((layer, h), s) for h, s in zip(heads.tolist(), samples.tolist(), strict=True))
    hover = tuple(
        f"head {h}, sample {s}: {variable.symbol} = {v:.4g}  {texts[s]}"
        for h, s, v in zip(heads.tolist(), samples.tolist(), y.tolist(), strict=True)
    )
    own = np.arange(attention.heads) + 0.55 * ((sample * 0.6180339887) % 1 - 0.5)
    marks = (
        Boxes(
            np.arange(attention.heads, dtype=float), *box, width=0.7, label="samples", picks=_heads(attention, layer)
        ),
        Points(x, y, "samples", "data", size=5, picks=picks, hover=hover),
        Points(own, values[:, sample], f"sample {sample}", "ink", size=11, filled=False),
        Points(own[[head]], values[[head], sample], "selected", "accent", size=15, filled=False),
    )
    panel = Panel(number_axis("head", attention.heads), Axis(variable.label, log=variable.log), marks)
    title = f"{attention.label}: {variable.symbol} of every sample, heads of layer {layer}"
    return Figure(((panel,),), title=title, note=attention.caveats(attention.sentence(sample)))


def _heads(attention: AttentionSlice, layer: int) -> tuple[Pick, ...]:
    return tuple(attention.pick((layer, h)) for h in range(attention.heads))


class RelationOptions(Options):
    x: Statistic = Field("exp_entropy", title="Across", json_schema_extra=SYMBOLS)
    y: Statistic = Field("erank", title="Up", json_schema_extra=SYMBOLS)
    of: Literal["heads", "samples"] = Field(
        "heads", title="Points", description="Every head, its mean over samples; or every sample of the selected head"
    )


def relation(dataset: "xr.Dataset", selection: Selection, options: RelationOptions) -> Figure:
    """One statistic against another with their rank correlation; S2's effective rank = exp(entropy) is drawn."""
    attention = AttentionSlice.of(dataset, selection)
    for name in (options.x, options.y):
        if trouble := _lacking(attention, name):
            return Figure(empty=trouble)
    head, sample = attention.selected_head(selection), attention.sample(selection)
    across, up = VARIABLES[options.x], VARIABLES[options.y]
    if options.of == "heads":
        x, y = attention.mean(options.x).ravel(), attention.mean(options.y).ravel()
        places = [divmod(i, attention.heads) for i in range(len(x))]
        picks = tuple(attention.pick(place) for place in places)
        hover = tuple(f"layer {i}, head {h}" for i, h in places)
        at, color = head[0] * attention.heads + head[1], np.array([i for i, _ in places], float)
    else:
        x, y = attention.sampled(options.x)[head], attention.sampled(options.y)[head]
        picks = tuple(attention.pick(head, s) for s in range(len(x)))
        hover = tuple(f"sample {s}  {attention.text(s, 80)}" for s in range(len(x)))
        at, color = sample, None
    hover = tuple(
        f"{h}  ·  {across.symbol} = {a:.4g}, {up.symbol} = {b:.4g}" for h, a, b in zip(hover, x, y, strict=True)
    )
    points = Points(x, y, options.of, "data", 8, values=color, values_label="layer", picks=picks, hover=hover)
    marks: list[Mark] = [points, Points(x[[at]], y[[at]], "selected", "accent", size=14, filled=False)]
    if options.x == "exp_entropy" and options.y in ("erank", "r_l1l2"):
        ends = np.array([np.nanmin([x, y]), np.nanmax([x, y])])
        marks.insert(0, Line(ends, ends, cited("effective rank = exp(entropy) (S2 eq. 5)"), "law", 1.5, dash=True))
    panel = Panel(Axis(across.label, log=across.log), Axis(up.label, log=up.log), tuple(marks))
    where = "of every head" if options.of == "heads" else f"on every sample, layer {head[0]}, head {head[1]}"
    text = attention.sentence(sample) if options.of == "samples" else ""
    title = f"{attention.label}: {up.symbol} against {across.symbol} {where}"
    return Figure(((panel,),), title=title, note=attention.caveats(_correlation(x, y), text))


def _correlation(x: Floats, y: Floats) -> str:
    finite = np.isfinite(x) & np.isfinite(y)
    if finite.sum() < 3 or np.ptp(x[finite]) == 0 or np.ptp(y[finite]) == 0:
        return ""
    a, b = (values[finite].argsort().argsort() for values in (x, y))
    rho = 12 * float(np.cov(a, b, ddof=0)[0, 1]) / (len(a) ** 2 - 1)  # ranks 0 … n − 1 have the variance (n² − 1)/12
    return f"Spearman’s ρ = {rho:.2f} over {finite.sum()} points".replace("-", "−")


class NavigatorOptions(Options):
    statistic: HeadStatistic = Field("spectral_norm", title="Colour by", json_schema_extra=LABELS)
    samples: Literal["mean", "this sample"] = Field("mean", title="Of")


def navigator(dataset: "xr.Dataset", selection: Selection, options: NavigatorOptions) -> Figure:
    """The layer × head grid coloured by one statistic; the current head is outlined."""
    attention = AttentionSlice.of(dataset, selection)
    name = options.statistic
    single = options.samples == "this sample" and name in STATISTICS
    values = _values(attention, name, attention.sample(selection) if single else None)
    if not np.isfinite(values).any():
        return Figure(empty=f"There is no {VARIABLES[name].long_name} yet." if attention.has("entropy") else NOTHING)
    layers, heads = values.shape
    layer, head = attention.selected_head(selection)
    x_edges, y_edges = (np.arange(count + 1) - 0.5 for count in (layers, heads))
    image = Image(
        values.T, x_edges, y_edges, label=VARIABLES[name].symbol, picks=attention.cells(), marked=((head, layer),)
    )
    panel = Panel(number_axis("layer", layers), number_axis("head", heads, inverted=True), (image,))
    return Figure(((panel,),), legend=False)
