"""Communities through the layers: effects with their tests, coupling, resolution and flow (S3 figs 7, 8, S9)."""

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from pydantic import Field

from engine.analyses.communities.plan import DETECTORS
from gui.plots.figure import Axis, Band, Cell, Figure, Image, Line, Mark, Panel, Points, Rule, Table
from gui.plots.selection import Pick, Selection
from gui.views.base import Options
from gui.views.communities.data import (
    COLORS,
    NOTHING,
    SIGNIFICANT,
    SITE_LABELS,
    SITES,
    VARIABLES,
    CommunitiesSlice,
    Site,
    layer_axis,
    rounded,
)
from gui.views.model_slice import colors, dotted

if TYPE_CHECKING:
    import xarray as xr

Statistic = Literal["cohens_d", "variance_z", "n_communities", "nmi_next", "ari_next", "self_alignment"]
LABELS: dict[str, Any] = {"labels": {name: VARIABLES[name].long_name for name in get_args(Statistic)}}
TESTED = {"cohens_d": "q_value", "variance_z": "variance_q"}


class EffectOptions(Options):
    statistic: Statistic = Field("cohens_d", title="Of", json_schema_extra=LABELS)
    intervals: bool = Field(True, title="Intervals", description="95 % of Cohen’s d, of the selected model")


def effect(dataset: "xr.Dataset", selection: Selection, options: EffectOptions) -> Figure:
    """One statistic by layer at both sites, a line for each model; stars where q < 0.05 (S3 fig. 7)."""
    communities, name = CommunitiesSlice.of(dataset, selection), options.statistic
    panels = []
    for site, where in SITES.items():
        marks: list[Mark] = []
        for member, color in zip(communities.every, colors(communities.infos), strict=True):
            values, twin = member.values(name, site), member.info.twin
            if np.isnan(values).all():
                continue
            x = np.arange(member.layers, dtype=float)
            if options.intervals and name == "cohens_d" and member.model == communities.model:
                low, high = (member.values(f"cohens_d_{end}", site) for end in ("low", "high"))
                marks.append(Band(x, low, high, f"95 % interval, {member.label}", color, 0.16))
            picks = tuple(Pick(model=member.model, layer=layer) for layer in range(member.layers))
            hover = tuple(f"layer {layer}: {value:.4g}" for layer, value in enumerate(values.tolist()))
            width = 2 if member.model == communities.model else 1
            dots = dotted(communities.infos)
            marks.append(Line(x, values, member.label, color, width, twin, markers=dots, picks=picks, hover=hover))
            if name in TESTED and (significant := np.flatnonzero(member.values(TESTED[name], site) < SIGNIFICANT)).size:
                star = "q < 0.05 over the layers"
                marks.append(Points(x[significant], values[significant], star, "ink", size=17, symbol="star"))
        if not marks:
            continue
        if name in TESTED:
            marks.append(Rule("y", 0.0, "null", "null"))
        marks.append(Rule("x", float(communities.layer(selection)), "selected layer", "muted"))
        layers = max(member.layers for member in communities.every)
        panels.append(Panel(layer_axis(layers), Axis(VARIABLES[name].symbol), tuple(marks), title=where))
    if not panels:
        return Figure(empty=NOTHING)
    note = "Stars: q < 0.05 over the layers of a model and site (Benjamini–Hochberg)" if name in TESTED else ""
    title = VARIABLES[name].long_name
    return Figure((tuple(panels),), title=f"{title[0].upper()}{title[1:]}, by layer", note=communities.caveats(note))


class NavigatorOptions(Options):
    statistic: Statistic = Field("cohens_d", title="Colour by", json_schema_extra=LABELS)


def navigator(dataset: "xr.Dataset", selection: Selection, options: NavigatorOptions) -> Figure:
    """Sites × layers coloured by one statistic of the selected model; the selected layer is outlined."""
    communities, name = CommunitiesSlice.of(dataset, selection), options.statistic
    if not communities.arrived.size:
        return Figure(empty=NOTHING)
    z = np.stack([communities.values(name, site) for site in SITES])
    signed = name in TESTED
    reach = float(np.nanmax(np.abs(z))) if signed and np.isfinite(z).any() else 0.0
    image = Image(
        z,
        np.arange(communities.layers + 1) - 0.5,
        np.arange(len(SITES) + 1) - 0.5,
        label=VARIABLES[name].symbol,
        colormap="diverging" if signed else "sequential",
        limits=(-reach, reach) if reach else None,
        picks=(tuple(Pick(layer=i) for i in range(communities.layers)),) * len(SITES),
        marked=tuple((row, communities.layer(selection)) for row in range(len(SITES))),
    )
    x = Axis("layer", ticks=layer_axis(communities.layers).ticks, limits=(-0.5, communities.layers - 0.5))
    y = Axis("", ticks=tuple((float(i), title) for i, title in enumerate(SITES.values())), inverted=True)
    return Figure(((Panel(x, y, (image,)),),), legend=False)


Pair = Literal["alignment", "sigma", "variance"]
PAIRS: dict[str, tuple[str, str]] = {
    "alignment": ("self_alignment", "cohens_d"),
    "sigma": ("disruption", "sigma_change"),
    "variance": ("disruption", "variance_change"),
}
PAIR_LABELS: dict[str, Any] = {
    "labels": {pair: " and ".join(VARIABLES[name].symbol for name in names) for pair, names in PAIRS.items()}
}


class PairOptions(Options):
    of: Pair = Field("alignment", title="Pair", json_schema_extra=PAIR_LABELS)


def coupling(dataset: "xr.Dataset", selection: Selection, options: PairOptions) -> Figure:
    """Two statistics against each other, a point for each layer of each model, with Spearman's ρ (S3 fig. 8)."""
    communities = CommunitiesSlice.of(dataset, selection)
    x_variable, y_variable = (VARIABLES[name] for name in PAIRS[options.of])
    panels, notes = [], []
    for site, where in SITES.items():
        marks: list[Mark] = []
        for member, color in zip(communities.every, colors(communities.infos), strict=True):
            x, y = (member.values(variable.name, site) for variable in (x_variable, y_variable))
            tested = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
            if not tested.size:
                continue
            picks = tuple(Pick(model=member.model, layer=i) for i in tested.tolist())
            hover = tuple(f"{member.label}, layer {i}" for i in tested.tolist())
            full = not member.info.twin
            marks.append(Points(x[tested], y[tested], member.label, color, filled=full, picks=picks, hover=hover))
            if member.model == communities.model:
                notes.append(f"{member.label}, {where}: {_correlation(member, site, options.of)}")
                if (layer := communities.layer(selection)) in tested:
                    marks.append(Points(x[[layer]], y[[layer]], "selected layer", "ink", size=15, filled=False))
        if options.of == "alignment" and marks:
            marks.append(Rule("y", 0.0, "no effect", "null"))
        if marks:
            panels.append(Panel(Axis(x_variable.label), Axis(y_variable.label), tuple(marks), title=where))
    if not panels:
        waiting = "This needs at least two layers; the run is still going on."
        return Figure(empty=waiting if communities.arrived.size else NOTHING)
    title = f"{y_variable.symbol} against {x_variable.symbol}, by layer"
    return Figure((tuple(panels),), title=title, note=communities.caveats(*notes))


def _correlation(communities: CommunitiesSlice, site: str, pair: str) -> str:
    at = {"model": communities.model, "site": list(SITES).index(site)}
    names = ("rho", "low", "high", "p", "n")
    if pair == "alignment":
        values = [float(communities.dataset[f"coupling_{name}"].isel(at)) for name in names]
    else:
        values = [float(communities.dataset[f"rate_{name}"].isel(at).sel(rate=pair)) for name in names]
    rho, low, high, p, n = values
    if np.isnan(rho):
        return "too few layers for a correlation"
    interval = f" (95 % interval {rounded(low, 2)} to {rounded(high, 2)})" if np.isfinite(low) else ""
    return f"Spearman’s ρ = {rounded(rho, 2)}{interval}, p = {rounded(p)}, {n:.0f} layers"


class StabilityOptions(Options):
    """Nothing to choose."""


def stability(dataset: "xr.Dataset", selection: Selection, options: StabilityOptions) -> Figure:
    """Agreement of the partitions of different seeds against γ⁺, with the chosen γ⁺."""
    communities = CommunitiesSlice.of(dataset, selection)
    gammas = dataset["gamma_grid"].values[communities.model] if "gamma_grid" in dataset else np.empty(0)
    if not np.isfinite(gammas).any():
        given = "γ⁺ was given, so there is no stability profile; leave it empty in a new run to choose it from one."
        return Figure(empty=given if communities.arrived.size else NOTHING)
    chosen = float(dataset["gamma_chosen"].values[communities.model])
    rule = Rule("x", chosen, f"chosen γ⁺ = {chosen:.3g}", "accent")
    layers = dataset["profiled_layer"].values[communities.model]
    x_axis, columns = Axis(VARIABLES["gamma_grid"].symbol, log=True), []
    for name in ("gamma_nmi", "gamma_communities", "gamma_covered"):
        values = dataset[name].values[communities.model]
        marks: list[Mark] = [
            Line(gammas, row, f"layer {layer:.0f}", f"c{i}", markers=True)
            for i, (row, layer) in enumerate(zip(values, layers, strict=True))
            if np.isfinite(row).any()
        ]
        if name == "gamma_nmi":
            marks.append(Line(gammas, dataset["gamma_profile"].values[communities.model], "mean", "ink", 2))
        columns.append(Panel(x_axis, Axis(VARIABLES[name].label), (*marks, rule)))
    title = communities.title("stability of the partitions against resolution, before attention")
    return Figure((tuple(columns),), title=title, note=communities.caveats())


class FlowOptions(Options):
    site: Site = Field("attn", title="Site", json_schema_extra=SITE_LABELS)
    around: int = Field(6, title="Layers around", description="Of the selected one, to either side", ge=1, le=64)


BAR = 0.09
CURVE = np.linspace(0, 1, 17)


def flow(dataset: "xr.Dataset", selection: Selection, options: FlowOptions) -> Figure:
    """Where the units of each community go in the next layer: an alluvial diagram."""
    communities = CommunitiesSlice.of(dataset, selection)
    site, layer = options.site, communities.layer(selection)
    if empty := communities.missing(site, layer):
        return Figure(empty=empty)
    first, last = max(0, layer - options.around), min(communities.layers - 1, layer + options.around)
    bars: dict[int, list[np.ndarray]] = {}
    ribbons: dict[int, list[np.ndarray]] = {}
    smooth = CURVE**2 * (3 - 2 * CURVE)
    gap = np.full((3, 1), np.nan)
    for at in range(first, last + 1):
        feet, tints = _stack(communities, site, at)
        for foot, color in zip(feet, tints, strict=True):
            x = np.array([at - BAR, at + BAR])
            bars.setdefault(color, []).append(np.stack([x, np.full(2, foot[0]), np.full(2, foot[1])]))
            bars[color].append(gap)
        if at == last:
            continue
        after, _ = _stack(communities, site, at + 1)
        source, target, units = (communities.values(f"flow_{name}", site, at) for name in ("source", "target", "units"))
        left, right = ([foot[0] for foot in stack] for stack in (feet, after))
        for i, j, n in zip(*(values[np.isfinite(units)] for values in (source, target, units)), strict=True):
            # Label −1, units of degenerate communities, stands at the top of the stack
            i, j, n = int(i), int(j), float(n)
            if not (-1 <= i < len(left) and -1 <= j < len(right) and left and right):
                continue
            x = at + BAR + (1 - 2 * BAR) * CURVE
            low = left[i] + (right[j] - left[i]) * smooth
            ribbons.setdefault(tints[i], []).append(np.stack([x, low, low + n]))
            ribbons[tints[i]].append(gap)
            left[i] += n
            right[j] += n
    marks: list[Mark] = []
    for parts, opacity in ((ribbons, 0.3), (bars, 0.95)):
        for color in sorted(parts):
            x, low, high = np.concatenate(parts[color], axis=1)
            label = "degenerate communities" if color < 0 and opacity > 0.5 else ""
            marks.append(Band(x, low, high, label, "muted" if color < 0 else f"c{color}", opacity))
    marks.append(Rule("x", float(layer), "selected layer", "accent"))
    ticks = tuple((float(i), str(i)) for i in range(first, last + 1))
    x_axis = Axis("layer", ticks=ticks, limits=(first - 0.3, last + 0.3))
    panel = Panel(x_axis, Axis("units"), tuple(marks))
    alike = communities.values("nmi_next", site)[first:last]
    note = "NMI with the next layer: " + ", ".join(rounded(float(value), 2) for value in alike)
    title = communities.title(f"flow between the communities, {SITES[site]}")
    return Figure(((panel,),), title=title, note=communities.caveats(note))


def _stack(communities: CommunitiesSlice, site: str, layer: int) -> tuple[list[tuple[float, float]], list[int]]:
    """Foot and head of every community's bar, those of one line beside each other's colour; the last is degenerate."""
    sizes = communities.values("community_size", site, layer)
    sizes = sizes[np.isfinite(sizes)]
    lineage = communities.values("lineage", site, layer)[: len(sizes)]
    order = np.argsort(lineage, kind="stable")
    bars: list[tuple[float, float]] = [(0.0, 0.0)] * len(sizes)
    foot = 0.0
    for community in order.tolist():
        bars[community] = foot, foot + float(sizes[community])
        foot += float(sizes[community])
    degenerate = communities.number("n_degenerate", site, layer)
    if np.isfinite(degenerate):
        bars.append((foot, foot + degenerate))
    tints = (lineage.astype(int) % COLORS).tolist() if len(sizes) else []
    return bars, [*tints, -1][: len(bars)]


NUMBERS = ("n_communities", "significant_share", "mean_d", "median_d", "variance_z")
"""Columns of the table; the first and the last are medians over the layers."""


class DetectorOptions(Options):
    """Nothing to choose."""


def detectors(dataset: "xr.Dataset", selection: Selection, options: DetectorOptions) -> Figure:
    """Every detector on every model: how often the boundary test is significant, and its effect (S3, Table 1)."""
    communities = CommunitiesSlice.of(dataset, selection)
    rows: list[tuple[Cell, ...]] = []
    picks = []
    for member in communities.every:
        for s, where in enumerate(SITES.values()):
            for k, detector in enumerate(dataset["detector"].values.tolist()):
                share, mean, median = (
                    float(dataset[f"detector_{name}"].values[member.model, s, k])
                    for name in ("significant_share", "mean_d", "median_d")
                )
                counts, z = (
                    dataset[f"detector_{name}"].values[member.model, s, : member.layers, k]
                    for name in ("n_communities", "variance_z")
                )
                if np.isfinite(counts).any():
                    null_z = float(np.nanmedian(z)) if np.isfinite(z).any() else np.nan
                    numbers = float(np.nanmedian(counts)), share, mean, median, null_z
                    rows.append((member.label, where, DETECTORS[detector], *numbers))
                    picks.append(Pick(model=member.model))
    if not rows:
        return Figure(empty=NOTHING)
    count, *stored, variance = (VARIABLES[f"detector_{name}"].symbol for name in NUMBERS)
    columns = ("model", "site", "detector", f"median {count}", *stored, f"median {variance}")
    title = "Detectors and models: is the effect at boundaries a matter of the detector?"
    return Figure(title=title, table=Table(columns, tuple(rows), picks=tuple(picks)), note=communities.caveats())
