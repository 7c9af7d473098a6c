"""The graph of a snapshot, its correlation matrix in the order of communities, and its units (S3 figs 6 and 7)."""

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from gui.plots.figure import Axis, Figure, Image, Mark, Panel, Points, Rule, Segments
from gui.plots.selection import Pick, Selection
from gui.views.base import Options
from gui.views.communities.data import COLORS, JACOBIAN, SITE_LABELS, CommunitiesSlice, Site, said

if TYPE_CHECKING:
    import xarray as xr

Size = Literal["participation", "column_norm", "degree", "same"]
SIZES: dict[str, Any] = {
    "labels": {"participation": "participation", "column_norm": "column norm", "degree": "degree", "same": "all alike"}
}
Edges = Literal["all", "positive", "negative", "none"]
SMALL, LARGE = 3.0, 13.0


class GraphOptions(Options):
    site: Site = Field("attn", title="Site", json_schema_extra=SITE_LABELS)
    size: Size = Field("participation", title="Size", json_schema_extra=SIZES)
    edges: Edges = Field("all", title="Edges")
    boundary: bool = Field(True, title="Boundary units", description="Ring the top 10 % of participation")


def graph(dataset: "xr.Dataset", selection: Selection, options: GraphOptions) -> Figure:
    """Units as nodes, their kept correlations as edges, communities by colour; a colour stays through the layers."""
    of = CommunitiesSlice.of(dataset, selection)
    site, layer = options.site, of.layer(selection)
    if empty := of.missing(site, layer):
        return Figure(empty=empty)
    x, y = np.asarray(of.values("position", site, layer), float).T
    marks: list[Mark] = []
    source, target, weight = (of.values(f"edge_{name}", site, layer) for name in ("source", "target", "weight"))
    there = source >= 0
    for sign, name, tint, strong in ((-1, "negative", "data", 0.4), (1, "positive", "ink", 1.0)):
        chosen = there & (sign * weight > 0)
        if options.edges in ("all", name) and chosen.any():
            ends = np.stack([source[chosen], target[chosen]], axis=1)
            faint = strong * float(np.clip(200 / chosen.sum(), 0.08, 0.6))
            marks.append(Segments(x[ends], y[ends], f"{name} r ({chosen.sum():,})", tint, faint))
    colors, size = of.colors(site, layer), _sizes(of, options.size, site, layer)
    placed = np.isfinite(x)
    for color in range(-1, COLORS):
        units = np.flatnonzero(placed & (colors == color))
        if units.size:
            label, name = ("degenerate", "muted") if color < 0 else ("", f"c{color}")
            hover = of.describe(site, layer, units)
            marks.append(Points(x[units], y[units], label, name, size[units], picks=_picks(units), hover=hover))
    if options.boundary and (ringed := of.tails(site, layer)[0]).size:
        label = "boundary units: top 10 % of participation"
        marks.append(Points(x[ringed], y[ringed], label, "ink", size=size[ringed] + 3, filled=False))
    unit = of.unit(selection)
    if placed[unit]:
        marks.append(Points(x[[unit]], y[[unit]], f"unit {unit}", "accent", size=LARGE + 6, filled=False))
    counted = {name: int(of.number(name, site, layer)) for name in ("n_communities", "n_degenerate", "n_constant")}
    noise = float(dataset["noise_correlation"].values[of.model])
    note = (
        f"{counted['n_communities']} communities; {counted['n_degenerate']} units in degenerate ones, "
        f"{counted['n_constant']} constant; weakest edge |r| = {said(of.number('weakest_edge', site, layer))}, noise "
        f"1/√N = {noise:.2g}"
    )
    bare = Axis("", bare=True)
    panel = Panel(bare, bare, tuple(marks))
    title = of.title("communities", site, layer)
    selected = of.describe(site, layer, np.array([unit]))
    return Figure(((panel,),), title=title, note=of.caveats(*selected, note))


def _sizes(of: CommunitiesSlice, by: Size, site: str, layer: int) -> Any:
    if by == "same":
        return np.full(int(of.dataset.sizes["unit"]), 6.0)
    values = np.asarray(of.values(by, site, layer))
    finite = values[np.isfinite(values)]
    if not finite.size or np.ptp(finite) == 0:
        return np.full(len(values), 6.0)
    rank = np.clip((values - finite.min()) / np.quantile(finite - finite.min(), 0.99), 0, 1)
    return SMALL + (LARGE - SMALL) * np.nan_to_num(rank)


def _picks(units: Any) -> tuple[Pick, ...]:
    return tuple(map(_pick, units.tolist()))


@lru_cache(maxsize=2**14)
def _pick(unit: int) -> Pick:
    return Pick(unit=unit)


class MatrixOptions(Options):
    site: Site = Field("attn", title="Site", json_schema_extra=SITE_LABELS)
    borders: bool = Field(True, title="Borders", description="Lines between communities")


def matrix(dataset: "xr.Dataset", selection: Selection, options: MatrixOptions) -> Figure:
    """Correlations of all units, those of a community beside each other (of many units, means of tiles)."""
    of = CommunitiesSlice.of(dataset, selection)
    site, layer = options.site, of.layer(selection)
    if empty := of.missing(site, layer):
        return Figure(empty=empty)
    order = of.values("order", site, layer)
    order = order[order >= 0]
    tiles = of.values("correlation_tiles", site, layer)
    side = int(np.isfinite(tiles).any(0).sum())
    z = np.asarray(tiles[:side, :side], float)
    z[np.arange(side), np.arange(side)] = np.where(side == len(order), np.nan, np.diag(z))  # r of a unit with itself
    edges = np.linspace(0, len(order), side + 1)
    reach = float(np.nanquantile(np.abs(z), 0.995))
    marks: list[Mark] = [Image(z, edges, edges, "mean r", colormap="diverging", limits=(-reach, reach))]
    if options.borders:
        membership = of.values("membership", site, layer)[order]
        proper = int(np.isfinite(of.values("community_size", site, layer)).sum())
        cuts = np.flatnonzero(np.diff(np.minimum(membership, proper)) > 0) + 1.0
        both, ends = np.stack([cuts, cuts], 1), np.tile([0.0, float(len(order))], (len(cuts), 1))
        if cuts.size:
            sides = np.concatenate([both, ends]), np.concatenate([ends, both])
            marks.append(Segments(*sides, "borders of communities", "ink", 0.6))
    unit = of.unit(selection)
    if (at := np.flatnonzero(order == unit)).size:
        marks += [Rule(axis, float(at[0]) + 0.5, f"unit {unit}", "accent") for axis in ("x", "y")]
    axis = Axis("units, ordered by community and degree", limits=(0, len(order)))
    panel = Panel(axis, Axis(axis.label, limits=axis.limits, inverted=True), tuple(marks))
    note = (
        "" if side == len(order) else f"Means of tiles of about {len(order) / side:.0f} × {len(order) / side:.0f} units"
    )
    return Figure(((panel,),), title=of.title("correlations by community", site, layer), note=of.caveats(note))


class UnitOptions(Options):
    site: Site = Field("attn", title="Site", json_schema_extra=SITE_LABELS)
    twin: bool = Field(True, title="Twin", description="The same snapshot of the random-init twin beside it")


def units(dataset: "xr.Dataset", selection: Selection, options: UnitOptions) -> Figure:
    """Participation against column norm, with the tails that the test compares (S3, A.5)."""
    of = CommunitiesSlice.of(dataset, selection)
    site, layer = options.site, of.layer(selection)
    if empty := of.missing(site, layer):
        return Figure(empty=empty)
    shown = [of] + ([of.untrained] if options.twin and of.untrained is not None else [])
    panels, notes = [], []
    for one in shown:
        if one.missing(site, layer):
            continue
        x, y = (np.asarray(one.values(name, site, layer)) for name in ("participation", "column_norm"))
        top, bottom = one.tails(site, layer)
        rest = np.setdiff1d(np.flatnonzero(np.isfinite(x) & np.isfinite(y)), np.concatenate([top, bottom]))
        marks: list[Mark] = []
        for units, label, color in (
            (rest, "between", "null"),
            (bottom, "bottom 10 %: inside a community", "c0"),
            (top, "top 10 %: at boundaries", "c1"),
        ):
            hover = one.describe(site, layer, units)
            marks.append(Points(x[units], y[units], label, color, size=5, picks=_picks(units), hover=hover))
            if label != "between" and units.size:
                marks.append(Rule("y", float(np.mean(y[units])), f"mean of the {label.split(':')[0]}", color))
        unit = one.unit(selection)
        marks.append(Points(x[[unit]], y[[unit]], f"unit {unit}", "ink", size=13, filled=False))
        panels.append(Panel(Axis("participation P"), Axis(JACOBIAN, log=True), tuple(marks), title=one.label))
        d, low, high, p, q = (
            one.number(name, site, layer)
            for name in ("cohens_d", "cohens_d_low", "cohens_d_high", "p_value", "q_value")
        )
        notes.append(
            f"{one.label}: Cohen’s d = {said(d)} (95 % interval {said(low)} to {said(high)}), p = {said(p)}, "
            f"q = {said(q)} over the layers"
        )
    return Figure((tuple(panels),), title=of.title("units at boundaries", site, layer), note=of.caveats(*notes))
