"""Norms against sequence length with the laws fitted to them, and which head follows which (S2 fig. 3)."""

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from pydantic import Field

from engine.analyses.attention.plan import SINK
from engine.spectra.norm_scaling import CLEAR, LAWS, beyond_logarithm, curves
from engine.studies import cited
from gui.plots.figure import Axis, Cell, Figure, Floats, Image, Line, Mark, Panel, Points, Table
from gui.plots.selection import Selection
from gui.views.attention.data import VARIABLES, AttentionSlice, number_axis
from gui.views.base import Options

if TYPE_CHECKING:
    import xarray as xr

Norm = Literal["spectral", "frobenius"]
NORMS = {norm: VARIABLES[f"norm_{norm}"].symbol for norm in get_args(Norm)}
NORM_LABELS: dict[str, Any] = {"labels": NORMS}
CLAIMED = {"spectral": "logarithm", "frobenius": "root"}
"""The laws of S2 eq. 4."""
LAW: dict[str, tuple[str, str]] = {
    "constant": ("c", "c5"),
    "root": ("c √n", "c1"),
    "logarithm": ("a + b ln n", "c2"),
    "power": ("c n^b", "c6"),
}
MISSING_NORMS = "norms against length"


class NormOptions(Options):
    texts: bool = Field(True, title="Texts", description="Every text by itself")
    fits: Literal["best and claimed", "all"] = Field("best and claimed", title="Laws")


def norms(dataset: "xr.Dataset", selection: Selection, options: NormOptions) -> Figure:
    """‖A‖_F and ‖A‖₂ of one head against the number of tokens, with fitted laws and exact bounds."""
    attention = AttentionSlice.of(dataset, selection)
    head = attention.selected_head(selection)
    if not attention.has("norm_spectral"):
        return Figure(empty=attention.missing("norm_spectral", MISSING_NORMS, "length_samples"))
    n = attention.array("length").astype(float)
    panels, fits = [], {}
    for norm in ("frobenius", "spectral"):
        values = attention.of_heads(f"norm_{norm}")[head]
        marks = _bounds(n)
        if options.texts:
            marks.append(_texts(attention, values, n))
        marks.append(_mean(values, n))
        aic, coefficients = (attention.of_heads(f"norm_{norm}_{part}")[head] for part in ("aic", "coefficients"))
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
        panels.append(Panel(x_axis, y_axis, tuple(marks), title=cited(f"{NORMS[norm]}: O({ORDERS[norm]}) by S2 eq. 4")))
    few = "" if fits else "Fewer than four lengths: no law is fitted"
    note = attention.caveats(
        growth_sentence(attention, head), few, cited("solid: the best law by AIC; dashed: that of S2 eq. 4")
    )
    title = attention.title("norms against the number of tokens,", selection, sample=False)
    return Figure((tuple(panels),), title=title, note=note, table=_fits(fits) if fits else None)


ORDERS = {"spectral": "ln n", "frobenius": "√n"}


def _bounds(n: Floats) -> list[Mark]:
    x = np.array([n[0] * 0.9, n[-1] * 1.1])
    return [
        Line(x, np.sqrt(x), "√n, exact bound", "ink", dash=True),
        Line(x, np.ones(2), "1, exact bound", "ink", dash=True),
    ]


def _texts(attention: AttentionSlice, values: Floats, n: Floats) -> Points:
    """Every text at every length, spread sideways; hovering reads it."""
    text, column = np.nonzero(np.isfinite(values))
    written = (
        attention.array("length_text")[attention.model] if "length_text" in attention.dataset else [""] * len(values)
    )
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
    """The fit of every law to each norm, and its AIC above the best."""
    columns = ["law"]
    rows: list[list[Cell]] = [[law] for law, _ in LAW.values()]
    for norm, (aic, coefficients) in fits.items():
        columns += [f"{NORMS[norm]} fitted", "AIC − the best", "by AIC"]
        for row, law, (a, b), behind in zip(rows, LAWS, coefficients, aic - aic.min(), strict=True):
            formulas = {"constant": f"{a:.3g}", "root": f"{a:.3g} √n", "logarithm": f"{a:.3g} {b:+.3g} ln n"}
            verdict = "best" if not behind else "as good" if behind <= CLEAR else ""
            row += [formulas.get(law, f"{a:.3g} n^{b:.3f}").replace("-", "−"), float(behind), verdict]
    return Table(tuple(columns), tuple(map(tuple, rows)))


def growth(attention: AttentionSlice) -> Floats:
    """AIC in favour of ‖A‖₂ growing faster than ln n, (layers, heads)."""
    return beyond_logarithm(attention.of_heads("norm_spectral_aic"), attention.of_heads("norm_spectral_exponent"))


def growth_sentence(attention: AttentionSlice, head: tuple[int, int]) -> str:
    """Whether O(ln n) of S2 eq. 4 holds for a head, with the numbers."""
    if not attention.has("norm_spectral_aic") or np.isnan(attention.of_heads("norm_spectral_aic")[head]).any():
        return ""
    beyond = float(growth(attention)[head])
    exponent, error = (float(attention.of_heads(f"norm_spectral_exponent{end}")[head]) for end in ("", "_se"))
    kind = "faster than ln n" if beyond > CLEAR else "no faster than ln n" if beyond < -CLEAR else ""
    verdict = f"By AIC ‖A‖₂ grows {kind}" if kind else "AIC does not tell whether ‖A‖₂ grows faster than ln n"
    return f"{verdict} (by {abs(beyond):.1f}); ‖A‖₂ ∝ n^b with b = {exponent:.2f} ± {error:.2f}.".replace("-", "−")


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
    """The law of n that each head follows, with sink heads; beside it a map of growth, bound or sink weight."""
    attention = AttentionSlice.of(dataset, selection)
    if not attention.has(f"norm_{options.norm}_aic"):
        if attention.has("norm_spectral"):
            return Figure(empty="Fewer than four lengths: no law is fitted. Ask for more lengths in a new run.")
        return Figure(empty=attention.missing("norm_spectral", MISSING_NORMS, "length_samples"))
    aic = attention.of_heads(f"norm_{options.norm}_aic")
    fitted = np.isfinite(aic).all(-1)
    best = np.where(fitted, np.where(np.isfinite(aic), aic, np.inf).argmin(-1), -1)
    ordered = np.sort(aic, -1)
    clear = fitted & (ordered[..., 1] - ordered[..., 0] > CLEAR)
    sinks = attention.mean("sink") >= SINK
    marks: list[Mark] = []
    for at, law in enumerate(LAWS):
        text, color = LAW[law]
        for sure, label in ((True, text), (False, f"{text}, not clearly")):
            layer, head = np.nonzero((best == at) & (clear == sure))
            if len(layer):
                places = list(zip(layer.tolist(), head.tolist(), strict=True))
                hover = tuple(_hover(attention, options.norm, place) for place in places)
                picks = tuple(attention.pick(place) for place in places)
                marks.append(Points(layer * 1.0, head * 1.0, label, color, 15, "s", sure, picks=picks, hover=hover))
    layer, head = np.nonzero(sinks)
    if len(layer):
        marks.append(Points(layer * 1.0, head * 1.0, "sink head", "ink", 24, filled=False))
    chosen = attention.selected_head(selection)
    marks.append(Points(np.array([chosen[0]]), np.array([chosen[1]]), "selected", "accent", 30, "s", filled=False))
    x, y = number_axis("layer", attention.layers), number_axis("head", attention.heads, inverted=True)
    left = Panel(x, y, tuple(marks), title=f"best law of {NORMS[options.norm]}")
    right = Panel(x, y, (_map(attention, options, chosen),), title=_name(options))
    title = f"{attention.label}: how {NORMS[options.norm]} grows with the number of tokens, by AIC"
    sink = f"{int(sinks.sum())} sink heads: half or more of the weight is on the first token"
    filled = f"filled: better than every other law by more than {CLEAR:.0f}"
    table = _counts(attention, options.norm, best, clear, sinks)
    claim = _claim(attention) if options.norm == "spectral" else ""
    return Figure(((left, right),), title=title, note=attention.caveats(claim, filled, sink), table=table)


def _hover(attention: AttentionSlice, norm: str, head: tuple[int, int]) -> str:
    aic = attention.of_heads(f"norm_{norm}_aic")[head]
    order = np.argsort(aic)
    behind = aic[order[1]] - aic[order[0]]
    exponent = attention.of_heads(f"norm_{norm}_exponent")[head]
    return (
        f"layer {head[0]}, head {head[1]}: {LAW[LAWS[order[0]]][0]}, AIC {behind:.1f} better than "
        f"{LAW[LAWS[order[1]]][0]}; exponent {exponent:.2f}"
    )


def _name(options: LawOptions) -> str:
    if options.colour == "beyond":
        return f"{NORMS['spectral']}: AIC for faster than ln n"
    return VARIABLES[_variable(options)].label


def _variable(options: LawOptions) -> str:
    """The variable that is drawn beside the laws."""
    return {"exponent": f"norm_{options.norm}_exponent", "of_bound": "norm_spectral_of_bound"}.get(
        options.colour, options.colour
    )


def _map(attention: AttentionSlice, options: LawOptions, chosen: tuple[int, int]) -> Image:
    values = growth(attention) if options.colour == "beyond" else attention.mean(_variable(options))
    edges = (np.arange(attention.layers + 1) - 0.5, np.arange(attention.heads + 1) - 0.5)
    signed = options.colour in ("exponent", "beyond")
    most = float(np.nanmax(np.abs(values)))
    return Image(
        values.T, *edges, label=_name(options), picks=attention.cells(), marked=(chosen[::-1],),
        colormap="diverging" if signed else "sequential", limits=(-most, most) if signed else (0.0, max(most, 1e-9)),
    )  # fmt: skip


def _counts(attention: AttentionSlice, norm: str, best: np.ndarray, clear: np.ndarray, sinks: np.ndarray) -> Table:
    """How many heads follow which law."""
    exponent = attention.of_heads(f"norm_{norm}_exponent")
    rows: list[tuple[Cell, ...]] = []
    for at, law in enumerate(LAWS):
        mine = best == at
        middle = float(np.median(exponent[mine])) if mine.any() else float("nan")
        rows.append((LAW[law][0], int(mine.sum()), int((mine & clear).sum()), int((mine & sinks).sum()), middle))
    return Table(("law", "best for heads", "clearly", "of these sinks", "median exponent"), tuple(rows))


def _claim(attention: AttentionSlice) -> str:
    """Counts of heads for and against O(ln n) of S2 eq. 4."""
    beyond, exponent = growth(attention), attention.of_heads("norm_spectral_exponent")
    parts = []
    for label, mine in (
        (cited("grow no faster than ln n, as S2 eq. 4 says"), beyond < -CLEAR),
        ("grow faster", beyond > CLEAR),
        ("the lengths do not tell", np.abs(beyond) <= CLEAR),
    ):
        power = f" (median exponent {np.median(exponent[mine]):.2f})" if mine.any() else ""
        parts.append(f"{int(mine.sum())} heads {label}{power}".replace("-", "−"))
    return f"{parts[0]}, {parts[1]}; of {parts[2].replace('the lengths do not tell', 'AIC tells neither')}"
