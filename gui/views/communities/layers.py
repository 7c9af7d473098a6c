"""Communities through the layers: effects with their tests, coupling, resolution and flow (S3 figs 7, 8, S9)."""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from engine.studies import cited
from gui.plots.figure import Axis, Band, Cell, Figure, Image, Line, Mark, Panel, Points, Rule, Table
from gui.plots.selection import Pick, Selection
from gui.views.base import Options
from gui.views.communities.data import (
    COLORS,
    NOTHING,
    SIGNIFICANT,
    SITE_LABELS,
    SITES,
    CommunitiesSlice,
    Site,
    layer_axis,
    said,
)
from gui.views.model_slice import colors

if TYPE_CHECKING:
    import xarray as xr

Statistic = Literal["cohens_d", "variance_z", "n_communities", "nmi_next", "ari_next", "self_alignment"]
STATISTICS: dict[str, str] = {
    "cohens_d": "Cohen’s d of column norms, boundary units against the others",
    "variance_z": "captured variance, z against random partitions",
    "n_communities": "communities of at least 3 units",
    "nmi_next": "NMI with the next layer",
    "ari_next": "ARI with the next layer",
    "self_alignment": "self-alignment of the mean Jacobian",
}
LABELS: dict[str, Any] = {"labels": STATISTICS}
AXES = {
    "cohens_d": "Cohen’s d",
    "variance_z": "z of captured variance",
    "n_communities": "communities",
    "nmi_next": "NMI",
    "ari_next": "ARI",
    "self_alignment": "self-alignment",
}
TESTED = {"cohens_d": "q_value", "variance_z": "variance_q"}


class EffectOptions(Options):
    statistic: Statistic = Field("cohens_d", title="Of", json_schema_extra=LABELS)
    intervals: bool = Field(True, title="Intervals", description="95 % of Cohen’s d, of the selected model")


def effect(dataset: "xr.Dataset", selection: Selection, options: EffectOptions) -> Figure:
    """One statistic by layer at both sites, a line for each model; stars where q < 0.05 (S3 fig. 7)."""
    of, name = CommunitiesSlice.of(dataset, selection), options.statistic
    panels = []
    for site, where in SITES.items():
        marks: list[Mark] = []
        for one, color in zip(of.every, colors(of.infos), strict=True):
            values, twin = one.values(name, site), one.info.twin
            if np.isnan(values).all():
                continue
            x = np.arange(one.layers, dtype=float)
            if options.intervals and name == "cohens_d" and one.model == of.model:
                low, high = (one.values(f"cohens_d_{end}", site) for end in ("low", "high"))
                marks.append(Band(x, low, high, f"95 % interval, {one.label}", color, 0.16))
            picks = tuple(Pick(model=one.model, layer=layer) for layer in range(one.layers))
            hover = tuple(f"layer {layer}: {value:.4g}" for layer, value in enumerate(values.tolist()))
            width = 2 if one.model == of.model else 1
            marks.append(Line(x, values, one.label, color, width, twin, markers=True, picks=picks, hover=hover))
            if name in TESTED and (found := np.flatnonzero(one.values(TESTED[name], site) < SIGNIFICANT)).size:
                star = "q < 0.05 over the layers"
                marks.append(Points(x[found], values[found], star, "ink", size=17, symbol="star"))
        if not marks:
            continue
        if name in TESTED:
            marks.append(Rule("y", 0.0, "null", "null"))
        marks.append(Rule("x", float(of.layer(selection)), "selected layer", "muted"))
        layers = max(one.layers for one in of.every)
        panels.append(Panel(layer_axis(layers), Axis(AXES[name]), tuple(marks), title=where))
    if not panels:
        return Figure(empty=NOTHING)
    note = "Stars: q < 0.05 over the layers of a model and site (Benjamini–Hochberg)" if name in TESTED else ""
    what = STATISTICS[name]
    return Figure((tuple(panels),), title=f"{what[0].upper()}{what[1:]}, by layer", note=of.caveats(note))


class NavigatorOptions(Options):
    statistic: Statistic = Field("cohens_d", title="Colour by", json_schema_extra=LABELS)


def navigator(dataset: "xr.Dataset", selection: Selection, options: NavigatorOptions) -> Figure:
    """Sites × layers coloured by one statistic of the selected model; the selected layer is outlined."""
    of, name = CommunitiesSlice.of(dataset, selection), options.statistic
    if not of.arrived.size:
        return Figure(empty=NOTHING)
    z = np.stack([of.values(name, site) for site in SITES])
    signed = name in TESTED
    reach = float(np.nanmax(np.abs(z))) if signed and np.isfinite(z).any() else 0.0
    image = Image(
        z,
        np.arange(of.layers + 1) - 0.5,
        np.arange(len(SITES) + 1) - 0.5,
        label=AXES[name],
        colormap="diverging" if signed else "sequential",
        limits=(-reach, reach) if reach else None,
        picks=(tuple(Pick(layer=i) for i in range(of.layers)),) * len(SITES),
        marked=tuple((row, of.layer(selection)) for row in range(len(SITES))),
    )
    x = Axis("layer", ticks=layer_axis(of.layers).ticks, limits=(-0.5, of.layers - 0.5))
    y = Axis("", ticks=tuple((float(i), title) for i, title in enumerate(SITES.values())), inverted=True)
    return Figure(((Panel(x, y, (image,)),),), legend=False)


class PairOptions(Options):
    of: Literal["alignment", "sigma", "variance"] = Field(
        "alignment",
        title="Pair",
        json_schema_extra={
            "labels": {
                "alignment": cited("self-alignment and d (S3 fig. 8)"),
                "sigma": "disruption and |Δσ₁|",
                "variance": "disruption and |Δ captured variance|",
            }
        },
    )


PAIRS: dict[str, tuple[str, str, str, str]] = {
    "alignment": ("self_alignment", "self-alignment of the mean Jacobian", "cohens_d", "Cohen’s d"),
    "sigma": ("disruption", "disruption: 1 − NMI with the next layer", "sigma_change", "|Δσ₁| of BᵀJB"),
    "variance": ("disruption", "disruption: 1 − NMI with the next layer", "variance_change", "|Δ captured variance|"),
}


def coupling(dataset: "xr.Dataset", selection: Selection, options: PairOptions) -> Figure:
    """Each layer of each model as a point, with Spearman's ρ through the layers: tests 1 and the coupling."""
    of = CommunitiesSlice.of(dataset, selection)
    x_name, x_label, y_name, y_label = PAIRS[options.of]
    panels, notes = [], []
    for site, where in SITES.items():
        marks: list[Mark] = []
        for one, color in zip(of.every, colors(of.infos), strict=True):
            x, y = one.values(x_name, site), one.values(y_name, site)
            there = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
            if not there.size:
                continue
            picks = tuple(Pick(model=one.model, layer=i) for i in there.tolist())
            hover = tuple(f"{one.label}, layer {i}" for i in there.tolist())
            full = not one.info.twin
            marks.append(Points(x[there], y[there], one.label, color, filled=full, picks=picks, hover=hover))
            if one.model == of.model:
                notes.append(f"{one.label}, {where}: {_correlation(one, site, options.of)}")
                if (layer := of.layer(selection)) in there:
                    marks.append(Points(x[[layer]], y[[layer]], "selected layer", "ink", size=15, filled=False))
        if options.of == "alignment" and marks:
            marks.append(Rule("y", 0.0, "no effect", "null"))
        if marks:
            panels.append(Panel(Axis(x_label), Axis(y_label), tuple(marks), title=where))
    if not panels:
        return Figure(empty=NOTHING if not of.arrived.size else "Two layers at least are needed; the run goes on.")
    return Figure((tuple(panels),), title=f"{y_label} against {x_label}, by layer", note=of.caveats(*notes))


def _correlation(of: CommunitiesSlice, site: str, pair: str) -> str:
    at = {"model": of.model, "site": list(SITES).index(site)}
    names = ("rho", "low", "high", "p", "n")
    if pair == "alignment":
        found = [float(of.dataset[f"coupling_{name}"].isel(at)) for name in names]
    else:
        found = [float(of.dataset[f"rate_{name}"].isel(at).sel(rate=pair)) for name in names]
    rho, low, high, p, n = found
    if np.isnan(rho):
        return "too few layers for a correlation"
    interval = f" (95 % interval {said(low, 2)} to {said(high, 2)})" if np.isfinite(low) else ""
    return f"Spearman’s ρ = {said(rho, 2)}{interval}, p = {said(p)}, {n:.0f} layers"


class StabilityOptions(Options):
    """Nothing to choose."""


def stability(dataset: "xr.Dataset", selection: Selection, options: StabilityOptions) -> Figure:
    """How alike the partitions of different seeds are against γ⁺, and the γ⁺ that was taken."""
    of = CommunitiesSlice.of(dataset, selection)
    gammas = dataset["gamma_grid"].values[of.model] if "gamma_grid" in dataset else np.empty(0)
    if not np.isfinite(gammas).any():
        asked = "γ⁺ was given, so there is no stability profile; leave it empty in a new run to choose it from one."
        return Figure(empty=asked if of.arrived.size else NOTHING)
    chosen = float(dataset["gamma_chosen"].values[of.model])
    rule = Rule("x", chosen, f"chosen γ⁺ = {chosen:.3g}", "accent")
    columns = []
    for name, label in (
        ("gamma_nmi", "mean pairwise NMI over seeds"),
        ("gamma_communities", "communities of at least 3 units"),
        ("gamma_covered", "share of units in them"),
    ):
        values = dataset[name].values[of.model]
        marks: list[Mark] = [
            Line(gammas, row, f"layer {layer:.0f}", f"c{i}", markers=True)
            for i, (row, layer) in enumerate(zip(values, dataset["profiled_layer"].values[of.model], strict=True))
            if np.isfinite(row).any()
        ]
        if name == "gamma_nmi":
            marks.append(Line(gammas, dataset["gamma_profile"].values[of.model], "mean", "ink", 2))
        columns.append(Panel(Axis("γ⁺", log=True), Axis(label), (*marks, rule)))
    title = of.title("stability of the partitions against resolution, before attention")
    return Figure((tuple(columns),), title=title, note=of.caveats())


class FlowOptions(Options):
    site: Site = Field("attn", title="Site", json_schema_extra=SITE_LABELS)
    around: int = Field(6, title="Layers around", description="Of the selected one, to either side", ge=1, le=64)


BAR = 0.09
CURVE = np.linspace(0, 1, 17)


def flow(dataset: "xr.Dataset", selection: Selection, options: FlowOptions) -> Figure:
    """Where the units of each community go in the next layer: an alluvial diagram."""
    of = CommunitiesSlice.of(dataset, selection)
    site, layer = options.site, of.layer(selection)
    if empty := of.missing(site, layer):
        return Figure(empty=empty)
    first, last = max(0, layer - options.around), min(of.layers - 1, layer + options.around)
    bars: dict[int, list[np.ndarray]] = {}
    ribbons: dict[int, list[np.ndarray]] = {}
    smooth = CURVE**2 * (3 - 2 * CURVE)
    gap = np.full((3, 1), np.nan)
    for at in range(first, last + 1):
        feet, tints = _stack(of, site, at)
        for foot, color in zip(feet, tints, strict=True):
            x = np.array([at - BAR, at + BAR])
            bars.setdefault(color, []).append(np.stack([x, np.full(2, foot[0]), np.full(2, foot[1])]))
            bars[color].append(gap)
        if at == last:
            continue
        after, _ = _stack(of, site, at + 1)
        source, target, units = (of.values(f"flow_{name}", site, at) for name in ("source", "target", "units"))
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
    alike = of.values("nmi_next", site)[first:last]
    note = "NMI with the next layer: " + ", ".join(said(float(value), 2) for value in alike)
    return Figure(((panel,),), title=of.title(f"flow between the communities, {SITES[site]}"), note=of.caveats(note))


def _stack(of: CommunitiesSlice, site: str, layer: int) -> tuple[list[tuple[float, float]], list[int]]:
    """Foot and head of every community's bar, those of one line beside each other's colour; the last is degenerate."""
    sizes = of.values("community_size", site, layer)
    sizes = sizes[np.isfinite(sizes)]
    lineage = of.values("lineage", site, layer)[: len(sizes)]
    order = np.argsort(lineage, kind="stable")
    found: list[tuple[float, float]] = [(0.0, 0.0)] * len(sizes)
    foot = 0.0
    for community in order.tolist():
        found[community] = foot, foot + float(sizes[community])
        foot += float(sizes[community])
    degenerate = of.number("n_degenerate", site, layer)
    if np.isfinite(degenerate):
        found.append((foot, foot + degenerate))
    tints = (lineage.astype(int) % COLORS).tolist() if len(sizes) else []
    return found, [*tints, -1][: len(found)]


DETECTORS = {"cpm": "signed Leiden CPM", "modularity": "signed Leiden modularity", "infomap": "Infomap"}


class DetectorOptions(Options):
    """Nothing to choose."""


def detectors(dataset: "xr.Dataset", selection: Selection, options: DetectorOptions) -> Figure:
    """Every detector on every model: how often the boundary test is significant, and its effect (S3, Table 1)."""
    of = CommunitiesSlice.of(dataset, selection)
    rows: list[tuple[Cell, ...]] = []
    picks = []
    for one in of.every:
        for s, where in enumerate(SITES.values()):
            for k, detector in enumerate(dataset["detector"].values.tolist()):
                share, mean, median = (
                    float(dataset[f"detector_{name}"].values[one.model, s, k])
                    for name in ("significant_share", "mean_d", "median_d")
                )
                counts, z = (
                    dataset[f"detector_{name}"].values[one.model, s, : one.layers, k]
                    for name in ("n_communities", "variance_z")
                )
                if np.isfinite(counts).any():
                    of_null = float(np.nanmedian(z)) if np.isfinite(z).any() else np.nan
                    found = float(np.nanmedian(counts)), share, mean, median, of_null
                    rows.append((one.label, where, DETECTORS[detector], *found))
                    picks.append(Pick(model=one.model))
    if not rows:
        return Figure(empty=NOTHING)
    columns = (
        "model", "site", "detector", "communities (median)", "layers with q < 0.05", "mean d", "median d",
        "captured variance, median z",
    )  # fmt: skip
    title = "Detectors and models: is the effect at boundaries a matter of the detector?"
    return Figure(title=title, table=Table(columns, tuple(rows), picks=tuple(picks)), note=of.caveats())
