"""S2's figures from its formulas, with its sliders, beside what was measured of the selected head."""

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from engine.spectra import attention_theory as theory
from engine.studies import cited
from gui.plots.figure import Axis, Cell, Figure, Floats, Image, Line, Mark, Panel, Points, Rule, Table
from gui.plots.selection import Selection
from gui.views.attention.data import AttentionSlice
from gui.views.base import Options

if TYPE_CHECKING:
    import xarray as xr

OFF = 0.1
"""Relative error from which a closed form is called wrong."""
CAUSAL_MOST = 256
"""Most tokens for which uniform causal attention is decomposed."""
LENGTHS = (16, 32, 64, 128)
"""Sizes of the random matrices; larger ones are too slow while a slider moves."""
MEASURED = "this head, measured"


def _slider(default: float, low: float, high: float, step: float, title: str, description: str) -> Any:
    return Field(default, ge=low, le=high, title=title, description=description, json_schema_extra={"slider": step})


class SpectrumOptions(Options):
    alpha: float = _slider(0.75, 0.3, 2.0, 0.05, "α", "Exponent of σᵢ = i^−α")
    n: int = _slider(128, 8, 512, 8, "n", "Number of tokens, the size of the matrix")


def spectrum(dataset: "xr.Dataset", selection: Selection, options: SpectrumOptions) -> Figure:
    """S2 fig. 2: σᵢ = i^−α and its effective rank: the exact sum, the closed form of S2, its text, the measured."""
    attention = AttentionSlice.of(dataset, selection)
    alpha, n = options.alpha, options.n
    rank = np.arange(1, n + 1, dtype=float)
    marks: list[Mark] = [Line(rank, theory.power_law(n, alpha), f"i^−{alpha:g}", "law", 2)]
    sigma = _sigma(attention, selection)
    if len(sigma):
        marks.append(Line(np.arange(1, len(sigma) + 1.0), sigma / sigma[0], MEASURED, "data", 2))
    y = Axis("σᵢ/σ₁", log=True, limits=(float(min(theory.power_law(n, alpha)[-1], 1e-2)) / 2, 1.6))
    left = Panel(Axis("rank i", log=True), y, tuple(marks), title=cited("σᵢ = C i^−α (S2 eq. 2)"))
    sizes = np.unique(np.geomspace(4, 512, 40).round()).astype(int)
    claimed = _each(theory.claimed_effective_rank, sizes, alpha)
    curves: list[Mark] = [
        Line(sizes, _each(theory.effective_rank, sizes, alpha), "exact sum (Σσ)²/Σσ²", "law", 2),
        Line(sizes, claimed, cited("S2 eq. 3, wrong"), "accent", 1.5, dash=True),
        Line(sizes, np.sqrt(sizes), cited("√n, the text of S2 §3 for α → 1"), "naive", 1.5, dash=True),
        Rule("x", n, "n", "muted"),
    ]
    if np.isclose(alpha, 1):
        asymptote = np.log(sizes) ** 2 / (np.pi**2 / 6)
        curves.append(Line(sizes, asymptote, "(ln n)²/ζ(2), exact for large n", "ink", dash=True))
    measured = _effective(sigma)
    if len(sigma):
        curves.append(Points(np.array([len(sigma)]), np.array([measured]), MEASURED, "data", 10))
    axis = Axis("(Σσ)²/Σσ²", log=True, limits=(0.8, 700))
    right = Panel(Axis("n", log=True), axis, tuple(curves), title="r_eff ≈ ((2α − 1)/(2α)) n^((2α − 1)/α)")
    title = f"Theory: a power law with α = {alpha:g}, n = {n}; {_head(attention, selection)} beside it"
    table = _closed_forms(attention, selection, alpha, n, measured)
    where = "" if alpha > 0.5 else cited("the closed form (S2 eq. 3) is for α > ½ only")
    note = "  ·  ".join(filter(None, (where, "red: what mathematics contradicts")))
    return Figure(((left, right),), title=title, note=note, table=table)


def _each(function: Any, sizes: np.ndarray, alpha: float) -> Floats:
    return np.array([function(int(n), alpha) for n in sizes])


def _sigma(attention: AttentionSlice, selection: Selection) -> Floats:
    """The singular values of the selected head and sample; empty where absent."""
    if "singular_values" not in attention.dataset:
        return np.zeros(0)
    head, sample = attention.selected_head(selection), attention.sample(selection)
    values = attention.spectra("singular_values", head)[sample].astype(float)
    return values[np.isfinite(values)]


def _effective(sigma: Floats) -> float:
    return float(sigma.sum() ** 2 / np.square(sigma).sum()) if len(sigma) else float("nan")


def _head(attention: AttentionSlice, selection: Selection) -> str:
    layer, head = attention.selected_head(selection)
    return f"{attention.label}, layer {layer}, head {head}"


def _closed_forms(attention: AttentionSlice, selection: Selection, alpha: float, n: int, measured: float) -> Table:
    """Claims of S2, exact values, and values of the selected head at its own size."""
    exact, claimed = theory.effective_rank(n, alpha), theory.claimed_effective_rank(n, alpha)
    head, sample = attention.selected_head(selection), attention.sample(selection)
    own = {
        name: float(attention.sampled(name)[head][sample]) if name in attention.dataset else float("nan")
        for name in ("erank", "exp_entropy")
    }
    causal_rank, causal_claim = theory.uniform_causal(min(n, CAUSAL_MOST))
    rows: list[tuple[Cell, ...]] = [
        (f"r_eff by eq. 3, α = {alpha:g}", claimed, exact, _right(claimed, exact), measured),
        ("r_eff grows as √n as α → 1 (the bound O(√n) itself is true)", n**0.5, theory.effective_rank(n, 1.0),
         _right(n**0.5, theory.effective_rank(n, 1.0)),
         measured),
        ("effective rank of uniform attention = exp(max entropy)", float(n), 1.0, _right(n, 1), own["erank"]),
        ("effective rank of uniform causal attention = exp(max entropy)", causal_claim, causal_rank,
         _right(causal_claim, causal_rank), own["erank"]),
        ("effective rank of one-hot attention (A = I) is 1", 1.0, float(n), _right(1, n), own["erank"]),
        ("effective rank ≈ exp(entropy), eq. 5: this head", own["exp_entropy"], own["erank"],
         _right(own["exp_entropy"], own["erank"]), own["erank"]),
    ]  # fmt: skip
    return Table((cited("statement of S2"), "claimed", "exact", "", "this head"), tuple(rows))


def _right(claimed: float, exact: float) -> str:
    if np.isnan(claimed) or np.isnan(exact):
        return ""
    return "wrong" if abs(claimed - exact) > OFF * abs(exact) else "right here"


class SparsityOptions(Options):
    figure: Literal["norms", "matrix", "balance"] = Field(
        "balance",
        title="Figure",
        json_schema_extra={
            "labels": {"norms": "3: norms", "matrix": "4: sparse matrix", "balance": "5: expressivity and margin"}
        },
    )
    sparsity: float = _slider(0.3, 0.0, 0.95, 0.05, "s", "Sparsity: share of zeros in every row (figures 3 and 4)")
    n: int = _slider(64, 8, 256, 8, "n", "Number of tokens (figures 4, up to 128, and 5)")
    kappa: float = _slider(5.0, 1.5, 100.0, 0.5, "κ", "Condition number of the spectrum (figure 5)")
    d_model: int = _slider(64, 8, 512, 8, "d", "d_model, which bounds the rank (figure 5)")


def sparsity(dataset: "xr.Dataset", selection: Selection, options: SparsityOptions) -> Figure:
    """S2 figs 3 to 5 from formulas and random matrices, beside what was measured of the selected head."""
    attention = AttentionSlice.of(dataset, selection)
    draw = {"norms": _norms, "matrix": _matrix, "balance": _balance}[options.figure]
    return draw(attention, selection, options)


@lru_cache(maxsize=64)
def _random(n: int, share: float) -> tuple[Floats, Floats]:
    """A random attention matrix and its singular values; alike at every draw."""
    matrix = theory.random_attention(n, share, np.random.default_rng(n))
    return matrix, np.linalg.svd(matrix, compute_uv=False)


def _norms(attention: AttentionSlice, selection: Selection, options: SparsityOptions) -> Figure:
    s = options.sparsity
    sizes = np.unique(np.geomspace(8, 512, 40).round()).astype(int)
    expected = np.array([theory.random_norms(int(n), s) for n in sizes])
    drawn = np.array([[np.sqrt(np.square(sigma).sum()), sigma[0]] for sigma in (_random(n, s)[1] for n in LENGTHS)])
    panels = []
    for at, (norm, stored, claim, curve) in enumerate(
        (("‖A‖_F", "norm_frobenius", "O(√n)", np.sqrt(sizes)), ("‖A‖₂", "norm_spectral", "O(ln n)", np.log(sizes)))
    ):
        scale = float(expected[0, at] / curve[0])
        marks: list[Mark] = [
            Line(sizes, np.sqrt(sizes), "√n, exact bound", "ink", dash=True),
            Line(sizes, scale * curve, cited(f"{claim} (S2 eq. 4)"), "accent", 1.5, dash=True),
            Line(sizes, expected[:, at], "expected of random rows", "law", 2),
            Points(np.array(LENGTHS, float), drawn[:, at], "random rows, drawn", "law", 8),
        ]
        if attention.has(stored):
            values = attention.of_heads(stored)[attention.selected_head(selection)]
            counts = np.isfinite(values).sum(0)
            mean = np.where(counts > 0, np.nansum(values, 0) / np.maximum(counts, 1), np.nan)
            marks.append(Line(attention.array("length").astype(float), mean, MEASURED, "data", 2, markers=True))
        y = Axis(norm, log=True, limits=(0.8, 26.0))
        panels.append(Panel(Axis("tokens n", log=True), y, tuple(marks), title=cited(f"{norm}: {claim} by S2 eq. 4")))
    kept = "‖A‖_F = √(2n/(k + 1)) with k of n weights kept: of a fixed share it does not grow"
    note = cited(f"{kept}  ·  1 ≤ ‖A‖₂ ≤ ‖A‖_F ≤ √n is exact; the laws of S2 eq. 4 start at the first point")
    title = f"Theory: norms of random attention with {s:.0%} zeros; {_head(attention, selection)} beside it"
    return Figure((tuple(panels),), title=title, note=note)


def _matrix(attention: AttentionSlice, selection: Selection, options: SparsityOptions) -> Figure:
    n, s = min(options.n, LENGTHS[-1]), options.sparsity
    matrix, sigma = _random(n, s)
    edges = np.arange(n + 1) - 0.5
    image = Image(np.where(matrix > 0, matrix, np.nan), edges, edges, "weight", limits=(0.0, float(matrix.max())))
    left = Panel(Axis("key"), Axis("query", inverted=True), (image,), title=f"random rows, {s:.0%} zeros")
    marks: list[Mark] = [Line(np.arange(1, n + 1.0), sigma, "random rows", "law", 2, markers=True)]
    measured = _sigma(attention, selection)
    if len(measured):
        marks.append(Line(np.arange(1, len(measured) + 1.0), measured, f"{MEASURED}, whole", "data", 2))
    right = Panel(Axis("rank i"), Axis("σᵢ"), tuple(marks), title="singular values")
    weights = matrix[matrix > 0]
    entropy = float(-(weights * np.log(weights)).sum() / n)
    share = sigma / sigma.sum()
    erank = float(np.exp(-(share[share > 0] * np.log(share[share > 0])).sum()))
    dose, own = _at_dose(attention, selection, s)
    rows: tuple[tuple[Cell, ...], ...] = (
        ("effective rank, exp of the entropy of σ/Σσ", erank, own("erank")),
        (cited("(Σσ)²/Σσ², the effective rank of S2 eq. 3"), _effective(sigma), own("r_l1l2")),
        (cited("exp(entropy), S2 eq. 5: ") + _right(np.exp(entropy), erank), float(np.exp(entropy)), float("nan")),
        ("max σ = ‖A‖₂", float(sigma[0]), own("spectral_norm")),
        ("‖A‖₂ expected", theory.random_norms(n, s)[1], float("nan")),
    )
    head = f"this head, {dose:.0%} taken away" if np.isfinite(dose) else "this head"
    title = f"Theory: {n} × {n} random attention with {s:.0%} zeros; {_head(attention, selection)} beside it"
    note = cited("Effective rank ≈ exp(H) (S2 eq. 5) does not follow: entropy is of rows, rank is between rows")
    return Figure(((left, right),), title=title, note=note, table=Table(("", "random rows", head), rows))


def _at_dose(attention: AttentionSlice, selection: Selection, share: float) -> tuple[float, Any]:
    """The measured sparsity nearest to `share`, and a look-up of statistics at it."""
    if not attention.has("sweep_erank"):
        return float("nan"), lambda _: float("nan")
    doses = attention.array("dose")
    at, head = int(np.argmin(np.abs(doses - share))), attention.selected_head(selection)
    return float(doses[at]), lambda name: float(attention.of_heads(f"sweep_{name}")[head][at])


def _balance(attention: AttentionSlice, selection: Selection, options: SparsityOptions) -> Figure:
    n, kappa, d = options.n, options.kappa, options.d_model
    s = np.linspace(0, 0.99, 100)
    expressive = np.array([theory.expressivity(n, share, kappa, d) for share in s])
    margin = np.array([2 - theory.random_norms(n, share)[1] for share in s])
    at = float(theory.crossing(s, expressive, margin))
    marks: list[Mark] = [
        Rule("y", 0.0, "", "muted"),
        Line(s, expressive, "expressivity, formula", "c1", 2),
        Line(s, margin, "margin 2 − ‖A‖₂, expected of random rows", "c2", 2),
    ]
    if np.isfinite(at):
        marks.append(Rule("x", at, f"they cross at {at:.2f}", "c4"))
    crossing = float("nan")
    if attention.has("sweep_erank"):
        dose, head = attention.array("dose"), attention.selected_head(selection)
        crossing = float(attention.of_heads("sweep_crossing")[head])
        for name, label, color in (("expressivity", "erank/T", "c1"), ("margin", "2 − ‖A‖₂", "c2")):
            y = attention.of_heads(f"sweep_{name}")[head]
            marks.append(Line(dose, y, f"{label}, {MEASURED}", color, 1.5, dash=True, markers=True))
        if np.isfinite(crossing):
            marks.append(Rule("x", crossing, f"measured: they cross at {crossing:.2f}", "data"))
    limits = (-1.5, 1.15)
    panel = Panel(Axis("sparsity s", limits=(-0.02, 1.02)), Axis("share; distance", limits=limits), tuple(marks))
    met = f"at {at:.2f}" if np.isfinite(at) else "nowhere"
    own = (
        f"at {crossing:.2f}"
        if np.isfinite(crossing)
        else "nowhere"
        if attention.has("sweep_erank")
        else "(not measured)"
    )
    title = f"Theory: expressivity against stability, κ = {kappa:g}, d = {d}, n = {n}"
    note = cited(
        f"the formulas cross {met}, {_head(attention, selection)} {own}  ·  "
        "expressivity = exp of the entropy of σ/Σσ over n, σ falling from 1 to 1/κ by equal factors in "
        "min(kept, d) modes: S2 eq. 6 names no formula, this one is ours"
    )
    return Figure(((panel,),), title=title, note=note)
