"""Norms against sequence length with the laws fitted to them, and which head follows which (S2 fig. 3)."""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from engine.spectra.norm_scaling import CLEAR, LAWS, beyond_logarithm, curves
from engine.studies import cited
from gui.plots.figure import Axis, Cell, Figure, Floats, Image, Line, Mark, Panel, Points, Table
from gui.plots.selection import Pick, Selection
from gui.views.attention.data import SINK, AttentionSlice, number_axis
from gui.views.base import Options

if TYPE_CHECKING:
    import xarray as xr

Norm = Literal["spectral", "frobenius"]
NORMS: dict[str, str] = {"spectral": "‖A‖₂", "frobenius": "‖A‖_F"}
NORM_LABELS: dict[str, Any] = {"labels": NORMS}
CLAIMED = {"spectral": "logarithm", "frobenius": "root"}
"""The laws of S2 eq. 4."""
LAW: dict[str, tuple[str, str]] = {
    "constant": ("c", "c5"),
    "root": ("c √n", "c1"),
    "logarithm": ("a + b ln n", "c2"),
    "power": ("c n^b", "c6"),
}
WHAT = "norms against length"


class NormOptions(Options):
    texts: bool = Field(True, title="Texts", description="Every text by itself")
    fits: Literal["best and claimed", "all"] = Field("best and claimed", title="Laws")


def norms(dataset: "xr.Dataset", selection: Selection, options: NormOptions) -> Figure:
    """‖A‖_F and ‖A‖₂ of one head against the number of tokens, with fitted laws and exact bounds."""
    of = AttentionSlice.of(dataset, selection)
    head = of.head(selection)
    if not of.has("norm_spectral"):
        return Figure(empty=of.missing("norm_spectral", WHAT, "length_samples"))
    n = of.array("length").astype(float)
    panels, fits = [], {}
    for norm in ("frobenius", "spectral"):
        values = of.of_heads(f"norm_{norm}")[head]
        marks = _bounds(n)
        if options.texts:
            marks.append(_texts(of, values, n))
        marks.append(_mean(values, n))
        aic, coefficients = (of.of_heads(f"norm_{norm}_{part}")[head] for part in ("aic", "coefficients"))
        if np.isfinite(aic).all():
            best = LAWS[int(np.argmin(aic))]
            shown = LAWS if options.fits == "all" else (*{CLAIMED[norm]: 0, best: 0},)
            fitted = curves(coefficients, n)
            for law in shown:
                y = fitted[LAWS.index(law)]
                marks.append(Line(n, np.where(y > 0, y, np.nan), LAW[law][0], LAW[law][1], 2, dash=law != best))
            fits[norm] = aic, coefficients
        y_axis = Axis(NORMS[norm], log=True, limits=(0.9, float(n[-1]) ** 0.5 * 1.15))
        x_axis = Axis("tokens n", log=True, ticks=tuple((float(v), f"{v:.0f}") for v in n))
        panels.append(Panel(x_axis, y_axis, tuple(marks), title=cited(f"{NORMS[norm]}: O({SAYS[norm]}) by S2 eq. 4")))
    few = "" if fits else "Fewer than four lengths: no law is fitted"
    note = of.caveats(growth_sentence(of, head), few, cited("solid: the best law by AIC; dashed: that of S2 eq. 4"))
    title = of.title("norms against the number of tokens,", selection, sample=False)
    return Figure((tuple(panels),), title=title, note=note, table=_fits(fits) if fits else None)


SAYS = {"spectral": "ln n", "frobenius": "√n"}


def _bounds(n: Floats) -> list[Mark]:
    x = np.array([n[0] * 0.9, n[-1] * 1.1])
    return [
        Line(x, np.sqrt(x), "√n, exact bound", "ink", dash=True),
        Line(x, np.ones(2), "1, exact bound", "ink", dash=True),
    ]


def _texts(of: AttentionSlice, values: Floats, n: Floats) -> Points:
    """Every text at every length, beside each other; pointing at one reads it."""
    text, column = np.nonzero(np.isfinite(values))
    written = of.array("length_text")[of.model] if "length_text" in of.dataset else [""] * len(values)
    starts = [" ".join(str(t or "").split())[:70] for t in written]
    hover = tuple(
        f"text {t}: {values[t, c]:.4g} at n = {n[c]:.0f}  “{starts[t]} …”" for t, c in zip(text, column, strict=True)
    )
    spread = 1 + 0.08 * (((text * 0.6180339887) % 1) - 0.5)
    return Points(n[column] * spread, values[text, column], "texts", "muted", size=4, hover=hover)


def _mean(values: Floats, n: Floats) -> Line:
    counts = np.isfinite(values).sum(0)
    mean = np.where(counts > 0, np.nansum(values, 0) / np.maximum(counts, 1), np.nan)
    return Line(n, mean, "mean over texts", "data", 2, markers=True)


def _fits(fits: dict[str, tuple[Floats, Floats]]) -> Table:
    """Every law as fitted to each norm, and how far its AIC is behind the best one's."""
    columns = ["law"]
    rows: list[list[Cell]] = [[law] for law, _ in LAW.values()]
    for norm, (aic, coefficients) in fits.items():
        columns += [f"{NORMS[norm]} fitted", "AIC − the best", "by AIC"]
        for row, law, (a, b), behind in zip(rows, LAWS, coefficients, aic - aic.min(), strict=True):
            said = {"constant": f"{a:.3g}", "root": f"{a:.3g} √n", "logarithm": f"{a:.3g} {b:+.3g} ln n"}
            verdict = "best" if not behind else "as good" if behind <= CLEAR else ""
            row += [said.get(law, f"{a:.3g} n^{b:.3f}").replace("-", "−"), float(behind), verdict]
    return Table(tuple(columns), tuple(map(tuple, rows)))


def growth(of: AttentionSlice) -> Floats:
    """By how much AIC prefers that ‖A‖₂ grows faster than ln n, (layers, heads)."""
    return beyond_logarithm(of.of_heads("norm_spectral_aic"), of.of_heads("norm_spectral_exponent"))


def growth_sentence(of: AttentionSlice, head: tuple[int, int]) -> str:
    """Whether S2's O(ln n) holds for a head, with the numbers."""
    if not of.has("norm_spectral_aic") or np.isnan(of.of_heads("norm_spectral_aic")[head]).any():
        return ""
    beyond = float(growth(of)[head])
    exponent, error = (float(of.of_heads(f"norm_spectral_exponent{end}")[head]) for end in ("", "_se"))
    kind = "faster than ln n" if beyond > CLEAR else "no faster than ln n" if beyond < -CLEAR else ""
    said = f"By AIC ‖A‖₂ grows {kind}" if kind else "AIC does not tell whether ‖A‖₂ grows faster than ln n"
    return f"{said} (by {abs(beyond):.1f}); ‖A‖₂ ∝ n^b with b = {exponent:.2f} ± {error:.2f}.".replace("-", "−")


class LawOptions(Options):
    norm: Norm = Field("spectral", title="Norm", json_schema_extra=NORM_LABELS)
    colour: Literal["exponent", "of_bound", "sink", "beyond"] = Field(
        "exponent",
        title="Beside",
        json_schema_extra={
            "labels": {
                "exponent": "exponent of n",
                "of_bound": "share of the bound √n",
                "sink": "weight on the first token",
                "beyond": "AIC for faster than ln n",
            }
        },
    )


def laws(dataset: "xr.Dataset", selection: Selection, options: LawOptions) -> Figure:
    """Layers × heads: which law of n each head follows, which are sinks; beside it how fast or how near the bound."""
    of = AttentionSlice.of(dataset, selection)
    if not of.has(f"norm_{options.norm}_aic"):
        if of.has("norm_spectral"):
            return Figure(empty="Fewer than four lengths: no law is fitted. Ask for more lengths in a new run.")
        return Figure(empty=of.missing("norm_spectral", WHAT, "length_samples"))
    aic = of.of_heads(f"norm_{options.norm}_aic")
    there = np.isfinite(aic).all(-1)
    best = np.where(there, np.where(np.isfinite(aic), aic, np.inf).argmin(-1), -1)
    ordered = np.sort(aic, -1)
    clear = there & (ordered[..., 1] - ordered[..., 0] > CLEAR)
    sinks = of.mean("sink") >= SINK
    marks: list[Mark] = []
    for at, law in enumerate(LAWS):
        text, color = LAW[law]
        for sure, label in ((True, text), (False, f"{text}, not clearly")):
            layer, head = np.nonzero((best == at) & (clear == sure))
            if len(layer):
                places = list(zip(layer.tolist(), head.tolist(), strict=True))
                hover = tuple(_hover(of, options.norm, place) for place in places)
                picks = tuple(of.pick(place) for place in places)
                marks.append(Points(layer * 1.0, head * 1.0, label, color, 15, "s", sure, picks=picks, hover=hover))
    layer, head = np.nonzero(sinks)
    if len(layer):
        marks.append(Points(layer * 1.0, head * 1.0, "sink head", "ink", 24, filled=False))
    chosen = of.head(selection)
    marks.append(Points(np.array([chosen[0]]), np.array([chosen[1]]), "selected", "accent", 30, "s", filled=False))
    x, y = number_axis("layer", of.layers), number_axis("head", of.heads, inverted=True)
    left = Panel(x, y, tuple(marks), title=f"best law of {NORMS[options.norm]}")
    right = Panel(x, y, (_map(of, options, chosen),), title=_name(options))
    title = f"{of.label}: how {NORMS[options.norm]} grows with the number of tokens, by AIC"
    sink = f"{int(sinks.sum())} sink heads: half or more of the weight is on the first token"
    filled = f"filled: better than every other law by more than {CLEAR:.0f}"
    table = _counts(of, options.norm, best, clear, sinks)
    said = _claim(of) if options.norm == "spectral" else ""
    return Figure(((left, right),), title=title, note=of.caveats(said, filled, sink), table=table)


def _hover(of: AttentionSlice, norm: str, head: tuple[int, int]) -> str:
    aic = of.of_heads(f"norm_{norm}_aic")[head]
    order = np.argsort(aic)
    behind = aic[order[1]] - aic[order[0]]
    exponent = of.of_heads(f"norm_{norm}_exponent")[head]
    return (
        f"layer {head[0]}, head {head[1]}: {LAW[LAWS[order[0]]][0]}, AIC {behind:.1f} better than "
        f"{LAW[LAWS[order[1]]][0]}; exponent {exponent:.2f}"
    )


def _name(options: LawOptions) -> str:
    norm = NORMS[options.norm]
    return {
        "exponent": f"exponent of {norm} ∝ n^b",
        "of_bound": "‖A‖₂/√n at the longest length",
        "sink": "weight on the first token",
        "beyond": "‖A‖₂: AIC for faster than ln n",
    }[options.colour]


def _map(of: AttentionSlice, options: LawOptions, chosen: tuple[int, int]) -> Image:
    values = {
        "exponent": lambda: of.of_heads(f"norm_{options.norm}_exponent"),
        "of_bound": lambda: of.of_heads("norm_spectral_of_bound"),
        "sink": lambda: of.mean("sink"),
        "beyond": lambda: growth(of),
    }[options.colour]()
    picks = tuple(tuple(Pick(of.model, i, h) for i in range(of.layers)) for h in range(of.heads))
    edges = (np.arange(of.layers + 1) - 0.5, np.arange(of.heads + 1) - 0.5)
    signed = options.colour in ("exponent", "beyond")
    most = float(np.nanmax(np.abs(values)))
    return Image(
        values.T, *edges, label=_name(options), picks=picks, marked=(chosen[::-1],),
        colormap="diverging" if signed else "sequential", limits=(-most, most) if signed else (0.0, max(most, 1e-9)),
    )  # fmt: skip


def _counts(of: AttentionSlice, norm: str, best: np.ndarray, clear: np.ndarray, sinks: np.ndarray) -> Table:
    """How many heads follow which law."""
    exponent = of.of_heads(f"norm_{norm}_exponent")
    rows: list[tuple[Cell, ...]] = []
    for at, law in enumerate(LAWS):
        mine = best == at
        middle = float(np.median(exponent[mine])) if mine.any() else float("nan")
        rows.append((LAW[law][0], int(mine.sum()), int((mine & clear).sum()), int((mine & sinks).sum()), middle))
    return Table(("law", "best for heads", "clearly", "of these sinks", "median exponent"), tuple(rows))


def _claim(of: AttentionSlice) -> str:
    """What becomes of S2's O(ln n)."""
    beyond, exponent = growth(of), of.of_heads("norm_spectral_exponent")
    parts = []
    for label, mine in (
        (cited("grow no faster than ln n, as S2 eq. 4 says"), beyond < -CLEAR),
        ("grow faster", beyond > CLEAR),
        ("the lengths do not tell", np.abs(beyond) <= CLEAR),
    ):
        power = f" (median exponent {np.median(exponent[mine]):.2f})" if mine.any() else ""
        parts.append(f"{int(mine.sum())} heads {label}{power}".replace("-", "−"))
    return f"{parts[0]}, {parts[1]}; of {parts[2].replace('the lengths do not tell', 'AIC tells neither')}"
